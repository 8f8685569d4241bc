"""`bcd-edge benchmark`, `benchmark compare` and `benchmark plan`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bcd_edge.cli._options import is_quiet, log_options

if TYPE_CHECKING:
    from bcd_edge.benchmark.scenarios import Rule
    from bcd_edge.benchmark.sweep import Asked, Settings
    from bcd_edge.bundle import Bundle

SCENARIOS = ("singlestream", "multistream", "offline", "server")
SCOPES = ("model", "end-to-end")


def _listed(choices: tuple[str, ...] = (), least: int = 0) -> Callable[[click.Context, click.Parameter, str | None], tuple[Any, ...]]:
    """Reads `a,b`: words of `choices`, or whole numbers from `least` on where there are none."""

    def read(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[Any, ...]:
        words = tuple(dict.fromkeys(word.strip().lower() for word in (value or "").split(",") if word.strip()))
        if choices:
            wrong = [word for word in words if word not in choices]
            if wrong:
                raise click.BadParameter(f"{wrong[0]!r} is none of {', '.join(choices)}.")
            return words
        if not all(word.isdecimal() and least <= int(word) <= 4096 for word in words):
            raise click.BadParameter(f"{value!r} is no list of whole numbers from {least} on; write for example {least or 1},8,32.")
        return tuple(int(word) for word in words)

    return read


def _time(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    from bcd_edge.system.durations import seconds

    found = None if value is None else seconds(value)
    if found == 0:
        raise click.BadParameter("0 is no time to measure in; write for example 10s.")
    return found


def _share(ctx: click.Context, parameter: click.Parameter, value: str) -> float:
    try:
        found = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1000:
        raise click.BadParameter(f"{value!r} is no share; write for example 5%.")
    return found


def _names(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in value.split(",") if word.strip())) or ("auto",)


@click.group(invoke_without_command=True)
@click.option("--bundle", "bundle_path", envvar="BCD_EDGE_BUNDLE", type=click.Path(), help="Folder or .zip of a bundle.  [default: the embedded one]")
@click.option(
    "--provider",
    "providers",
    envvar="BCD_EDGE_PROVIDER",
    default="auto",
    show_default=True,
    callback=_names,
    help="One or several, with commas; all are those that run here.",
)
@click.option(
    "--precision",
    "precisions",
    envvar="BCD_EDGE_PRECISION",
    callback=_listed(("fp32", "fp16", "int8", "all")),
    help="fp32,fp16,int8; all are those that the bundle has.  [default: its first]",
)
@click.option("--device", envvar="BCD_EDGE_DEVICE", default="", help="Device of the provider; of null, how long a call takes: 5ms.")
@click.option("--batch", "batches", default="1", show_default=True, callback=_listed(least=1), help="Images in one inference, for Offline: 1,8,32.")
@click.option("--threads", default="0", show_default=True, callback=_listed(), help="CPU threads for one inference; 0 for the engine's choice.")
@click.option("--inferences", default="1", show_default=True, callback=_listed(least=1), help="At the same time (streams), for Offline and Server.")
@click.option("--scenario", "scenarios", callback=_listed(SCENARIOS), help=f"{','.join(SCENARIOS)}.  [default: all; offline with --sustained]")
@click.option(
    "--scope",
    "scopes",
    default=",".join(SCOPES),
    show_default=True,
    callback=_listed(SCOPES),
    help="model: the engine alone; end-to-end: file bytes to record.",
)
@click.option("--duration", "duration_s", metavar="10s", callback=_time, help="Of a row, at least.  [default: 10s; MLPerf: 600s]")
@click.option("--min-queries", "queries", type=click.IntRange(0), default=0, help="Of a row, at least.  [default: MLPerf's]")
@click.option("--quick", is_flag=True, help="2 s and 64 queries a row: to look, not to quote.")
@click.option("--sustained", "sustained_s", metavar="10m", callback=_time, help="Each row so long, to see it slow down when it gets hot.")
@click.option("--latency-bound", "bound_s", metavar="100ms", default="100ms", show_default=True, callback=_time, help="Server: what p99 must keep.")
@click.option("--qps", type=click.FloatRange(0), default=0, help="Server: queries a second.  [default: search the most that keep the bound]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of arrivals and of the order of images.")
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Labelled images, for accuracy: class folders, or a manifest.csv."
)
@click.option("--loadgen", is_flag=True, help="Let MLPerf's LoadGen drive each row once more, and keep its logs.")
@click.option("--cache", is_flag=True, help="Take compiled models from the user's cache, and keep them there.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the results.  [default: benchmark-DATE-TIME]")
@log_options
@click.pass_context
def command(ctx: click.Context, /, bundle_path: str | None, data: Path | None, out: Path | None, loadgen: bool, cache: bool, **how: Any) -> None:
    """Measure latency, throughput, memory and energy as MLPerf Inference does.

    Each combination of what is listed with commas is a row: SingleStream (one image after another), MultiStream (eight),
    Offline (all at once) and Server (at random, within a latency bound), for the model alone and from file to record.
    Rows are printed as they finish; run.json with every sample, run.csv and report.html are in --out.

    Exit code: 0 all rows were measured (an INVALID or unsteady one says so), 1 some combinations did not run,
    130 interrupted: rows that were finished are kept.

    \b
    Examples:
      bcd-edge benchmark --quick
      bcd-edge benchmark --provider cpu,openvino --precision all --batch 1,8,32
      bcd-edge benchmark --sustained 10m
      bcd-edge benchmark compare before/run.json after/run.json
      bcd-edge benchmark plan after/run.json
    """
    if ctx.invoked_subcommand:
        return
    from datetime import datetime

    from bcd_edge import bundle
    from bcd_edge.benchmark import accuracy
    from bcd_edge.benchmark import loadgen as harness
    from bcd_edge.benchmark.sweep import Asked, Settings

    folder = out or Path(f"benchmark-{datetime.now():%Y%m%d-%H%M%S}")
    rule, scenarios = _rule(how)
    asked = Asked(*(how[name] for name in ("providers", "precisions", "device", "batches", "threads", "inferences")))
    images = accuracy.collection(data) if data else ()
    if loadgen:
        harness.require()
    settings = Settings(scenarios, how["scopes"], rule, images, folder / "loadgen" if loadgen else None, cache)
    if not _measure(bundle.open(bundle_path), asked, settings, folder, quiet=is_quiet(ctx)):
        raise click.exceptions.Exit(1)


def _rule(how: dict[str, Any]) -> tuple[Rule, tuple[str, ...]]:
    """How long a row is, and which scenarios."""
    from bcd_edge.benchmark.scenarios import Rule

    quick, sustained = how["quick"], how["sustained_s"]
    duration = how["duration_s"] or sustained or (2.0 if quick else 10.0)
    limit = duration if sustained else 3 * duration if quick else max(60.0, 3 * duration)
    rule = Rule(duration, how["queries"] or (64 if quick else 0), limit, how["bound_s"], how["qps"], how["seed"])
    return rule, how["scenarios"] or (("offline",) if sustained else SCENARIOS)


def _measure(opened: Bundle, asked: Asked, settings: Settings, folder: Path, *, quiet: bool) -> bool:
    """Measures, prints and keeps every row; whether all of them ran."""
    import contextlib
    import math

    from bcd_edge.benchmark import _nvml, console, report, results, sweep
    from bcd_edge.errors import UsageError
    from bcd_edge.system.atomic import atomic_write

    if (folder / results.RUN).exists():
        raise UsageError(f"{folder} holds a benchmark already; name another folder with --out.")
    tasks = sweep.tasks(sweep.plans(opened, asked), settings)
    card = _nvml.card(int(asked.device) if asked.device.isdecimal() else 0)
    run = sweep.document(opened, settings, card)
    folder.mkdir(parents=True, exist_ok=True)
    count = sum(map(len, tasks.values()))
    if not quiet:
        click.echo(
            f"{count} row{'s' * (count > 1)}, at most {math.ceil(sweep.minutes(tasks, settings))} min. Leave the machine alone meanwhile.", err=True
        )
    error, last = None, ""
    try:
        for found in sweep.rows(opened, tasks, settings, card):
            if isinstance(found, sweep.Failure):
                error = found.error
                run["failures"].append({"provider": found.plan.provider, "precision": found.plan.precision, "error": str(error)})
                click.echo(f"{found.plan.provider} {found.plan.precision} batch {found.plan.batch}: {error}", err=True)
                continue
            run["rows"].append(found)
            atomic_write(folder / results.RUN, results.dump(run).encode())
            if last != (last := results.named(found)):
                click.echo("\n".join(console.plan_lines(found)))
            click.echo("\n".join(console.row_lines(found)))
        run["finished"] = True
    finally:
        if run["rows"]:
            atomic_write(folder / results.RUN, results.dump(run).encode())
            atomic_write(folder / results.TABLE, results.table(run["rows"]).encode())
            atomic_write(folder / results.PAGE, report.page(run).encode())
        else:
            with contextlib.suppress(OSError):  # it held something before
                folder.rmdir()
    if error and not run["rows"]:
        raise error
    click.echo("\n".join(console.end_lines(run["rows"])))
    click.echo(f"Wrote {folder}: {results.RUN}, {results.TABLE}, {results.PAGE}. Next: bcd-edge benchmark plan {folder / results.RUN}")
    return not error


@command.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--max-regress", metavar="5%", default="5%", show_default=True, callback=_share, help="How much slower AFTER may be.")
@click.option(
    "--unlike", multiple=True, type=click.Choice(["precision", "input", "power-mode", "provider"]), help="Compare although this differs; repeat it."
)
@log_options
def compare(before: Path, after: Path, max_regress: float, unlike: tuple[str, ...]) -> None:
    """Compare two runs: how many times the time of BEFORE (a run.json) AFTER takes.

    A regression is slower beyond noise (the 95 % interval of the ratio lies above 1) and by more than --max-regress.

    Exit code: 0 no regression, 1 a regression, 2 the runs cannot be compared.

    \b
    Example:
      bcd-edge benchmark compare before/run.json after/run.json --max-regress 3%
    """
    from bcd_edge.benchmark import compare as comparing
    from bcd_edge.benchmark import console, results

    found = comparing.compare(results.read(before), results.read(after), max_regress=max_regress, unlike=unlike)
    for pair in found.pairs:
        click.echo("\n".join(console.pair_lines(pair)))
    click.echo("\n".join(["", *console.note_lines(found)]) if found.notes else "")
    slower = sum(pair.verdict == "regression" for pair in found.pairs)
    click.echo(f"{len(found.pairs)} rows compared, {slower} regressed by more than {max_regress:.1%} beyond noise.")
    if found.regressed:
        raise click.exceptions.Exit(1)


@command.command()
@click.argument("run", type=click.Path(path_type=Path))
@log_options
def plan(run: Path) -> None:
    """From a finished run.json: how many images a day, and how long LIME takes, on that device.

    \b
    Example:
      bcd-edge benchmark plan before/run.json
    """
    from bcd_edge.benchmark import capacity, console, results
    from bcd_edge.errors import UsageError

    found = results.read(run)
    if not found["rows"]:
        raise UsageError(f"{run} holds no row, so it tells nothing; run the benchmark to its end.")
    click.echo(f"{found['bundle']['name']} on {found['environment']['machine']['cpu']}, 24 hours a day:")
    for one in capacity.forecasts(found):
        click.echo("\n".join(console.forecast_lines(one)))
    if not found["finished"]:
        click.echo("The run was interrupted: rows are missing.")
