"""How features of patients go with outcomes: an effect with its interval, and a p value that is corrected for the number of tests.

The unit is the patient, whose pictures count by their mean: many pictures of one person are no more evidence than the person is. Intervals
come from resampling patients.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.optimize import brentq

from bcd_edge.cohort import power
from bcd_edge.cohort.clinical import Outcome, vectors
from bcd_edge.cohort.dictionary import BY_NAME
from bcd_edge.estimates import LEVELS, RESAMPLES, Estimate, of_resamples

SEED: Final = 23
# Fewest patients of each class, or in all, or with the event, for any figure.
FEWEST: Final = 5
# What a false discovery rate is held at.
RATE: Final = 0.05
# Values that are ranked together: some tens of megabytes.
BLOCK: Final = 2_000_000

# Columns of the table: effect and interval first, the p value last.
HEADS: Final = (
    *("outcome", "feature", "group", "measure", "effect", "low", "high"),
    *("patients", "cases", "least_detectable", "least_detectable_corrected", "q", "p"),
)

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Association:
    """A feature beside an outcome.

    Attributes:
        outcome: its title.
        feature: name of the feature.
        measure: `AUROC`, `Spearman` or `hazard ratio` (per standard deviation).
        effect: with its 95 % interval.
        patients: that have both.
        cases: of them in the first class, or with the event; all for other outcomes.
        least: effect that would have been found in 80 % of such cohorts, were it the only test.
        least_corrected: the same, were it found among all tests by Bonferroni's bound.
        p: of the test of no effect.
        q: p corrected for all tests of the report, by Benjamini & Hochberg, JRSS B 1995.
    """

    outcome: str
    feature: str
    measure: str
    effect: Estimate
    patients: int
    cases: int
    least: float
    least_corrected: float
    p: float
    q: float = float("nan")

    @property
    def is_found(self) -> bool:
        """Whether it stands after correction."""
        return self.q < RATE

    def as_dict(self) -> dict[str, Any]:
        """A row of the table, by `HEADS`."""
        values = (
            *(self.outcome, self.feature, BY_NAME[self.feature].group, self.measure, self.effect.value, self.effect.low, self.effect.high),
            *(self.patients, self.cases, self.least, self.least_corrected, self.q, self.p),
        )
        return dict(zip(HEADS, values, strict=True))


def associate(names: Sequence[str], values: Floats, patients: Sequence[str], outcomes: Sequence[Outcome]) -> tuple[list[Association], list[str]]:
    """Compares every feature with every outcome.

    Args:
        names: of features.
        values: patients x features, NaN where missing.
        patients: their names.
        outcomes: what to compare with.

    Returns:
        Associations, sorted by outcome and then by q; and notes on outcomes with too few patients.
    """
    pairs, few = [], []
    for outcome in outcomes:
        target, events = vectors(outcome, patients)
        usable = [index for index in range(len(names)) if _is_enough(outcome, values[:, index], target, events)]
        pairs += [(outcome, name, values[:, index], target, events) for index, name in enumerate(names) if index in usable]
        if not usable:
            few.append(outcome.title)
    alpha = power.ALPHA / max(1, len(pairs))
    found = [_compare(*pair, alpha) for pair in pairs]
    notes = [f"Too few patients, {FEWEST} of each kind are needed: {'; '.join(few)}."] if few else []
    if lost := [f"{BY_NAME[row.feature].title} beside {row.outcome}" for row in found if np.isnan(row.p)]:
        notes.append(f"No hazard ratio, because Cox's model does not converge: {'; '.join(lost)}.")
    order = {outcome.title: index for index, outcome in enumerate(outcomes)}
    return sorted(corrected(found), key=lambda row: (order[row.outcome], row.q, row.p)), notes


def corrected(rows: Sequence[Association]) -> list[Association]:
    """The same with q values over all of them."""
    known = [row for row in rows if not np.isnan(row.p)]
    if not known:
        return []
    return [replace(row, q=float(q)) for row, q in zip(known, stats.false_discovery_control([row.p for row in known]), strict=True)]


def _is_enough(outcome: Outcome, feature: Floats, target: Floats, events: Bools) -> bool:
    both = ~np.isnan(feature) & ~np.isnan(target)
    if both.sum() < 2 * FEWEST or np.ptp(feature[both]) == 0 or np.ptp(target[both]) == 0:
        return False
    if outcome.kind == "binary":
        return bool(min((target[both] == 1).sum(), (target[both] == 0).sum()) >= FEWEST)
    return outcome.kind != "time" or bool(events[both].sum() >= FEWEST)


def _compare(outcome: Outcome, name: str, feature: Floats, target: Floats, events: Bools, alpha: float) -> Association:
    both = ~np.isnan(feature) & ~np.isnan(target)
    feature, target, events = feature[both], target[both], events[both]
    count = len(feature)
    if outcome.kind == "binary":
        cases = int(target.sum())
        first, last = (power.least_auroc(cases, count - cases, level) for level in (power.ALPHA, alpha))
        p = mann_whitney(feature, target == 1)
        return Association(outcome.title, name, "AUROC", auroc(feature, target == 1), count, cases, first, last, p)
    if outcome.kind == "time":
        cases = int(events.sum())
        first, last = (power.least_hazard_ratio(cases, level) for level in (power.ALPHA, alpha))
        effect, p = hazard_ratio(feature, target, events)
        return Association(outcome.title, name, "hazard ratio", effect, count, cases, first, last, p)
    first, last = (power.least_correlation(count, level) for level in (power.ALPHA, alpha))
    p = float(stats.spearmanr(feature, target).pvalue)
    return Association(outcome.title, name, "Spearman", spearman(feature, target), count, count, first, last, p)


def auroc(feature: Floats, positive: Bools) -> Estimate:
    """How often the feature is higher in a case than in another; 0.5 is chance. Cases and others are resampled apart."""
    cases, others = feature[positive], feature[~positive]
    random = np.random.default_rng(SEED)
    value = _area(np.hstack([cases, others])[np.newaxis], len(cases))[0]
    drawn = (np.hstack([_drawn(random, cases, number), _drawn(random, others, number)]) for number in _blocks(len(feature)))
    estimate = of_resamples(float(value), np.concatenate([_area(values, len(cases)) for values in drawn]))
    if value not in (0.0, 1.0):
        return estimate
    bound = _least_of_perfect(len(cases), len(others))
    return Estimate(1.0, bound, 1.0) if value else Estimate(0.0, 0.0, 1 - bound)


def _least_of_perfect(cases: int, others: int) -> float:
    """Lower end of the 95 % interval of an AUROC of 1, whose resamples are all perfect; Newcombe, Stat Med 2006, method 5."""
    weight, squared = (cases + others) / 2 - 1, stats.norm.ppf(LEVELS[1]) ** 2 / (cases * others)
    # the distance to 1 is as many standard errors, by the variance of Hanley and McNeil that this end has
    return float(brentq(lambda area: 1 - area - squared * area * (1 + weight * ((1 - area) / (2 - area) + area / (1 + area))), 0, 1))


def _blocks(count: int) -> list[int]:
    """Numbers of resamples that are looked at together, `RESAMPLES` in all, so that memory stays small with many patients."""
    size = min(RESAMPLES, max(1, BLOCK // count))
    return [min(size, RESAMPLES - start) for start in range(0, RESAMPLES, size)]


def _drawn(random: np.random.Generator, values: Floats, number: int) -> Floats:
    """`number` x N, with replacement."""
    return values[random.integers(len(values), size=(number, len(values)))]


def _area(values: Floats, cases: int) -> Floats:
    """AUROC of rows whose first `cases` are the cases."""
    ranks = stats.rankdata(values, axis=1)[:, :cases].sum(axis=1)
    area: Floats = (ranks - cases * (cases + 1) / 2) / (cases * (values.shape[1] - cases))
    return area


def mann_whitney(feature: Floats, positive: Bools) -> float:
    """P of the two-sided test."""
    return float(stats.mannwhitneyu(feature[positive], feature[~positive]).pvalue)


def spearman(feature: Floats, target: Floats) -> Estimate:
    """Rank correlation; resamples without two different values are left out."""
    random, count = np.random.default_rng(SEED), len(feature)
    chosen = (random.integers(count, size=(number, count)) for number in _blocks(count))
    drawn = np.concatenate([_correlation(feature[indices], target[indices]) for indices in chosen])
    return of_resamples(float(_correlation(feature[np.newaxis], target[np.newaxis])[0]), drawn[np.isfinite(drawn)])


def _correlation(first: Floats, second: Floats) -> Floats:
    """Of the ranks, by row."""
    a, b = (stats.rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (first, second))
    with np.errstate(invalid="ignore"):
        correlation: Floats = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return correlation


def hazard_ratio(feature: Floats, times: Floats, events: Bools) -> tuple[Estimate, float]:
    """Of a standard deviation more, by Cox's model with Wald's interval and test; NaN where it does not converge."""
    import pandas as pd
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError

    table = pd.DataFrame({"z": (feature - feature.mean()) / feature.std(ddof=1), "time": times, "event": events})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            row = CoxPHFitter().fit(table, "time", "event").summary.loc["z"]
    except (ConvergenceError, np.linalg.LinAlgError):
        return Estimate(float("nan"), None, None), float("nan")
    return Estimate(*(float(row[name]) for name in ("exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%"))), float(row["p"])


def upper_half(feature: Floats) -> Bools:
    """Patients above the median; where none is, because most have the highest value, those that have it."""
    above: Bools = feature > np.median(feature)
    return above if above.any() else feature == feature.max()


def log_rank(feature: Floats, times: Floats, events: Bools) -> float:
    """P of the log-rank test between the halves of patients by a feature."""
    from lifelines.statistics import logrank_test

    high = upper_half(feature)
    return float(logrank_test(times[high], times[~high], events[high], events[~high]).p_value)
