from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from bcd_edge.cohort import associations, power
from bcd_edge.cohort.associations import associate, auroc, hazard_ratio, mann_whitney, spearman
from bcd_edge.cohort.clinical import Outcome
from bcd_edge.estimates import Estimate

NAMES = ["nuclei_density", "nucleus_area_mean", "eosin_mean", "focus"]


def cohort(seed: int, patients: int = 60) -> tuple[list[str], np.ndarray]:
    return [f"P{number}" for number in range(patients)], np.random.default_rng(seed).normal(size=(patients, len(NAMES)))


def test_an_effect_is_the_field_s_own_and_its_interval_holds_it() -> None:
    random = np.random.default_rng(3)
    positive = np.arange(80) < 30
    feature = random.normal(size=80) + 0.8 * positive
    estimate = auroc(feature, positive)
    assert estimate.value == pytest.approx(roc_auc_score(positive, feature))
    assert estimate.low < stats.norm.cdf(0.8 / 2**0.5) < estimate.high
    assert auroc(-feature, positive).value == pytest.approx(1 - estimate.value)
    target = feature + random.normal(size=80)
    assert spearman(feature, target).value == pytest.approx(stats.spearmanr(feature, target).statistic)


def test_a_perfect_separation_is_not_certain() -> None:
    estimate = auroc(np.arange(20.0), np.arange(20) >= 10)
    assert estimate.value == 1
    assert estimate.low == pytest.approx(0.80, abs=0.005)
    assert auroc(-np.arange(40.0), np.arange(40) >= 35).high < 0.25, "five cases are few, but not all of them by chance"


def test_many_patients_are_resampled_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(4)
    feature, positive = random.normal(size=50), np.arange(50) < 20
    monkeypatch.setattr(associations, "BLOCK", 50 * 7)
    for estimate in (auroc(feature + positive, positive), spearman(feature, feature + random.normal(size=50))):
        assert estimate.low < estimate.value < estimate.high


def test_a_hazard_is_found_with_its_size() -> None:
    pytest.importorskip("lifelines")
    random = np.random.default_rng(5)
    feature = random.normal(10, 3, 400)
    times = random.exponential(10 / np.exp(0.5 * (feature - 10) / 3))
    events = times < 25
    estimate, p = hazard_ratio(feature, np.minimum(times, 25), events)
    assert estimate.low < np.exp(0.5) < estimate.high
    assert p < 1e-6
    scaled, _ = hazard_ratio(feature * 1000, np.minimum(times, 25), events)
    assert scaled.value == pytest.approx(estimate.value), "it is per standard deviation, whatever the unit"


def test_halves_are_never_empty() -> None:
    for feature, high in (
        ([1, 2, 3, 4], [False, False, True, True]),
        ([0, 1, 1, 1], [False, True, True, True]),
        ([0, 0, 0, 1], [False] * 3 + [True]),
    ):
        assert associations.upper_half(np.array(feature, float)).tolist() == high


def test_a_model_that_does_not_converge_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    names, values = cohort(6, 20)
    monkeypatch.setattr(associations, "hazard_ratio", lambda *_: (Estimate(np.nan, None, None), np.nan))
    death = Outcome("death", "time", {name: float(number + 1) for number, name in enumerate(names)}, dict.fromkeys(names, True))
    rows, notes = associate(NAMES[:1], values[:, :1], names, [death])
    assert (rows, notes) == ([], ["No hazard ratio, because Cox's model does not converge: Density of nuclei beside death."])


def test_a_planted_effect_stands_first_and_the_others_do_not() -> None:
    names, values = cohort(1)
    ill = {name: float(number % 2) for number, name in enumerate(names)}
    values[1::2, 1] += 1.5
    values[0, 2] = np.nan
    rows, notes = associate(NAMES, values, names, [Outcome("relapse", "binary", ill, level="yes", rest="no")])
    assert [row.feature for row in rows if row.is_found] == ["nucleus_area_mean"]
    assert rows[0].effect.value > 0.75
    assert {row.feature: row.patients for row in rows}["eosin_mean"] == 59
    assert all(row.q >= row.p for row in rows)
    assert list(rows[0].as_dict())[3:7] == ["measure", "effect", "low", "high"]
    assert list(rows[0].as_dict())[-1] == "p"
    assert notes == []


def test_too_few_patients_are_said() -> None:
    names, values = cohort(2, 12)
    rare = Outcome("rare", "binary", {name: float(number < 2) for number, name in enumerate(names)}, level="yes", rest="no")
    rows, notes = associate(NAMES, values, names, [rare])
    assert rows == []
    assert notes == ["Too few patients, 5 of each kind are needed: rare: yes against no."]


def test_the_least_effect_is_found_as_often_as_is_said() -> None:
    random = np.random.default_rng(7)
    shift = 2**0.5 * stats.norm.ppf(power.least_auroc(25, 35))
    found = [mann_whitney(np.append(random.normal(shift, 1, 25), random.normal(size=35)), np.arange(60) < 25) < 0.05 for _ in range(300)]
    assert 0.73 < np.mean(found) < 0.87
    correlation = 2 * np.sin(np.pi / 6 * power.least_correlation(40))
    pairs = random.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], (300, 40))
    assert 0.73 < np.mean([stats.spearmanr(pair[:, 0], pair[:, 1]).pvalue < 0.05 for pair in pairs]) < 0.87
