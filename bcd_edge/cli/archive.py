"""`bcd-edge archive`."""

from __future__ import annotations

import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bcd_edge.cli._groups import DefaultGroup, OwnArgument, words
from bcd_edge.cli._options import is_quiet, log_options, run_options, take_triage, triage_options
from bcd_edge.cli._types import SIZE
from bcd_edge.options import RunOptions

if TYPE_CHECKING:
    from bcd_edge.archive.settings import Answers


@click.group(cls=DefaultGroup, subcommand_metavar="", options_metavar="[OPTIONS]")
@click.argument("sources", cls=OwnArgument, nargs=-1, metavar="SOURCE...")
@click.option("--out", required=True, metavar="DESTINATION", help="Folder of the data set, or a URL: s3://, gs://, abfs://.")
@click.option("--resume", is_flag=True, help="Go on with the run that --out holds; SOURCE may be left out.")
@click.option("--retry-failed", is_flag=True, help="With --resume: do shards with failed inputs again.")
@click.option("--max-failures", type=click.IntRange(0), metavar="N", help="End when more inputs failed.  [default: never]")
@click.option("--max-rate", type=SIZE, metavar="SIZE", help="Read at most this much per second, such as 50MB, from a store that others use.")
@click.option("--shard-size", type=click.IntRange(1), default=1000, show_default=True, help="Inputs of a shard: what is lost when the run is killed.")
@click.option("--sample", type=click.IntRange(20), metavar="N", help="Classify only N random inputs, and say how long the whole will take.")
@click.option(
    "--price-per-hour",
    type=click.FloatRange(0),
    metavar="PRICE",
    help="Of all machines, in any currency: --sample says what a million costs.",
)
@click.option("--patients", metavar="PATTERN", help="Patient in a path: breakhis, folder, folder/slide, or a regular expression.")
@click.option("--ray", is_flag=True, help="Work on a Ray that is started on this machine; needs bcd-edge[ray].")
@click.option("--ray-address", metavar="ADDRESS", help="Work on the nodes of this Ray cluster: auto, HOST:PORT; needs bcd-edge[ray].")
@click.option("--mixed", is_flag=True, help="Allow rows of different providers in one data set; each row says what ran.")
@click.option("--embeddings", type=click.Choice(["float32", "float16"]), help="Add a column with the model's embedding of each picture.")
@click.option("--field-um", type=click.FloatRange(0, min_open=True), help="Side of a whole slide's tiles in µm.  [default: where the bundle is best]")
@click.option("--overlap", type=click.FloatRange(0, 0.75), default=0.0, show_default=True, help="Share of a slide's tile that the next one overlaps.")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), help="Operating threshold; the review band is extended to include it.  [default: the bundle's]"
)
@triage_options
@run_options
@log_options
@click.pass_context
def command(
    ctx: click.Context, /, sources: tuple[str, ...], out: str, resume: bool, bundle_path: str | None, options: RunOptions, **asked: Any
) -> None:
    """Classify a large collection into a Parquet data set, with exactly one row per input.

    SOURCE is a folder, a glob, a CSV or Parquet manifest with a column file (and patient, slide, um_per_pixel), or a URL: s3://, gs://,
    abfs://. Killed at any moment, --resume does what is missing. The same content is computed once. Needs bcd-edge[archive].

    Exit code: 0 success, 1 some inputs failed, 2 usage, 3 bundle refused, 4 provider unavailable, 5 data set not written, 130 interrupted.

    \b
    Examples:
      bcd-edge archive /archive/2019 --out answers/
      bcd-edge archive --out answers/ --resume
      bcd-edge archive /archive/2019 --out answers/ --sample 1000 --price-per-hour 0.40
      bcd-edge archive s3://bucket/breast inventory.csv --out answers/ --max-failures 1000
      bcd-edge archive verify answers/
      bcd-edge archive compare answers-2/ answers-3/ --out changes/
    """
    _require()
    from bcd_edge.archive.destination import Destination
    from bcd_edge.archive.progress import Progress
    from bcd_edge.archive.run import archive
    from bcd_edge.archive.settings import Work

    triage = take_triage(asked)
    address = _ray_address(asked.pop("ray"), asked.pop("ray_address"))
    work = Work(bundle_path, options, asked.pop("mixed"), asked.pop("retry_failed"), asked.pop("max_failures"), asked.pop("max_rate"), address)
    size, price = asked.pop("sample"), asked.pop("price_per_hour")
    answers = _answers(ctx, out, {"sources": sources, **asked, **triage}, resume=resume)
    progress = Progress(out, lambda line: None if is_quiet(ctx) else click.echo(line, err=True))
    if size:
        import psutil

        from bcd_edge.archive.sample import plan

        click.echo(plan(out, answers, work, size, price, write=progress.write, resume=resume, started=psutil.Process().create_time()))
        click.echo(f"Next: {_next(ctx, out)}", err=True)
        return
    try:
        summary = archive(out, answers, work, progress, resume=resume)
    except KeyboardInterrupt:
        if Destination(out).manifest():
            click.echo(f"\nInterrupted. What was written until now is complete. Go on with: {_next(ctx, out)}", err=True)
            raise click.exceptions.Exit(130) from None
        raise
    for line in summary.failures:
        click.echo(line, err=True)
    if not is_quiet(ctx):
        if summary.failures:
            click.echo(f"All that failed: bcd-edge archive failed {shlex.quote(out)}", err=True)
        click.echo(f"Next: bcd-edge archive verify {shlex.quote(out)}", err=True)
    if summary.counts["failed"]:
        raise click.exceptions.Exit(1)


