"""How far `bcd-edge monitor` can be believed: simulated clinics in which the truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bcd_edge.results import drift
from bcd_edge.results.accuracy import Answered, estimate
from benchmarks.tables import Row, markdown, put, shown

MEASURES = 7  # as many as `monitor` looks at
PATIENTS, BEFORE, AFTER = 500, 200, 150
AUDITS = (0.05, 0.2)
FIGURES = ("sensitivity", "specificity", "miss_rate")

Bools = npt.NDArray[np.bool_]


def measure(clinics: int, out: Path | None) -> None:
    """Prints false alarms, delays and coverage, and puts them between the marks `monitoring` of `out`.

    Args:
        clinics: how many are simulated for each row.
        out: a Markdown file.
    """
    put(markdown(f"{clinics} simulated clinics per row", shown(_rows(clinics))), out, "monitoring")


def clinic(seed: int, patients: int, audit: float) -> tuple[Answered, Bools]:
    """Patients with many pictures each, that differ from each other, and which pictures are malignant.

    Every picture in review is reviewed, and this share of the others.
    """
    random = np.random.default_rng(seed)
    person = np.repeat(np.arange(patients), 1 + random.poisson(8, patients))
    malignant = (random.random(patients) < 0.5)[person]
    logit = random.normal(0, 0.8, patients)[person] + random.normal(0, 1, len(person)) + np.where(malignant, 1.2, -1.2)
    p = 1 / (1 + np.exp(-logit))
    strata = np.searchsorted([0.2, 0.4, 0.7], p, side="right")
    sampled = np.isin(strata, (1, 2)) | (random.random(len(p)) < audit)
    return Answered(person, strata, p, sampled, malignant & sampled, sampled), malignant


def truth(answered: Answered, malignant: Bools) -> dict[str, float]:
    """What all labels would tell."""
    called = answered.strata >= 2
    return {
        "sensitivity": float(called[malignant].mean()),
        "specificity": float((~called)[~malignant].mean()),
        "miss_rate": float((answered.strata == 0)[malignant].mean()),
        "brier": float(np.mean((answered.p_malignant - malignant) ** 2)),
        "observed_to_expected": float(malignant.sum() / answered.p_malignant.sum()),
    }


def _rows(clinics: int) -> Iterator[Row]:
    statistic = _statistic(np.random.default_rng(0).standard_exponential((PATIENTS, clinics * MEASURES)))
    bound = PATIENTS / drift.EVERY
    share = (statistic >= drift.EVERY).any(axis=0).mean()
    yield Row(f"nothing changes: a false alarm among {PATIENTS} patients", f"at most {bound:.1%}", f"{share:.1%}", f"{MEASURES} measures")
    for shift in (0.5, 1.0, 2.0):
        yield _found(clinics, shift)
    population = truth(*clinic(0, 50_000, 1.0))
    for audit in AUDITS:
        yield _coverage(clinics, audit, population)


def _statistic(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean over the measures, patients x clinics, of values patients x (clinics x measures)."""
    statistic = drift.shiryaev_roberts(drift.ranks(values))
    mean: npt.NDArray[np.float64] = statistic.reshape(len(values), -1, MEASURES).mean(axis=2)
    return mean


def _found(clinics: int, shift: float) -> Row:
    values = np.random.default_rng(1).standard_normal((BEFORE + AFTER, clinics, MEASURES))
    values[BEFORE:, :, 0] += shift
    over = _statistic(values.reshape(len(values), -1)) >= drift.EVERY
    over = over[:, ~over[:BEFORE].any(axis=0)]
    delays = 1 + over[BEFORE:].argmax(axis=0)[over.any(axis=0)]
    detail = f"after {np.median(delays):.0f} patients in the median; {BEFORE} patients before it" if len(delays) else "never"
    name = f"one of {MEASURES} measures moves by {shift:g} standard deviations: found within {AFTER} patients"
    return Row(name, "most" if shift >= 1 else "no promise", f"{len(delays) / over.shape[1]:.0%}", detail)


def _coverage(clinics: int, audit: float, population: dict[str, float]) -> Row:
    held = dict.fromkeys(FIGURES, 0)
    counted = 0
    for seed in range(clinics):
        estimates = estimate(clinic(seed + 1, 120, audit)[0], seed)
        counted += estimates["sensitivity"] is not None
        for name in FIGURES:
            figure = estimates[name]
            if figure and figure.low is not None and figure.high is not None:
                held[name] += figure.low <= population[name] <= figure.high
    shares = [f"{name.replace('_', ' ')} {held[name] / max(1, counted):.1%}" for name in FIGURES]
    name = f"120 patients, {audit:.0%} audited: intervals that hold the truth"
    return Row(name, "95 %", ", ".join(shares), f"{clinics - counted} clinics had too few labels for a figure")
