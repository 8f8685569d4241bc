"""`bcd-edge warmup`."""

from __future__ import annotations

from typing import Any

import click

from bcd_edge.cli._options import log_options, model_options, speed_options


@click.command()
@model_options
@speed_options
@log_options
def command(bundle_path: str | None, precision: str | None, **how: Any) -> None:
    """Compile the model ahead, so that the first image does not wait for it.

    An engine such as TensorRT compiles for minutes at its first start. This does it now, for single images and for
    many, and keeps the result in the user's cache folder, checked by its SHA-256 at every start.

    \b
    Example:
      bcd-edge warmup --provider tensorrt
    """
    import sys
    import time

    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from bcd_edge import bundle, plan
    from bcd_edge.classifier import Classifier
    from bcd_edge.system import caches

    opened = bundle.open(bundle_path)
    stderr = Console(file=sys.stderr)
    done: set[plan.Plan] = set()
    purposes: tuple[plan.Purpose, ...] = ("latency", "throughput")
    for purpose in purposes:
        chosen = plan.choose(opened, purpose, precision=precision or "", **how)
        if chosen in done:
            continue
        done.add(chosen)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
            progress.add_task(f"{chosen.provider} {chosen.precision} batch {chosen.batch}")
            began = time.perf_counter()
            with Classifier.load(bundle_path, purpose=purpose, precision=precision, **how) as classifier:
                ran = classifier.execution
        click.echo(f"{ran.provider} {ran.precision}, batch {chosen.batch}, {chosen.inferences} at once: {time.perf_counter() - began:.1f} s")
    click.echo(f"Ready. What was compiled is in {caches.root()}.")
