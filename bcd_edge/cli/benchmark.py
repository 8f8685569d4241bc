"""`bcd-edge benchmark`, `benchmark compare` and `benchmark capacity`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bcd_edge.cli._options import PROVIDER_OPTION, is_quiet, log_options, pairs
from bcd_edge.cli._types import DURATION

if TYPE_CHECKING:
    from bcd_edge.benchmark.baselines import Baseline
    from bcd_edge.benchmark.rows import Settings
    from bcd_edge.benchmark.scenarios import Rule
    from bcd_edge.benchmark.sweep import SweepSpec
    from bcd_edge.bundle import Bundle

SCENARIOS = ("singlestream", "multistream", "offline", "server")
SCOPES = ("model", "end-to-end")
PRECISIONS = ("fp32", "fp16", "int8")


def _list_of(choices: tuple[str, ...] = (), least: int = 0) -> Callable[[click.Context, click.Parameter, str | None], tuple[Any, ...]]:
    """Parses `a,b`: words of `choices`, or integers from `least` on if there are none."""

    def parse(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[Any, ...]:
        words = tuple(dict.fromkeys(word.strip().lower() for word in (value or "").split(",") if word.strip()))
        if choices:
            unknown = [word for word in words if word not in choices]
            if unknown:
                raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(choices)}.")
            return words
        if not all(word.isdecimal() and least <= int(word) <= 4096 for word in words):
            raise click.BadParameter(f"{value!r} is not a list of integers from {least} on, for example {least or 1},8,32.")
        return tuple(int(word) for word in words)

    return parse


def _positive(ctx: click.Context, parameter: click.Parameter, duration_s: float | None) -> float | None:
    if duration_s == 0:
        raise click.BadParameter("0 is too short; use for example 10s.")
    return duration_s


def _share(ctx: click.Context, parameter: click.Parameter, value: str) -> float:
    try:
        share = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < (1000 if value.endswith("%") else 1):  # a 5 that means 5 % must not pass as 500 %
        raise click.BadParameter(f"{value!r} is not a share; use for example 5%.")
    return share


def _names(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in value.split(",") if word.strip())) or ("auto",)


def _two_names(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    names = tuple((value or "").split(","))
    if value is not None and (len(names) != 2 or not all(names)):
        raise click.BadParameter(f"{value!r} is not two engines; use for example cpu,openvino.")
    return names if value else ()


@click.group(invoke_without_command=True)
@click.option("--bundle", "bundle_path", envvar="BCD_EDGE_BUNDLE", type=click.Path(), help="Folder or .zip of a bundle.  [default: the embedded one]")
@click.option(
    "--provider",
    "providers",
    envvar="BCD_EDGE_PROVIDER",
    default="auto",
    show_default=True,
    callback=_names,
    help="One or more, separated by commas; all: those that run here.",
)
@click.option(
    "--precision",
    "precisions",
    envvar="BCD_EDGE_PRECISION",
    callback=_list_of((*PRECISIONS, "all")),
    help="fp32,fp16,int8; all: those in the bundle.  [default: the bundle's first]",
)
@click.option("--device", envvar="BCD_EDGE_DEVICE", help="Device of the provider.  [default: its first]")
@click.option("--provider-option", "provider_options", multiple=True, metavar="NAME=VALUE", callback=pairs, help=PROVIDER_OPTION)
@click.option("--batch", "batches", default="1", show_default=True, callback=_list_of(least=1), help="Images per inference, for Offline: 1,8,32.")
@click.option("--threads", default="0", show_default=True, callback=_list_of(), help="CPU threads per inference; 0: the engine's default.")
@click.option("--streams", default="1", show_default=True, callback=_list_of(least=1), help="Concurrent inferences, for Offline and Server.")
@click.option("--beside", multiple=True, metavar="NAME", help="Measure in turns with pytorch, onnxruntime, openvino or FILE.onnx; repeatable.")
@click.option("--scenario", "scenarios", callback=_list_of(SCENARIOS), help=f"{','.join(SCENARIOS)}.  [default: all; offline with --sustained]")
@click.option(
    "--scope",
    "scopes",
    default=",".join(SCOPES),
    show_default=True,
    callback=_list_of(SCOPES),
    help="model: the engine only; end-to-end: file bytes to record.",
)
@click.option("--duration", "duration_s", metavar="10s", type=DURATION, callback=_positive, help="Minimum per row.  [default: 10s; MLPerf: 600s]")
@click.option("--min-queries", "queries", type=click.IntRange(0), default=0, help="Minimum per row.  [default: MLPerf's]")
@click.option("--quick", is_flag=True, help="2 s and 64 queries per row, for a first look.")
@click.option("--sustained", "sustained_s", metavar="10m", type=DURATION, callback=_positive, help="Duration of each row, to see thermal throttling.")
@click.option(
    "--latency-bound",
    "bound_s",
    metavar="100ms",
    default="100ms",
    show_default=True,
    type=DURATION,
    callback=_positive,
    help="Server: limit for p99.",
)
@click.option("--qps", type=click.FloatRange(0), default=0, help="Server: queries per second.  [default: search the highest rate within the bound]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of arrival times and the order of images.")
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Labelled images, for accuracy: class folders or a manifest.csv."
)
@click.option("--loadgen", is_flag=True, help="Repeat each row with MLPerf's LoadGen, and keep its logs.")
@click.option("--cache", is_flag=True, help="Read and write compiled models in the user's cache.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the results.  [default: benchmark-DATE-TIME]")
@log_options
@click.pass_context
def command(ctx: click.Context, /, bundle_path: str | None, data: Path | None, out: Path | None, loadgen: bool, cache: bool, **options: Any) -> None:
    """Measure latency, throughput, memory and energy by MLPerf Inference's method.

    Each combination of the comma-separated values is a row: SingleStream (one image after another), MultiStream (eight),
    Offline (all at once) and Server (random arrivals, within a latency bound), for the model only and from file to record.
    Rows are printed as they finish; run.json with every sample, run.csv and report.html are written to --out.

    A row that was measured while other programs used the processor is unsteady, not VALID.

    Exit code: 0 all rows were measured (INVALID and unsteady ones included), 1 some combinations did not run,
    130 interrupted: finished rows are kept.

    \b
    Examples:
      bcd-edge benchmark --quick
      bcd-edge benchmark --provider cpu,openvino --precision all --batch 1,8,32
      bcd-edge benchmark --beside pytorch --scenario singlestream
      bcd-edge benchmark --sustained 10m
      bcd-edge benchmark compare before/run.json after/run.json
      bcd-edge benchmark capacity after/run.json
    """
    if ctx.invoked_subcommand:
        return
    from datetime import datetime

    from bcd_edge import bundle
    from bcd_edge.benchmark import accuracy, baselines
    from bcd_edge.benchmark import loadgen as harness
    from bcd_edge.benchmark.rows import Settings
    from bcd_edge.benchmark.sweep import SweepSpec
    from bcd_edge.options import RunOptions

    folder = out or Path(f"benchmark-{datetime.now():%Y%m%d-%H%M%S}")
    rule, scenarios = _rule(options)
    threads = [count or None for count in options["threads"]]
    common = RunOptions(device=options["device"], provider_options=options["provider_options"])
    spec = SweepSpec(options["providers"], options["precisions"], options["batches"], threads, options["streams"], common)
    images = accuracy.collection(data) if data else ()
    if loadgen:
        harness.require()
    settings = Settings(scenarios, options["scopes"], rule, images, folder / "loadgen" if loadgen else None, cache)
    opened = bundle.open(bundle_path)
    beside = [baselines.open(name, opened, options["threads"][0]) for name in dict.fromkeys(options["beside"])]
    if not _measure(opened, spec, settings, beside, folder, quiet=is_quiet(ctx)):
        raise click.exceptions.Exit(1)


def _rule(options: dict[str, Any]) -> tuple[Rule, tuple[str, ...]]:
    """When a row is complete, and the scenarios."""
    from bcd_edge.benchmark.scenarios import Rule

    quick, sustained = options["quick"], options["sustained_s"]
    duration = options["duration_s"] or sustained or (2.0 if quick else 10.0)
    limit = duration if sustained else 3 * duration if quick else max(60.0, 3 * duration)
    rule = Rule(duration, options["queries"] or (64 if quick else 0), limit, options["bound_s"], options["qps"], options["seed"])
    return rule, options["scenarios"] or (("offline",) if sustained else SCENARIOS)


def _measure(opened: Bundle, spec: SweepSpec, settings: Settings, beside: Sequence[Baseline], folder: Path, *, quiet: bool) -> bool:
    """Measures, prints and keeps every row; returns whether all of them ran."""
    import contextlib

    from bcd_edge.benchmark import console, nvml, report, results, rows, sweep
    from bcd_edge.errors import UsageError
    from bcd_edge.system.atomic import atomic_write

    if (folder / results.RUN).exists():
        raise UsageError(f"{folder} already contains a benchmark; choose another folder with --out.")
    tasks = sweep.tasks(sweep.plans(opened, spec), settings)
    card = nvml.card(int(device) if (device := spec.common.device or "0").isdecimal() else 0)
    run = sweep.document(opened, settings, card)
    folder.mkdir(parents=True, exist_ok=True)
    if not quiet:
        _announce(
            opened,
            spec,
            sum(map(len, tasks.values())) + len(beside) * len(rows.baseline_tasks(settings)),
            sweep.minutes(tasks, settings, len(beside)),
        )
    error, last = None, ""
    try:
        for row in sweep.rows(opened, tasks, settings, card, beside):
            if isinstance(row, sweep.Failure):
                error = row.error
                run["failures"].append({"provider": row.plan.provider, "precision": row.plan.precision, "error": str(error)})
                click.echo(f"{row.plan.provider} {row.plan.precision} batch {row.plan.batch}: {error}", err=True)
                continue
            run["rows"].append(row)
            atomic_write(folder / results.RUN, results.dump(run).encode())
            if last != (last := results.label(row)):
                click.echo("\n".join(console.plan_lines(row)))
            click.echo("\n".join(console.row_lines(row)))
        run["finished"] = True
    finally:
        if run["rows"]:
            atomic_write(folder / results.RUN, results.dump(run).encode())
            atomic_write(folder / results.TABLE, results.table(run["rows"]).encode())
            atomic_write(folder / results.PAGE, report.page(run).encode())
        else:
            with contextlib.suppress(OSError):  # it was not empty before
                folder.rmdir()
    if error and not run["rows"]:
        raise error
    click.echo("\n".join(console.end_lines(run["rows"])))
    click.echo(f"Wrote {folder}: {results.RUN}, {results.TABLE}, {results.PAGE}. Next: bcd-edge benchmark capacity {folder / results.RUN}")
    return not error


def _announce(opened: Bundle, spec: SweepSpec, count: int, minutes: tuple[float, float]) -> None:
    """Says what will be measured and for how long, before it begins."""
    import math

    if "all" in spec.precisions and (missing := [name for name in PRECISIONS if name not in opened.precisions]):
        click.echo(f"{opened.name} contains {', '.join(opened.precisions)}; not measured: {', '.join(missing)}.", err=True)
    least, most = (math.ceil(bound) for bound in minutes)
    duration = f"{least} to {most} min" if least < most else f"at most {most} min"
    click.echo(f"{count} row{'s' * (count > 1)}, {duration}, plus loading and compiling.\nRows of one engine are measured in turns.", err=True)
    click.echo("Leave the machine idle meanwhile: a row beside other programs is unsteady.", err=True)


@command.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path), required=False)
@click.option("--max-regress", metavar="5%", default="5%", show_default=True, callback=_share, help="Allowed slowdown of AFTER.")
@click.option("--engines", metavar="A,B", callback=_two_names, help="Compare two engines of one run: PROVIDER or PROVIDER:PRECISION.")
@click.option(
    "--allow-different", multiple=True, type=click.Choice(["precision", "input", "power-mode", "provider"]), help="Compare despite it; repeatable."
)
@log_options
def compare(before: Path, after: Path | None, max_regress: float, engines: tuple[str, ...], allow_different: tuple[str, ...]) -> None:
    """Compare two runs, BEFORE and AFTER (each a run.json), or two engines of one run: the ratio of their times.

    A regression is slower beyond noise (the 95 % interval of the ratio, which includes how much repeats of a row differ,
    lies above 1) and by more than --max-regress. Where noise could hide such a regression, or a row is unsteady, the
    verdict is "cannot tell".

    Exit code: 0 no regression, 1 a regression, 2 the runs cannot be compared, or no row can be told.

    \b
    Examples:
      bcd-edge benchmark compare before/run.json after/run.json --max-regress 3%
      bcd-edge benchmark compare run.json --engines cpu,openvino
      bcd-edge benchmark compare run.json --engines pytorch,openvino:int8
    """
    from bcd_edge.benchmark import compare as comparing
    from bcd_edge.benchmark import console, results
    from bcd_edge.errors import UsageError

    if bool(after) == bool(engines):
        raise UsageError("Comparing takes two runs, or one run and --engines A,B; give one of these.")
    if after:
        result = comparing.compare(results.read(before), results.read(after), max_regress=max_regress, allow_different=allow_different)
    else:
        result = comparing.compare_engines(results.read(before), (engines[0], engines[1]), max_regress=max_regress)
    for pair in result.pairs:
        click.echo("\n".join(console.pair_lines(pair)))
    click.echo("\n".join(["", *console.note_lines(result)]) if result.notes else "")
    slower, unknown = result.count("regression"), result.count("cannot tell")
    click.echo(f"{len(result.pairs)} rows compared: {slower} regressed by more than {max_regress:.1%}, {unknown} cannot be told.")
    if slower:
        raise click.exceptions.Exit(1)
    if unknown and unknown == len(result.pairs):
        raise UsageError("No row can be told: measure both runs again on an idle machine, or longer (--duration).")


@command.command()
@click.argument("run", type=click.Path(path_type=Path))
@log_options
def capacity(run: Path) -> None:
    """Show images per day, and the time of a LIME explanation, from a finished run.json. Unsteady rows are not used.

    Exit code: 1 if the run has no steady row for images per day.

    \b
    Example:
      bcd-edge benchmark capacity after/run.json
    """
    from bcd_edge.benchmark import capacity as estimating
    from bcd_edge.benchmark import console, results
    from bcd_edge.errors import UsageError

    content = results.read(run)
    if not content["rows"]:
        raise UsageError(f"{run} has no rows; run the benchmark to its end.")
    click.echo(f"{content['bundle']['name']} on {content['environment']['machine']['cpu']}, 24 hours a day (95 % intervals):")
    engines = estimating.capacities(content)
    for engine in engines:
        click.echo("\n".join(console.capacity_lines(engine)))
    if not content["finished"]:
        click.echo("The run was interrupted: rows are missing.")
    if not any(engine.images_per_day.estimate for engine in engines):
        raise click.exceptions.Exit(1)
