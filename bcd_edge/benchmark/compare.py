"""Two runs side by side, or two engines of one run: the ratio of their times with an interval, and whether it is a regression."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from bcd_edge.benchmark import statistics
from bcd_edge.benchmark.environment import power_mode
from bcd_edge.benchmark.results import label
from bcd_edge.benchmark.sensors import MHZ_BOUND
from bcd_edge.errors import UsageError
from bcd_edge.estimates import Estimate, Floats

Row = dict[str, Any]
Verdict = Literal["regression", "slower", "faster", "no difference", "cannot tell"]

# Differences that a user may allow.
ALLOWED_DIFFERENCES: Final = ("precision", "input", "power-mode", "provider")
# A row that was measured in one piece is divided into so many turns.
TURNS: Final = 5


@dataclass(frozen=True, slots=True)
class Pair:
    """A row of each run.

    Attributes:
        before: of the first run.
        after: of the second.
        metric: the figure that is compared.
        ratio: of times, `after` over `before`; above 1 is slower.
        verdict: `regression`: slower by more than noise and by more than is allowed; `slower`: by more than noise alone;
            `no difference`: a regression is excluded; `cannot tell`: noise hides a regression as large as is allowed.
        doubts: why the rows cannot be compared; empty if they can.
    """

    before: Row
    after: Row
    metric: str
    ratio: Estimate
    verdict: Verdict
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """All pairs, and sentences about other differences."""

    pairs: list[Pair]
    notes: list[str]

    def count(self, verdict: Verdict) -> int:
        return sum(pair.verdict == verdict for pair in self.pairs)


def compare(before: dict[str, Any], after: dict[str, Any], *, max_regress: float, allow_different: Collection[str] = ()) -> Comparison:
    """Compares the rows that both runs have.

    Args:
        before: a run, see benchmark.schema.json.
        after: another.
        max_regress: allowed slowdown: 0.05 for 5 %.
        allow_different: of `ALLOWED_DIFFERENCES`.

    Raises:
        UsageError: the runs differ in something that was not allowed, or have no row in common.
    """
    _refuse(before, after, allow_different)
    fields = [name for name in ("provider", "precision", "batch", "threads", "streams", "scenario", "scope") if name not in allow_different]
    first, second = (_keyed(run["rows"], fields, ordinal) for run, ordinal in ((before, "first"), (after, "second")))
    common = [key for key in first if key in second]
    if not common:
        raise UsageError(_why_none(before["rows"], after["rows"], allow_different))
    usable = [key for key in common if not _searched(first[key]) or first[key]["verdict"]["valid"]]
    notes = [f"{len(common) - len(usable)} Server rows of the first run kept no rate within the bound; they are not compared."]
    return Comparison(
        [_pair(first[key], second[key], max_regress) for key in usable], (notes if usable != common else []) + _notes(before, after, len(common))
    )


def compare_engines(run: dict[str, Any], engines: tuple[str, str], *, max_regress: float) -> Comparison:
    """Compares two engines of one run: rows of equal scenario and scope, at their own batch, threads and streams if these are unique.

    Args:
        run: see benchmark.schema.json.
        engines: `PROVIDER` or `PROVIDER:PRECISION`; the second is compared with the first.
        max_regress: as for `compare`.

    Raises:
        UsageError: the run has no such engine, or no rows that correspond.
    """
    halves = []
    for engine in engines:
        provider, _, precision = engine.partition(":")
        rows = [row for row in run["rows"] if row["provider"] == provider and precision in ("", row["precision"])]
        if not rows:
            existing = ", ".join(dict.fromkeys(f"{row['provider']}:{row['precision']}" for row in run["rows"]))
            raise UsageError(f"The run has no rows of {engine}; it has {existing or 'no rows'}.")
        halves.append(run | {"rows": rows})
    return compare(*halves, max_regress=max_regress, allow_different=("provider", "precision"))


def _refuse(before: dict[str, Any], after: dict[str, Any], allow_different: Collection[str]) -> None:
    """Checks what is the same for all rows of a run."""
    modes = power_mode(before["environment"]), power_mode(after["environment"])
    inputs = [f"{run['input']['what']} to {run['input']['height']} x {run['input']['width']}" for run in (before, after)]
    for name, (first, second) in (("power-mode", modes), ("input", inputs)):
        if first != second and name not in allow_different:
            raise UsageError(
                f"The runs differ in {name} ({first or 'not reported'}; {second or 'not reported'}); to compare them anyway: --allow-different {name}"
            )


def _keyed(rows: list[Row], fields: list[str], ordinal: str) -> dict[tuple[Any, ...], Row]:
    keys = [(*(row[name] for name in fields), _server_goal(row)) for row in rows]
    duplicates = [key for key, count in Counter(keys).items() if count > 1]
    if duplicates:
        raise UsageError(f"Several rows of the {ordinal} run are {' '.join(map(str, duplicates[0][:-1]))}; compare runs with one of them.")
    return dict(zip(keys, rows, strict=True))


def _server_goal(row: Row) -> tuple[Any, ...] | None:
    """The bound, and the rate unless it was searched."""
    server = row["server"]
    return server and (server["bound_ms"], None if server["bracket"] else server["qps"])


def _searched(row: Row) -> bool:
    return bool(row["server"] and row["server"]["bracket"])


def _why_none(before: list[Row], after: list[Row], allow_different: Collection[str]) -> str:
    for name in ("precision", "provider"):
        first, second = ({row[name] for row in rows} for rows in (before, after))
        if name not in allow_different and not first & second:
            values = f"{', '.join(sorted(first)) or 'no row'}; {', '.join(sorted(second)) or 'no row'}"
            return f"The runs differ in {name} ({values}); to compare them anyway: --allow-different {name}"
    return "The runs have no row in common; use the same --batch, --threads, --streams, --scenario and --scope for both."


def _pair(before: Row, after: Row, max_regress: float) -> Pair:
    metric, ratio = _ratio(before, after)
    doubts = _doubts(before, after)
    return Pair(before, after, metric, ratio, "cannot tell" if doubts else _verdict(ratio, max_regress), doubts)


def _verdict(ratio: Estimate, max_regress: float) -> Verdict:
    if ratio.low is not None and ratio.low > 1:
        return "regression" if ratio.value > 1 + max_regress else "slower"
    if ratio.high is None or ratio.low is None:
        return "cannot tell"
    if ratio.high < 1:
        return "faster"
    return "no difference" if ratio.high <= 1 + max_regress else "cannot tell"


def _doubts(before: Row, after: Row) -> tuple[str, ...]:
    doubts = [f"{ordinal} is unsteady: {'; '.join(row['unsteady'])}" for ordinal, row in (("first", before), ("second", after)) if row["unsteady"]]
    for name, key in (("clock", "mhz"), ("GPU clock", "gpu_mhz")):
        first, second = before["sensors"]["after"][key], after["sensors"]["after"][key]
        if first and second and abs(second / first - 1) > MHZ_BOUND:
            doubts.append(f"the {name} was {first:.0f} and {second:.0f} MHz")
    return tuple(doubts)


def _ratio(before: Row, after: Row) -> tuple[str, Estimate]:
    """Of times: the percentile of the scenario, the time per image, or the inverse of the rate that a Server kept."""
    metric = before["metric"]["name"]
    if metric == "images_per_s":
        ratio = statistics.rate_ratio(_seconds(before, "end_ns"), _seconds(after, "end_ns"))
        return "time per image", statistics.widened(ratio, _of_turns(before, _time_per_response), _of_turns(after, _time_per_response))
    if _searched(before):
        (low, high), (later_low, later_high) = before["server"]["bracket"], after["server"]["bracket"]
        least = low / later_high
        if not after["verdict"]["valid"]:  # no rate that was tried kept the bound
            return "1 / queries per second, at least", Estimate(least, least, None)
        return "1 / queries per second", Estimate(before["server"]["qps"] / after["server"]["qps"], least, high / later_low)
    p = statistics.PERCENTILES[metric.removesuffix("_ms")]
    ratio = statistics.ratio(_seconds(before, "latency_ns"), _seconds(after, "latency_ns"), p)

    def of_turn(latencies_s: Floats, ends_s: Floats, elapsed_s: float) -> float:
        return statistics.percentile(latencies_s, p).value

    return metric.removesuffix("_ms"), statistics.widened(ratio, _of_turns(before, of_turn), _of_turns(after, of_turn))


def _time_per_response(latencies_s: Floats, ends_s: Floats, elapsed_s: float) -> float:
    return elapsed_s / len(ends_s)


def _of_turns(row: Row, figure: Callable[[Floats, Floats, float], float]) -> Floats:
    """A figure of each turn that a row was measured in; of equal stretches of time if it was measured in one piece."""
    latencies_s, ends_s, turn_ends_s = (_seconds(row, name) for name in ("latency_ns", "end_ns", "turn_end_ns"))
    borders = [0.0, *(turn_ends_s if len(turn_ends_s) > 1 else np.linspace(0, ends_s[-1], TURNS + 1)[1:])]
    figures = []
    for begin, end in itertools.pairwise(borders):
        inside = (ends_s > begin) & (ends_s <= end)
        if inside.any():
            figures.append(figure(latencies_s[inside], ends_s[inside], end - begin))
    return np.array(figures)


def _seconds(row: Row, name: str) -> Floats:
    try:
        seconds = np.array(row["raw"][name], np.float64) / 1e9
        if seconds.ndim == 1 and (seconds > 0).all():
            return seconds
    except (TypeError, ValueError):
        pass
    raise UsageError(f"The samples of {label(row)} are damaged; run the benchmark again.")


def _notes(before: dict[str, Any], after: dict[str, Any], common: int) -> list[str]:
    notes = []
    unpaired = len(before["rows"]) + len(after["rows"]) - 2 * common
    if unpaired:
        notes.append(f"{unpaired} rows are in one run only and were not compared.")
    for name, first, second in _properties(before, after):
        if first != second:
            notes.append(f"Different {name}: {first}; {second}.")
    return notes


def _properties(before: dict[str, Any], after: dict[str, Any]) -> Sequence[tuple[str, Any, Any]]:
    """Name and values of what should be the same in both runs."""
    machines = [run["environment"]["machine"] for run in (before, after)]
    libraries = [run["environment"]["libraries"] for run in (before, after)]
    return [
        ("bundle", before["bundle"]["name"], after["bundle"]["name"]),
        ("bundle", before["bundle"]["sha256"][:12], after["bundle"]["sha256"][:12]),
        *((name, machines[0][key], machines[1][key]) for name, key in (("processor", "cpu"), ("cores", "cores"))),
        *((name, *(versions.get(name, "none") for versions in libraries)) for name in sorted({*libraries[0], *libraries[1]})),
    ]
