"""How right a bundle is where it runs, from pictures that were reviewed because it was unsure and from a random share of the others.

Readers see every uncertain answer and few of the confident ones, so the reviewed pictures alone would tell of the uncertain.
Each stratum of answers (benign, in review below or above the threshold, malignant) therefore counts as many pictures as
it has, with the shares that its reviewed ones show: Begg & Greenes, Assessment of diagnostic tests when disease verification is
subject to selection bias, Biometrics 39 (1983); as weights, N pictures / n reviewed, this is inverse probability weighting
(Alonzo & Pepe, Applied Statistics 54, 2005), normalised as in Hájek (1971).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from bcd_edge.estimates import FEWEST_GROUPS, RESAMPLES, Bools, Estimate, Floats, Indices, draw_groups, expected_calibration_error, of_resamples

STRATA: Final = ("benign", "review, below the threshold", "review, from the threshold", "malignant")
CALLED: Final = np.array([False, False, True, True])  # whether the label is malignant
FIGURES: Final = ("sensitivity", "specificity", "miss_rate", "brier", "ece", "observed_to_expected")
ATTEMPTS: Final = 10 * RESAMPLES


@dataclass(frozen=True, slots=True)
class Answered:
    """All pictures that a bundle answered, as columns of N.

    Attributes:
        patients: index of each one's patient.
        strata: index into `STRATA`.
        p_malignant: calibrated probability, 0..1.
        labelled: whether it was to be reviewed and readers agree on its label.
        malignant: that label; False where there is none.
        sampled: whether it was to be reviewed.
    """

    patients: Indices
    strata: Indices
    p_malignant: Floats
    labelled: Bools
    malignant: Bools
    sampled: Bools


def estimate(answered: Answered, seed: int = 0) -> dict[str, Estimate | None]:
    """`FIGURES` with 95 % intervals from resampling patients; None where the labels cannot tell.

    `miss_rate` is the share of malignant pictures that were answered benign, without review. `observed_to_expected` is the number
    of malignant pictures over the sum of the probabilities. There is no interval with fewer than `FEWEST_GROUPS` patients of a label.

    Where no reviewed picture of a stratum is malignant, or every one, resampling would claim to be certain. Its share is then
    drawn from the Jeffreys posterior (Brown, Cai & DasGupta, Statistical Science 16, 2001) with patients as the independent trials.
    """
    people, own = np.unique(answered.patients, return_inverse=True)
    counts = np.zeros((len(people), len(STRATA)))
    np.add.at(counts, (own, answered.strata), 1)
    sample = _Sample(replace(answered, patients=own), counts, np.random.default_rng(seed + 1))
    values = sample.measure(np.ones(len(counts)))
    if values is None:
        return dict.fromkeys(FIGURES)
    draws: list[dict[str, float]] = []
    for attempt, drawn in enumerate(draw_groups(len(counts), seed)):
        if len(draws) == RESAMPLES or attempt == ATTEMPTS or sample.fewest < FEWEST_GROUPS:
            break
        if again := sample.measure(np.bincount(drawn, minlength=len(counts)).astype(np.float64), smooth=True):
            draws.append(again)
    if len(draws) < RESAMPLES:
        return {name: Estimate(value, None, None) for name, value in values.items()}
    return {name: _containing(of_resamples(value, np.array([draw[name] for draw in draws]))) for name, value in values.items()}


class _Sample:
    """The pictures with a label, and how many there are of each stratum and patient."""

    def __init__(self, answered: Answered, counts: Floats, random: np.random.Generator) -> None:
        self.counts, self.random = counts, random
        chosen = answered.labelled
        self.patients, self.strata = answered.patients[chosen], answered.strata[chosen]
        self.p, self.malignant = answered.p_malignant[chosen], answered.malignant[chosen]
        own = [self.strata == stratum for stratum in range(len(STRATA))]
        self.people = np.array([len(np.unique(self.patients[these])) for these in own])
        self.fewest = min(len(np.unique(self.patients[self.malignant == side])) for side in (False, True))
        self.all_benign = np.array([not self.malignant[these].any() for these in own])
        self.all_malignant = np.array([bool(self.malignant[these].all()) for these in own]) & ~self.all_benign

    def measure(self, times: Floats, *, smooth: bool = False) -> dict[str, float] | None:
        """The figures where each patient counts so many times; None if a stratum has no label then, or a class no picture."""
        pictures, often = times @ self.counts, times[self.patients]
        labelled, malignant = (np.bincount(self.strata, weights, len(STRATA)) for weights in (often, often * self.malignant))
        if ((pictures > 0) & (labelled == 0)).any():
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            weight = np.where(labelled > 0, pictures / labelled, 0.0)
        share = np.divide(malignant, labelled, out=np.zeros(len(STRATA)), where=labelled > 0)
        if smooth:
            posterior = self.random.beta(0.5, self.people + 0.5)
            share = np.where(self.all_benign, posterior, np.where(self.all_malignant, 1 - posterior, share))
        ill, well = pictures * share, pictures * (1 - share)
        weights = often * weight[self.strata]
        if not (ill.sum() and well.sum() and (weights @ self.malignant)):
            return None
        return {
            "sensitivity": float(ill[CALLED].sum() / ill.sum()),
            "specificity": float(well[~CALLED].sum() / well.sum()),
            "miss_rate": float(ill[0] / ill.sum()),
            "brier": float(weights @ (self.p - self.malignant) ** 2 / weights.sum()),
            "ece": expected_calibration_error(self.malignant, self.p, weights),
            "observed_to_expected": float(weights @ self.malignant / (weights @ self.p)),
        }


def means(values: npt.ArrayLike, patients: Indices, seed: int = 0) -> list[Estimate]:
    """Means over pictures, their intervals from resampling patients.

    Args:
        values: N x F.
        patients: N, any numbers.
        seed: for resampling.
    """
    columns = np.asarray(values, np.float64)
    _, own = np.unique(patients, return_inverse=True)
    sums = np.zeros((int(own.max()) + 1, columns.shape[1] + 1))
    np.add.at(sums, own, np.column_stack([columns, np.ones(len(columns))]))
    centre = columns.mean(axis=0)
    if len(sums) < FEWEST_GROUPS:
        return [Estimate(float(value), None, None) for value in centre]
    resampled = np.array([sums[drawn].sum(axis=0) for drawn, _ in zip(draw_groups(len(sums), seed), range(RESAMPLES), strict=False)])
    return [of_resamples(float(value), drawn) for value, drawn in zip(centre, (resampled[:, :-1] / resampled[:, -1:]).T, strict=True)]


def _containing(estimate: Estimate) -> Estimate:
    """An interval that holds its value, which is at an end of it where all are of one class."""
    assert estimate.low is not None
    assert estimate.high is not None
    return Estimate(estimate.value, min(estimate.low, estimate.value), max(estimate.high, estimate.value))
