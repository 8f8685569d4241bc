"""`bcd-edge cytology`."""

from __future__ import annotations

from pathlib import Path

import click

from bcd_edge import plugins
from bcd_edge.cli._options import is_quiet, log_options


@click.command()
@click.argument("table", metavar="TABLE.csv")
# names of their own: `bundle` and `threshold` of a configuration file are for the model of pictures
@click.option("--tabular-bundle", "bundle_path", type=click.Path(), help="Folder or .zip of a bundle of kind tabular.  [default: the embedded one]")
@click.option(
    "--tabular-threshold",
    "threshold",
    type=click.FloatRange(0, 1),
    help="Operating threshold; the review band is extended to include it.  [default: the bundle's]",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(plugins.names("bcd_edge.outputs.formats")),
    default="table",
    show_default=True,
    help="Output format.",
)
@click.option("--explain", "explains", is_flag=True, help="Explain every row by LIME, as a picture and JSON; needs bcd-edge[explain].")
@click.option(
    "--explain-out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("explanations"),
    show_default=True,
    help="Folder for the explanations.",
)
@log_options
@click.pass_context
def command(
    ctx: click.Context, /, table: str, bundle_path: str | None, threshold: float | None, format_name: str, explains: bool, explain_out: Path
) -> None:
    """Classify rows of graded cells from fine-needle aspirates: a CSV file with a header, or - for standard input.

    The embedded bundle was trained on the original Wisconsin set, features graded from 1 to 10 by one reader; docs/cytology.md says
    what its figures show. A value that is missing or out of range is named, and its row needs review. For research.

    Exit code: 0 success, 1 some rows failed, 2 usage, 3 bundle refused, 4 provider unavailable, 5 output not written.

    \b
    Examples:
      bcd-edge cytology aspirates.csv
      bcd-edge cytology aspirates.csv --format csv > results.csv
      bcd-edge cytology aspirates.csv --explain
    """
    import sys

    from bcd_edge.cytology.classifier import TableClassifier
    from bcd_edge.cytology.table import read
    from bcd_edge.explain.surrogate import require_package

    if explains:
        require_package()
        explain_out.mkdir(parents=True, exist_ok=True)
    classifier = TableClassifier.load(bundle_path, threshold)
    output = plugins.load("bcd_edge.outputs.formats", format_name).open(sys.stdout)
    failures = 0
    try:
        for row, record in classifier.classify_many(read(table, classifier.features)):
            output.write(record)
            failures += record.status == "failed"
            if explains and record.status == "ok":
                from bcd_edge.cytology.explain import write

                write(classifier, row, record, explain_out)
    finally:
        output.close()
    if explains and not is_quiet(ctx):
        click.echo(f"Wrote the explanations to {explain_out}.", err=True)
    if failures and format_name != "table":
        click.echo(f"{failures} row{'s' * (failures > 1)} failed; see the error in their records.", err=True)
    if failures:
        raise click.exceptions.Exit(1)
