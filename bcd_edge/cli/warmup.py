"""`bcd-edge warmup`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bcd_edge.cli._options import log_options, run_options

if TYPE_CHECKING:
    from bcd_edge.options import RunOptions


@click.command()
@run_options
@log_options
def command(bundle_path: str | None, options: RunOptions) -> None:
    """Compile the model in advance, so that the first image does not wait for it.

    An engine such as TensorRT compiles for minutes at its first start. This compiles now, for single images and for
    many, and stores the result in the user's cache folder. Its SHA-256 is checked at every start.

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
    from bcd_edge.options import Plan
    from bcd_edge.system import caches

    opened = bundle.open(bundle_path)
    stderr = Console(file=sys.stderr)
    done: set[Plan] = set()
    purposes: tuple[plan.Purpose, ...] = ("latency", "throughput")
    for purpose in purposes:
        chosen = plan.choose(opened, purpose, options)
        if chosen in done:
            continue
        done.add(chosen)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
            progress.add_task(f"{chosen.provider} {chosen.precision} batch {chosen.batch}")
            began = time.perf_counter()
            with Classifier.load(bundle_path, options, purpose=purpose) as classifier:
                ran = classifier.execution
        streams = f"{chosen.streams} stream{'s' * (chosen.streams > 1)}"
        click.echo(f"{ran.provider} {ran.precision}, batch {chosen.batch}, {streams}: {time.perf_counter() - began:.1f} s")
    click.echo(f"Ready. Compiled models are in {caches.root()}.")
