"""Says when pictures changed (a new scanner, another stain), with a false alarm rate that is known beforehand.

A conformal test martingale (Vovk, Petej, Nouretdinov, Ahlberg, Carlsson, Gammerman: Retrain or not retrain: conformal test
martingales for change-point detection, COPA 2021, PMLR 152). As long as patients are exchangeable, the smoothed rank of each new
one among those before it is uniform and independent of the earlier ranks, whatever the distribution. A bet against that gains
only where it is not so. The Shiryaev-Roberts statistic sums what the bet would have gained from every earlier patient on; minus
the number of patients it is a martingale, so that it reaches N once in N patients on average at most, where nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Patients to one false alarm, on average, at least; that there is one among n patients has a probability of at most n / EVERY.
EVERY: Final = 10_000
# Simple Jumper of that paper: a bet of each slope on the rank, and how much of the capital changes from one slope to another a patient.
SLOPES: Final = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
JUMP: Final = 0.01
BLOCK: Final = 512


@dataclass(frozen=True, slots=True)
class Change:
    """A change that was found.

    Attributes:
        measure: the one that changed most clearly.
        patient: index of the first patient after the change, as estimated.
        alarm: index of the patient whose pictures made it certain.
        before: median over the patients before the change, since the previous one.
        after: median over the patients from the change to the alarm.
    """

    measure: str
    patient: int
    alarm: int
    before: float
    after: float


def changes(measures: dict[str, Floats], every: int = EVERY, seed: int = 0) -> tuple[list[Change], float]:
    """The changes along a sequence of patients, and the statistic at its end, which is an alarm at 1.

    After an alarm the test begins anew with the next patient, so that what is found is each time a change from what had become usual.
    The statistic is the mean over the measures, which keeps the rate of false alarms for all of them together.

    Args:
        measures: a value for each patient in the order of time, N; NaN where a patient has none.
        every: patients to one false alarm.
        seed: of the random numbers that break ties.
    """
    values = np.stack(list(measures.values()), axis=1)
    names, start, changes, level = list(measures), 0, [], 0.0
    while start < len(values):
        statistic = shiryaev_roberts(ranks(values[start:], seed))
        over = np.flatnonzero(statistic.mean(axis=1) >= every)
        if not len(over):
            level = float(statistic[-1].mean()) / every
            break
        alarm = int(over[0])
        measure = int(statistic[alarm].argmax())
        patient, before, after = _split(values[start : start + alarm + 1, measure])
        changes.append(Change(names[measure], start + patient, start + alarm, before, after))
        start += alarm + 1
    return changes, level


def _split(values: Floats) -> tuple[int, float, float]:
    """The index where values most likely changed, and the medians on both sides: the largest standardised rank sum (Pettitt 1979)."""
    present = np.flatnonzero(~np.isnan(values))
    _, value, counts = np.unique(values[present], return_inverse=True, return_counts=True)
    centred = (np.cumsum(counts) - (counts - 1) / 2)[value] - (len(present) + 1) / 2
    sizes = np.arange(1, len(present))
    first = 1 + int(np.argmax(np.abs(np.cumsum(centred)[:-1]) / np.sqrt(sizes * sizes[::-1])))
    return int(present[first]), float(np.median(values[present[:first]])), float(np.median(values[present[first:]]))


def ranks(values: Floats, seed: int = 0) -> Floats:
    """Smoothed rank of each value among those up to it, N x F in 0..1: uniform and independent while they are exchangeable.

    Args:
        values: N x F; the rank of NaN is 0.5, on which no bet gains or loses.
        seed: of the random numbers that break ties.
    """
    random = np.random.default_rng(seed).random(values.shape)
    return np.stack([_ranks(column, ties) for column, ties in zip(values.T, random.T, strict=True)], axis=1)


def _ranks(values: Floats, random: Floats) -> Floats:
    present = np.flatnonzero(~np.isnan(values))
    known, ties = values[present], random[present]
    below, equal = np.empty(len(known)), np.empty(len(known))
    past = np.empty(0)
    for start in range(0, len(known), BLOCK):
        block = known[start : start + BLOCK]
        left, right = np.searchsorted(past, block, "left"), np.searchsorted(past, block, "right")
        earlier = np.tri(len(block), k=-1)
        below[start : start + BLOCK] = left + (earlier * (block[None] < block[:, None])).sum(axis=1)
        equal[start : start + BLOCK] = right - left + (earlier * (block[None] == block[:, None])).sum(axis=1)
        past = np.sort(np.concatenate([past, block]), kind="stable")
    ranked = np.full(len(values), 0.5)
    ranked[present] = (below + ties * (equal + 1)) / np.arange(1, len(known) + 1)
    return ranked


def shiryaev_roberts(ranks: Floats) -> Floats:
    """The Shiryaev-Roberts statistic of the Simple Jumper's martingale after each patient, N x F.

    Args:
        ranks: N x F, as `ranks` gives them.
    """
    statistic = np.empty(ranks.shape)
    capital = np.full((ranks.shape[1], len(SLOPES)), 1 / len(SLOPES))  # shares of it; their sum is 1
    level = np.zeros(ranks.shape[1])
    for index, row in enumerate(ranks):
        capital = ((1 - JUMP) * capital + JUMP / len(SLOPES)) * (1 + SLOPES * (row[:, None] - 0.5))
        gain = capital.sum(axis=1)
        capital /= gain[:, None]
        level = np.minimum((1 + level) * gain, 1e300)
        statistic[index] = level
    return statistic
