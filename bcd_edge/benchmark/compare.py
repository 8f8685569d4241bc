"""Two runs side by side: how many times the time of the first the second takes, with an interval, and whether that is a regression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from bcd_edge.benchmark import statistics
from bcd_edge.benchmark.environment import power_mode
from bcd_edge.benchmark.results import named
from bcd_edge.benchmark.statistics import Estimate
from bcd_edge.errors import UsageError

Row = dict[str, Any]
Verdict = Literal["regression", "slower", "faster", "alike"]

# What may be unlike if a person says so.
UNLIKE: Final = ("precision", "input", "power-mode", "provider")


@dataclass(frozen=True, slots=True)
class Pair:
    """A row of each run.

    Attributes:
        before: the first run's.
        after: the second's.
        of: the figure that is compared.
        ratio: of times, `after` over `before`; above 1 is slower.
        verdict: `regression` is slower beyond noise (the interval lies above 1) and beyond what is allowed; `slower` is
            beyond noise alone.
    """

    before: Row
    after: Row
    of: str
    ratio: Estimate
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """All pairs, and sentences about what else differs."""

    pairs: list[Pair]
    notes: list[str]

    @property
    def regressed(self) -> bool:
        return any(pair.verdict == "regression" for pair in self.pairs)


def compare(before: dict[str, Any], after: dict[str, Any], *, max_regress: float, unlike: Collection[str] = ()) -> Comparison:
    """Compares the rows that both runs have.

    Args:
        before: a run, see benchmark.schema.json.
        after: another.
        max_regress: how much slower is allowed: 0.05 for 5 %.
        unlike: of `UNLIKE`, what may differ.

    Raises:
        UsageError: the runs are unlike in something that was not allowed, or have no row in common.
    """
    _refuse(before, after, unlike)
    fields = [name for name in ("provider", "precision", "batch", "threads", "inferences", "scenario", "scope") if name not in unlike]
    first, second = (_keyed(run["rows"], fields, which) for run, which in ((before, "first"), (after, "second")))
    common = [key for key in first if key in second]
    if not common:
        raise UsageError(_why_none(before["rows"], after["rows"], unlike))
    held = [key for key in common if not _searched(first[key]) or first[key]["verdict"]["valid"]]
    notes = [f"{len(common) - len(held)} Server rows held no rate in the first run, so there is nothing to compare."] if held != common else []
    return Comparison([_pair(first[key], second[key], max_regress) for key in held], notes + _notes(before, after, len(common)))


def _refuse(before: dict[str, Any], after: dict[str, Any], unlike: Collection[str]) -> None:
    """What is the same for all rows of a run."""
    modes = power_mode(before["environment"]), power_mode(after["environment"])
    inputs = before["input"], after["input"]
    for name, (one, other) in (("power-mode", modes), ("input", tuple(f"{one['what']} to {one['height']} x {one['width']}" for one in inputs))):
        if one != other and name not in unlike:
            raise UsageError(f"The runs are unlike in {name} ({one or 'not told'}; {other or 'not told'}); compare all the same: --unlike {name}")


def _keyed(rows: list[Row], fields: list[str], which: str) -> dict[tuple[Any, ...], Row]:
    keys = [(*(row[name] for name in fields), _asked(row)) for row in rows]
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise UsageError(f"Several rows of the {which} run are {' '.join(map(str, twice[0][:-1]))}; compare runs of one of them.")
    return dict(zip(keys, rows, strict=True))


def _asked(row: Row) -> tuple[Any, ...] | None:
    """What a Server was asked to hold: the bound, and the rate unless it was searched."""
    server = row["server"]
    return server and (server["bound_ms"], None if server["bracket"] else server["qps"])


def _searched(row: Row) -> bool:
    return bool(row["server"] and row["server"]["bracket"])


def _why_none(before: list[Row], after: list[Row], unlike: Collection[str]) -> str:
    for name in ("precision", "provider"):
        one, other = ({row[name] for row in rows} for rows in (before, after))
        if name not in unlike and not one & other:
            found = f"{', '.join(sorted(one)) or 'no row'}; {', '.join(sorted(other)) or 'no row'}"
            return f"The runs are unlike in {name} ({found}); compare all the same: --unlike {name}"
    return "The runs have no row in common; give the same --batch, --threads, --inferences, --scenario and --scope to both."


def _pair(before: Row, after: Row, max_regress: float) -> Pair:
    of, ratio = _ratio(before, after)
    beyond = ratio.low is not None and ratio.low > 1
    if beyond:
        return Pair(before, after, of, ratio, "regression" if ratio.value > 1 + max_regress else "slower")
    return Pair(before, after, of, ratio, "faster" if ratio.high is not None and ratio.high < 1 else "alike")


def _ratio(before: Row, after: Row) -> tuple[str, Estimate]:
    """Of times: the percentile that counts, the time of an image, or of the rate that a Server held."""
    metric = before["metric"]["name"]
    if metric == "images_per_s":
        return "time of an image", statistics.rate_ratio(_seconds(before, "end_ns"), _seconds(after, "end_ns"))
    if _searched(before):
        (low, high), (later_low, later_high) = before["server"]["bracket"], after["server"]["bracket"]
        least = low / later_high
        if not after["verdict"]["valid"]:  # it held no rate that was tried
            return "1 / queries a second, at least", Estimate(least, least, None)
        return "1 / queries a second", Estimate(before["server"]["qps"] / after["server"]["qps"], least, high / later_low)
    p = statistics.PERCENTILES[metric.removesuffix("_ms")]
    return metric.removesuffix("_ms"), statistics.ratio(_seconds(before, "latency_ns"), _seconds(after, "latency_ns"), p)


def _seconds(row: Row, name: str) -> statistics.Floats:
    try:
        found = np.array(row["raw"][name], np.float64) / 1e9
        if found.ndim == 1 and (found > 0).all():
            return found
    except (TypeError, ValueError):
        pass
    raise UsageError(f"The samples of {named(row)} are damaged; run the benchmark again.")


def _notes(before: dict[str, Any], after: dict[str, Any], common: int) -> list[str]:
    said = []
    left = len(before["rows"]) + len(after["rows"]) - 2 * common
    if left:
        said.append(f"{left} rows are in one run only and were not compared.")
    for name, one, other in (
        ("bundle", before["bundle"]["name"], after["bundle"]["name"]),
        ("bundle", before["bundle"]["sha256"][:12], after["bundle"]["sha256"][:12]),
        ("processor", before["environment"]["machine"]["cpu"], after["environment"]["machine"]["cpu"]),
        ("cores", before["environment"]["machine"]["cores"], after["environment"]["machine"]["cores"]),
    ):
        if one != other:
            said.append(f"Different {name}: {one}; {other}.")
    libraries = before["environment"]["libraries"], after["environment"]["libraries"]
    for name in sorted(set(libraries[0]) | set(libraries[1])):
        if libraries[0].get(name) != libraries[1].get(name):
            said.append(f"Different {name}: {libraries[0].get(name, 'none')}; {libraries[1].get(name, 'none')}.")
    for which, run in (("first", before), ("second", after)):
        if unsteady := sum(bool(row["unsteady"]) for row in run["rows"]):
            said.append(f"{unsteady} rows of the {which} run are unsteady: measure again before you believe them.")
    return said
