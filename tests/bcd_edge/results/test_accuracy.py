"""Accuracy from a sample that is anything but random: what it estimates is what all labels would have told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bcd_edge.results import accuracy
from bcd_edge.results.accuracy import estimate
from benchmarks.monitoring import clinic, truth


def test_with_every_label_it_is_the_plain_figure() -> None:
    answered, malignant = clinic(0, 40, 1.0)
    estimates = estimate(answered)
    for name, value in truth(answered, malignant).items():
        figure = estimates[name]
        assert figure is not None
        assert figure.value == pytest.approx(value)
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= figure.value <= figure.high


def test_weighting_undoes_what_triage_did_to_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "RESAMPLES", 50)
    answered, malignant = clinic(1, 3000, 0.05)
    estimates, expected = estimate(answered), truth(answered, malignant)
    for name, value in expected.items():
        figure = estimates[name]
        assert figure is not None
        assert figure.value == pytest.approx(value, rel=0.03, abs=0.01)
    chosen = answered.labelled
    naive = (answered.strata[chosen] >= 2)[answered.malignant[chosen]].mean()
    assert abs(naive - expected["sensitivity"]) > 0.1  # what the reviewed pictures alone would say


def test_intervals_hold_the_truth_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "RESAMPLES", 200)
    population, malignant = clinic(2, 50_000, 1.0)
    expected = truth(population, malignant)
    held = dict.fromkeys(("sensitivity", "specificity", "miss_rate"), 0)
    clinics = 60
    for seed in range(clinics):
        estimates = estimate(clinic(100 + seed, 120, 0.1)[0], seed)
        for name in held:
            figure = estimates[name]
            assert figure is not None
            assert figure.low is not None
            assert figure.high is not None
            held[name] += figure.low <= expected[name] <= figure.high
    assert all(count >= 0.88 * clinics for count in held.values()), held


def test_no_miss_among_few_audited_is_no_certainty() -> None:
    answered, _ = clinic(3, 100, 0.05)
    benign = answered.labelled & (answered.strata == 0)
    estimates = estimate(replace(answered, malignant=answered.malignant & ~benign))
    missed = estimates["miss_rate"]
    assert missed is not None
    assert missed.value == missed.low == 0
    assert missed.high is not None
    assert missed.high > 0.02


@pytest.mark.parametrize("stratum", range(4))
def test_a_kind_of_answer_without_a_label_leaves_the_figures_open(stratum: int) -> None:
    answered, _ = clinic(4, 50, 1.0)
    labelled = answered.labelled & (answered.strata != stratum)
    without = replace(answered, labelled=labelled, malignant=answered.malignant & labelled)
    assert set(estimate(without).values()) == {None}


def test_few_patients_give_no_interval() -> None:
    answered, _ = clinic(5, 4, 1.0)
    estimates = estimate(answered)
    assert all(figure is None or (figure.low, figure.high) == (None, None) for figure in estimates.values())
    assert accuracy.means(np.ones((3, 1)), np.array([0, 0, 1]))[0].low is None


def test_means_treat_patients_as_units() -> None:
    """A hundred pictures of each of ten patients tell as much as one of each, if a patient's are all alike."""
    values = np.random.default_rng(0).random(10)
    once, many = (accuracy.means(np.repeat(values, times)[:, None], np.repeat(np.arange(10), times))[0] for times in (1, 100))
    assert (many.value, many.low, many.high) == pytest.approx((once.value, once.low, once.high))