def _next(ctx: click.Context, out: str) -> str:
    """The command that goes on with this run, with the options that its data set does not keep."""
    from bcd_edge.archive.settings import Answers

    left_out = {"out", "resume", "sample", "price_per_hour", "magnification", *(field.name for field in fields(Answers))}
    typed = ctx.command.make_parser(ctx).parse_args(words(ctx))[0]
    parts = ["bcd-edge", "archive", "--out", out, "--resume"]
    for option in ctx.command.params:
        name = str(option.name)
        if name in typed and name not in left_out:
            is_flag = isinstance(option, click.Option) and option.is_flag
            parts += [(option.opts if typed[name] else option.secondary_opts)[0]] if is_flag else [option.opts[0], str(typed[name])]
    return shlex.join(parts)


def _ray_address(is_local: bool, address: str | None) -> str | None:
    """Where Ray is; None without it."""
    if is_local and address:
        raise click.UsageError("--ray and --ray-address are both given; give --ray for this machine alone, or the cluster's address.")
    if is_local or address:
        _require("ray", extra="ray")
    return "local" if is_local else address


def _answers(ctx: click.Context, out: str, asked: dict[str, Any], *, resume: bool) -> Answers:
    """What was asked; what was not asked of a run that goes on is as it was."""
    from bcd_edge.archive.destination import Destination
    from bcd_edge.archive.settings import Answers, absolute

    asked["sources"] = tuple(map(absolute, asked["sources"]))
    manifest = Destination(out).manifest() if resume or not asked["sources"] else None
    if manifest and not resume:
        raise click.UsageError(f"No SOURCE is given; to go on with the run that {out} holds, add --resume.")
    if not manifest:
        if not asked["sources"]:
            raise click.UsageError(f"No SOURCE is given, and {out} holds no run to go on with; give a folder, a glob, a manifest or a URL.")
        return Answers(**asked)
    begun = Answers.from_dict(manifest["settings"])
    if asked["sources"] == tuple(map(absolute, begun.sources)):
        asked["sources"] = begun.sources
    usual = Answers(())
    given = {
        name: value
        for name, value in asked.items()
        if value != getattr(usual, name) or (value and ctx.get_parameter_source(name) != ParameterSource.DEFAULT)
    }
    return replace(begun, **given)


@command.command("verify")
@click.argument("data")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def verify(data: str, as_json: bool) -> None:
    """Count inputs, rows and duplicates of DATA, and check that each input has its row, once and whole.

    Exit code: 0 it is whole, 1 it is not.
    """
    _require()
    import json

    from bcd_edge.archive.verify import verify as check

    result = check(data)
    if as_json:
        click.echo(json.dumps(result.as_dict(), indent=1))
    else:
        click.echo(result)
    if result.problem_count:
        raise click.exceptions.Exit(1)


@command.command("failed")
@click.argument("data")
def failed(data: str) -> None:
    """List the inputs of DATA that have no answer: name and reason, with a tab between them."""
    _require()
    from bcd_edge.archive.destination import Destination
    from bcd_edge.archive.failures import failed as listed

    for source, error in listed(Destination(data)):
        click.echo(f"{source}\t{error}")


@command.command("compare")
@click.argument("old")
@click.argument("new")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for changes.parquet, comparison.json and a page."
)
@click.option("--patients", metavar="PATTERN", help="Patient in a path, for rows that do not tell it: as for bcd-edge archive.")
def compare(old: str, new: str, out: Path, patients: str | None) -> None:
    """Show which answers changed from OLD to NEW, archives of one collection by two bundles or with other options, and by how much.

    Shares and differences have 95 % intervals that treat patients as independent.
    """
    _require()
    from bcd_edge.archive import compare as comparing
    from bcd_edge.results.patients import compile_pattern

    comparison = comparing.compare(old, new, compile_pattern(patients) if patients else None)
    comparing.write(comparison, out)
    click.echo(comparison)
    click.echo(f"Wrote {out / 'comparison.html'}", err=True)


def _require(*names: str, extra: str = "archive") -> None:
    """Checks that the packages of an extra are installed."""
    import importlib.util

    from bcd_edge.errors import ProviderError

    missing = [name for name in (*names, "pyarrow", "fsspec") if importlib.util.find_spec(name) is None]
    if missing:
        raise ProviderError(f'bcd-edge archive needs the package {missing[0]}, which is not installed; fix: pip install "bcd-edge[{extra}]"')
