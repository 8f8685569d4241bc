"""`bcd-edge tune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bcd_edge.cli._options import is_quiet, log_options, model_options

if TYPE_CHECKING:
    from pathlib import Path

    from bcd_edge.bundle import Bundle
    from bcd_edge.options import RunOptions
    from bcd_edge.plan import TuningResult


@click.command()
@model_options
@click.option("--seconds", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Measuring time per combination.")
@log_options
def command(bundle_path: str | None, options: RunOptions, seconds: float) -> None:
    """Measure which provider, variant, batch size, threads and streams are fastest here, and store the result.

    Measures the model alone: reading, decoding and resizing are not included. Afterwards --provider auto uses the
    fastest combination for one image, or for many. The result is stored in the user's cache folder for this bundle,
    this processor and these versions of the engines; run tune again to replace it.

    \b
    Example:
      bcd-edge tune --seconds 5
    """
    import sys
    import time

    from rich.console import Console
    from rich.progress import track

    from bcd_edge import bundle
    from bcd_edge import tune as tuning
    from bcd_edge.benchmark import sensors
    from bcd_edge.errors import BundleError, ProviderError

    opened = bundle.open(bundle_path)
    candidates = tuning.candidates(opened, options)
    rows: list[TuningResult] = []
    stderr = Console(file=sys.stderr)
    _remember(opened, [])  # a cache that cannot be written is an error before minutes of measuring
    minutes = tuning.estimated_s(len(candidates), seconds) / 60
    if not is_quiet(click.get_current_context()):
        click.echo(f"{len(candidates)} combinations: at least {minutes:.1f} min; loading, compiling and warming up come on top", err=True)
    before = sensors.read(at_s=time.perf_counter())
    for candidate in track(candidates, "measuring", console=stderr, transient=True, disable=not stderr.is_terminal):
        try:
            rows.append(tuning.measure(opened, candidate, seconds))
        except (BundleError, ProviderError) as error:
            click.echo(f"{candidate.provider} {candidate.precision} batch {candidate.batch}: {error}", err=True)
    if not rows:
        raise ProviderError("No combination runs here; the reasons are above.")
    finals = tuning.finals(opened, rows, seconds)
    others = sensors.contention([[before, sensors.read(at_s=time.perf_counter())]]).other_cores or 0.0
    path = _remember(opened, finals)
    _show(rows, finals)
    click.echo(f"\nStored in {path}; --provider auto uses it. Next: bcd-edge predict IMAGE")
    if others > sensors.OTHERS_BOUND:
        click.echo(
            f"Other processes used {others:.2f} cores meanwhile, so another combination may be the best; tune again on an idle machine.", err=True
        )


def _remember(opened: Bundle, results: list[TuningResult]) -> Path:
    from bcd_edge import plan
    from bcd_edge.errors import OutputError
    from bcd_edge.system import caches

    try:
        return plan.remember(opened, results)
    except OSError as error:
        message = f"The result cannot be stored in {caches.root()} ({error.strerror}); set BCD_EDGE_CACHE to another folder."
        raise OutputError(message) from None


def _show(rows: list[TuningResult], finals: list[TuningResult]) -> None:
    from rich.console import Console
    from rich.table import Table

    again = {row.plan: row for row in finals}
    quickest = min((row for row in finals if row.plan.batch == 1 and row.plan.streams == 1), key=lambda row: row.call_ms, default=None)
    busiest = max(finals, key=lambda row: row.images_per_s)
    table = Table("provider", "variant", "batch", "threads", "streams", "ms per call", "images/s", "", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[2:7]:
        column.justify = "right"
    for row in sorted((again.get(row.plan, row) for row in rows), key=lambda row: (row.plan not in again, -row.images_per_s)):
        best = " and ".join(word for word, winner in (("one", quickest), ("many", busiest)) if winner is row)
        plan = row.plan
        threads = str(plan.threads) if plan.threads else "all"
        cells = (plan.provider, str(plan.precision), str(plan.batch), threads, str(plan.streams), f"{row.call_ms:.1f}", f"{row.images_per_s:.0f}")
        table.add_row(*cells, f"best for {best}" if best else "", style="bold" if best else "")
    Console(highlight=False).print(table)
    if len(finals) < len(rows):
        click.echo(f"The first {len(finals)} were measured again, in turns; the others once, so that they do not compare with these.")
