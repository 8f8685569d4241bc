"""`bcd-edge cohort`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bcd_edge.cli._options import is_quiet, log_options, pairs, run_options, scale_options, take_triage
from bcd_edge.options import RunOptions

if TYPE_CHECKING:
    import pyarrow as pa

    from bcd_edge.cohort.clinical import Clinical
    from bcd_edge.cohort.report import Settings

COLUMN = "What a column is: binary, category, ordinal, continuous or ignore; values after a colon, as grade=ordinal:low,high or her2=binary:positive."


@click.command()
@click.argument("source")
@click.option(
    "--clinical", "table", required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True), help="CSV or Parquet with a row per patient."
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the report: new, empty, or of an earlier report, which is replaced.",
)
@click.option("--key", default="patient", show_default=True, metavar="NAME", help="Column of the clinical table that names the patient.")
@click.option("--column", "columns", multiple=True, metavar="NAME=KIND", callback=pairs, help=COLUMN)
@click.option("--time", metavar="NAME", help="Column with the time to the event, or to the last follow-up.")
@click.option("--event", metavar="NAME", help="Column with whether the event was observed: 1 or 0.")
@click.option("--patients", metavar="PATTERN", help="Patient in a path: breakhis, folder, folder/slide, or a regular expression.")
@click.option("--inbox", type=click.Path(path_type=Path, file_okay=False), help="Where the pictures of RESULTS lie.  [default: the watcher's inbox]")
@click.option("--umap", is_flag=True, help="Draw the map of embeddings by UMAP, too; needs bcd-edge[umap].")
@click.option("--pseudonymise", is_flag=True, help="Write hashes instead of the names of patients and pictures, and no free text.")
@scale_options
@run_options
@log_options
@click.pass_context
def command(ctx: click.Context, /, source: str, table: Path, out: Path, bundle_path: str | None, options: RunOptions, **asked: Any) -> None:
    """Compare what is seen in the tissue with a clinical table: a report with effects, intervals, figures and tables.

    SOURCE is a folder of results, the folder of an archive, pictures (a folder or a glob, with --patients), or features.parquet of an
    earlier report. Features are means of a patient's pictures; each patient counts once. For research. Needs bcd-edge[research].

    Exit code: 0 success, 1 some pictures were left out, 2 usage, 3 bundle refused, 4 package or provider unavailable, 5 report not written.

    \b
    Examples:
      bcd-edge cohort results/ --clinical patients.csv --out report/
      bcd-edge cohort archive/ --clinical patients.csv --time months --event died --out report/
      bcd-edge cohort images/ --patients breakhis --scale-from-name breakhis --clinical patients.csv --out report/
      bcd-edge cohort report/features.parquet --clinical patients.csv --column grade=ordinal --out report-2/
    """
    _require(umap=asked["umap"])
    from bcd_edge.cohort import clinical, report
    from bcd_edge.results.summary import count

    settings = report.Settings(asked["key"], clinical.parse_columns(asked["columns"]), asked["time"], asked["event"], asked["umap"])
    read = clinical.read(table, settings.key)
    clinical.outcomes(read, settings.columns, settings.time, settings.event)  # a mistake is an error before minutes of measuring
    with report.folder(out) as unfinished:
        features, strangers, missing, show = _features(ctx, source, read, settings, bundle_path, options, asked)
        if show:
            read = read.renamed(show, {*settings.columns, settings.time or "", settings.event or ""})
        found = report.analyse(features, read, settings, [*missing, *strangers])
        report.write(found, read, settings, unfinished)
    if not is_quiet(ctx):
        standing = sum(row.is_found for row in found.associations)
        sizes = f"{count(found.patients.num_rows, 'patient')}, {count(found.pictures.num_rows, 'picture')}"
        click.echo(f"{sizes}: {standing} of {count(len(found.associations), 'association')} stand after correction.")
        click.echo("".join(f"{note}\n" for note in (*found.notes, *found.warnings) if note not in missing), err=True, nl=False)
        click.echo(f"Wrote {out / report.PAGE}", err=True)
    if missing:
        click.echo("\n".join(missing), err=True)
        raise click.exceptions.Exit(1)


def _features(
    ctx: click.Context, source: str, read: Clinical, settings: Settings, bundle_path: str | None, options: RunOptions, asked: dict[str, Any]
) -> tuple[pa.Table, list[str], list[str], Any]:
    """The table of features, notes on patients and on pictures that are not in it, and how names are replaced, or None."""
    from bcd_edge.classifier import Classifier
    from bcd_edge.cohort import clinical, extract, report, sources
    from bcd_edge.results.patients import compile_pattern

    show = extract.pseudonyms() if asked["pseudonymise"] or sources.is_pseudonymised(source) else None
    if source.lower().endswith(".parquet"):
        table = extract.read(Path(source))
        return (extract.renamed(table, show) if show else table), [], [], show
    pattern = compile_pattern(asked["patients"]) if asked["patients"] else None
    scale = take_triage({name: asked[name] for name in ("um_per_pixel", "magnification", "scale_from_name")})
    with sources.entries(source, pattern, asked["inbox"]) as found:
        entries = list(found)
        names = sorted({entry.patient for entry in entries if entry.patient})
        if names:  # else the error is of pictures without a patient
            clinical.outcomes(report.join(names, read), settings.columns, settings.time, settings.event)
        strangers = report.strangers([show(name) if show else name for name in names if name not in read.patients])
        with Classifier.load(bundle_path, options, purpose="throughput", **scale) as classifier:
            for sentence in classifier.warnings:
                click.echo(sentence, err=True)
            own = [entry for entry in entries if not entry.patient or entry.patient in read.patients]
            table, left_out = extract.extract(_counted(ctx, own), classifier)
    return (extract.renamed(table, show) if show else table), strangers, report.missing_pictures(left_out, named=not show), show


def _counted(ctx: click.Context, entries: Any) -> Any:
    """The same, with a line on standard error now and then."""
    for number, entry in enumerate(entries, 1):
        if number % 100 == 0 and not is_quiet(ctx):
            click.echo(f"{number:,} pictures", err=True)
        yield entry


def _require(*, umap: bool) -> None:
    """Checks that the packages of the extras are installed."""
    import importlib.util

    from bcd_edge.errors import ProviderError

    needed = dict.fromkeys(("pyarrow", "pandas", "lifelines", "anndata", "resvg_py"), "research") | ({"umap": "umap"} if umap else {})
    for name, extra in needed.items():
        if importlib.util.find_spec(name) is None:
            raise ProviderError(f'bcd-edge cohort needs the package {name}, which is not installed; fix: pip install "bcd-edge[{extra}]"')
