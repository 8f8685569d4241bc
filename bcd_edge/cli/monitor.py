"""`bcd-edge monitor`."""

from __future__ import annotations

from pathlib import Path

import click

from bcd_edge.cli._results import answering_bundle, reading, results_argument


@click.command()
@results_argument
@click.option(
    "--bundle",
    "bundle_path",
    type=click.Path(path_type=Path),
    help="Whose answers, beside its own figures.  [default: the embedded bundle if it answered last, else the last one, without its figures]",
)
@click.option("--format", "kind", type=click.Choice(["text", "json", "html", "prometheus"]), default="text", show_default=True, help="What to write.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.  [default: standard output]")
def command(results: Path, bundle_path: Path | None, kind: str, out: Path | None) -> None:
    """Show whether the bundle is still as good as it was, from what readers decided about the pictures in RESULTS.

    Sensitivity, specificity, missed cancers and calibration with intervals; shares and mean probability by week; and when the
    pictures changed, as by a new scanner or stain. Reads only, also beside bcd-edge watch and bcd-edge serve.

    Exit code: 0 nothing changed, 1 the pictures changed since the bundle's first answer.

    \b
    Examples:
      bcd-edge monitor results/
      bcd-edge monitor results/ --format html --out monitor.html
      bcd-edge monitor results/ --format prometheus --out /var/lib/node_exporter/bcd_edge.prom
    """
    import json

    from bcd_edge.results import monitor_views
    from bcd_edge.results.monitor import monitor
    from bcd_edge.system.atomic import atomic_write

    with reading(results) as db:
        report = monitor(db, answering_bundle(db, bundle_path))
    write = {"text": monitor_views.text, "html": monitor_views.html, "prometheus": monitor_views.exposition}
    content = json.dumps(report.as_dict(), indent=1) + "\n" if kind == "json" else write[kind](report)
    if out:
        atomic_write(out, content.encode())
    else:
        click.echo(content, nl=False)
    raise click.exceptions.Exit(1 if report.changes else 0)
