"""Estimates with intervals: percentiles by ranks, means and rates by blocks, ratios by resampling blocks and by turns, AUROC by ranks.

Consecutive latencies are correlated (caches, clocks, other programs), so none of these treats samples as independent.
All intervals are of 95 % and describe this run; another run on another day can differ by more.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from scipy import special  # scipy.stats takes a second to import

from bcd_edge.estimates import FEWEST_GROUPS, LEVELS, RESAMPLES, Bools, Estimate, Floats, of_resamples, resample_groups

PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
BLOCKS: Final = 20
# Samples used for a resampled ratio: a longer run is thinned evenly, which changes its percentiles by less than their interval.
THINNED: Final = 20_000


def percentile(values: Floats, p: float) -> Estimate:
    """The smallest value that at least a share p of the values does not exceed, as in LoadGen.

    The interval is between two order statistics (David & Nagaraja, Order Statistics, 7.1): the count of values below the
    true percentile is binomial, with the effective number of independent samples as its trials.

    Args:
        values: at least one, in the order of measurement.
        p: 0.001 to 0.999.
    """
    ordered, count = np.sort(values), len(values)
    value = ordered[max(0, math.ceil(p * count) - 1)]
    effective = max(1, int(count / inefficiency((values <= value).astype(np.float64))))
    below, above = (_binomial(level, effective, p) for level in LEVELS)
    low, high = math.floor(below * count / effective), math.ceil((above + 1) * count / effective)
    return Estimate(float(value), float(ordered[low - 1]) if low >= 1 else None, float(ordered[high - 1]) if high <= count else None)


def _binomial(level: float, trials: int, p: float) -> int:
    """The smallest count that a binomial variable does not exceed with a probability of at least `level`."""
    count = math.ceil(float(special.bdtrik(level, trials, p)))
    fits_below = count > 0 and special.bdtr(count - 1, trials, p) >= level
    return count - 1 if fits_below else count


def inefficiency(values: Floats) -> float:
    """Statistical inefficiency: consecutive values per independent one, at least 1; the variance of block means over that of independent ones."""
    length = math.isqrt(len(values))
    variance = float(np.var(values))
    if length < 2 or variance == 0:
        return 1.0
    means = values[: len(values) // length * length].reshape(-1, length).mean(axis=1)
    return max(1.0, length * float(np.var(means, ddof=1)) / variance)


def mean(values: Floats) -> Estimate:
    """The mean, its interval from means of `BLOCKS` consecutive blocks and Student's t (batch means; Law, Simulation Modeling, 9.5)."""
    return _of_blocks(float(np.mean(values)), np.array([block.mean() for block in np.array_split(values, max(1, min(BLOCKS, len(values) // 2)))]))


def rate(ends_s: Floats, images: int, elapsed_s: float) -> Estimate:
    """Images per second of a run, its interval from equal stretches of time.

    Args:
        ends_s: time of each response, ascending, from the start.
        images: per query.
        elapsed_s: of the whole run.
    """
    borders = np.linspace(0, elapsed_s, max(1, min(BLOCKS, len(ends_s) // 2)) + 1)
    return _of_blocks(images * len(ends_s) / elapsed_s, _gained(borders, ends_s, images) / np.diff(borders))


def cost(at_s: Floats, spent: Floats, ends_s: Floats, images: int, elapsed_s: float) -> Estimate:
    """Consumption per image of a metered quantity, its interval from equal stretches of time.

    Args:
        at_s: times of the meter's readings, ascending, from the start.
        spent: the meter's count at these times.
        ends_s: as for `rate`, like the following.
        images: per query.
        elapsed_s: of the whole run.
    """
    blocks = max(1, min(BLOCKS, len(ends_s) // 2, len(at_s) // 4))
    borders = np.linspace(0, elapsed_s, blocks + 1)
    used, done = np.diff(np.interp(borders, at_s, spent)), _gained(borders, ends_s, images)
    return _of_blocks(float(used.sum()) / (images * len(ends_s)), used[done > 0] / done[done > 0])


def _gained(borders: Floats, ends_s: Floats, images: int) -> Floats:
    """Images processed between borders; between two responses the count grows linearly."""
    counted = np.interp(borders, np.concatenate([[0.0], ends_s]), images * np.arange(len(ends_s) + 1.0))
    return np.asarray(np.diff(counted), np.float64)


def _of_blocks(value: float, blocks: Floats) -> Estimate:
    if len(blocks) < 2:
        return Estimate(value, None, None)
    margin = float(special.stdtrit(len(blocks) - 1, LEVELS[1]) * np.std(blocks, ddof=1) / math.sqrt(len(blocks)))
    return Estimate(value, max(0.0, value - margin), value + margin)  # times, rates and costs are never negative


def drift(values: Floats) -> float:
    """By which share the median of the second half differs from that of the first; 0 for fewer than two values."""
    half = len(values) // 2
    return abs(float(np.median(values[half:]) / np.median(values[:half])) - 1) if half else 0.0


def ratio(before: Floats, after: Floats, p: float, seed: int = 0) -> Estimate:
    """The p-th percentile of `after` over that of `before`, its interval by a circular block bootstrap of both.

    Blocks of the square root of the number of samples keep correlated samples together (Politis & Romano 1992).
    """
    random = np.random.default_rng(seed)
    drawn = _resampled(after, p, random) / _resampled(before, p, random)
    low, high = np.quantile(drawn, LEVELS)
    return Estimate(percentile(after, p).value / percentile(before, p).value, float(low), float(high))


def rate_ratio(before_ends_s: Floats, after_ends_s: Floats, seed: int = 0) -> Estimate:
    """Time per response of after over before, from the times of responses; its interval by resampling equal stretches of time."""
    random = np.random.default_rng(seed)
    drawn, rates = [], []
    for ends in (before_ends_s, after_ends_s):
        blocks = _gained(np.linspace(0, ends[-1], max(1, min(BLOCKS, len(ends) // 2)) + 1), ends, 1) / ends[-1]
        drawn.append(random.choice(blocks, (RESAMPLES, len(blocks))).sum(axis=1))
        rates.append(len(ends) / float(ends[-1]))
    low, high = np.quantile(drawn[0] / drawn[1], LEVELS)
    return Estimate(rates[0] / rates[1], float(low), float(high))


def widened(estimate: Estimate, before: Floats, after: Floats) -> Estimate:
    """An interval of a ratio that also covers how much repeats of the same measurement differ.

    Samples of one turn share its state of the machine, so the turns are the independent units: Welch's interval of the mean
    difference of their logarithms. The result is the union of both intervals; an end is None with fewer than two turns.

    Args:
        estimate: the ratio `after` over `before` from all samples.
        before: the figure of each turn, positive.
        after: the same of the other run.
    """
    logs = np.log(before), np.log(after)
    if min(map(len, logs)) < 2:
        return Estimate(estimate.value, None, None)
    errors = [float(np.var(values, ddof=1)) / len(values) for values in logs]
    degrees = sum(errors) ** 2 / sum(error**2 / (len(values) - 1) for error, values in zip(errors, logs, strict=True)) if any(errors) else 1.0
    centre = float(logs[1].mean() - logs[0].mean())
    margin = float(special.stdtrit(degrees, LEVELS[1])) * math.sqrt(sum(errors))
    low, high = math.exp(centre - margin), math.exp(centre + margin)
    return Estimate(
        estimate.value, None if estimate.low is None else min(estimate.low, low), None if estimate.high is None else max(estimate.high, high)
    )


def _resampled(values: Floats, p: float, random: np.random.Generator) -> Floats:
    """`RESAMPLES` percentiles of values drawn with replacement in blocks."""
    values = values[:: math.ceil(len(values) / THINNED)]
    count = len(values)
    length, rank = math.ceil(math.sqrt(count)), max(0, math.ceil(p * count) - 1)
    along = np.arange(length)
    percentiles = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        chosen = (random.integers(0, count, math.ceil(count / length))[:, None] + along).ravel()[:count] % count
        percentiles[index] = np.partition(values[chosen], rank)[rank]
    return percentiles


def auroc(malignant: Bools, p_malignant: Floats) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney), ties counted half; NaN with only one class."""
    positives = int(malignant.sum())
    negatives = len(malignant) - positives
    if not positives or not negatives:
        return float("nan")
    _, value, counts = np.unique(p_malignant, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[value]
    return float((ranks[malignant].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def scores(malignant: Bools, p_malignant: Floats, groups: list[str], threshold: float, seed: int = 0) -> dict[str, Estimate]:
    """AUROC and accuracy, their intervals from resampling whole groups (patients), whose images are correlated.

    With fewer than `FEWEST_GROUPS` groups of a label there is no interval: there are too few distinct resamples.

    Args:
        malignant: N labels, both classes among them.
        p_malignant: N calibrated probabilities, 0..1.
        groups: N names.
        threshold: at or above it an image is predicted malignant.
        seed: for resampling.
    """
    correct = (p_malignant >= threshold) == malignant
    values = {"auroc": auroc(malignant, p_malignant), "accuracy": float(correct.mean())}
    names = np.array(groups)
    if min(len(np.unique(names[malignant == label])) for label in (False, True)) < FEWEST_GROUPS:
        return {name: Estimate(value, None, None) for name, value in values.items()}
    drawn = resample_groups(malignant, names, seed)
    areas = np.array([auroc(malignant[chosen], p_malignant[chosen]) for chosen in drawn])
    shares = np.array([correct[chosen].mean() for chosen in drawn])
    return {"auroc": of_resamples(values["auroc"], areas), "accuracy": of_resamples(values["accuracy"], shares)}
