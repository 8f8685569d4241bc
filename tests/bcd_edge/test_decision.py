"""Probabilities, thresholds and the review band."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bcd_edge.decision import DECISIONS, DecisionRule, probabilities
from bcd_edge.errors import ProviderError, UsageError

RULE = DecisionRule(threshold=0.4, review_low=0.2, review_high=0.7)
PROBABILITY = st.floats(0, 1)
LOGITS = arrays(np.float32, st.tuples(st.integers(0, 9), st.just(2)), elements=st.floats(-1e4, 1e4, width=32))


def at(p: float, rule: DecisionRule = RULE) -> tuple[str, str]:
    prediction = rule.predict(float(probabilities(np.array([[0, math.log(p / (1 - p))]], np.float32), 1.0)[0]))
    return prediction.label, prediction.decision


def test_the_four_zones() -> None:
    assert [at(p) for p in (0.1, 0.3, 0.5, 0.8)] == [("benign", "benign"), ("benign", "review"), ("malignant", "review"), ("malignant", "malignant")]


def test_known_probability() -> None:
    assert probabilities(np.array([[1, 3]], np.float32), 2.0) == pytest.approx(1 / (1 + math.exp(-1)))


@given(LOGITS, st.floats(0.05, 20))
def test_a_batch_is_decided_as_its_images_are(logits: np.ndarray, temperature: float) -> None:
    p = probabilities(logits, temperature)
    assert ((p >= 0) & (p <= 1)).all()
    assert p.tolist() == [float(probabilities(row[np.newaxis], temperature)[0]) for row in logits]
    predictions = [RULE.predict(float(value)) for value in p]
    assert [DECISIONS[index] for index in RULE.decide(p)] == [prediction.decision for prediction in predictions]
    assert [("benign", "malignant")[int(called)] for called in RULE.malignant(p)] == [prediction.label for prediction in predictions]
    for prediction in predictions:
        assert prediction.decision in (prediction.label, "review")
        assert prediction.reasons


@pytest.mark.parametrize("logits", [[[math.nan, 0]], [[0, math.nan]], [[0, 1], [math.inf, 0]], [[0, -math.inf]], [[0]], [[0, 0, 0]], [0, 1]])
def test_what_is_no_number_is_never_benign(logits: list[float]) -> None:
    with pytest.raises(ProviderError):
        probabilities(np.array(logits, np.float32), 1.0)
    assert DECISIONS[RULE.decide(np.array([math.nan]))[0]] == "review"


@given(threshold=PROBABILITY, p=st.floats(0.001, 0.999))
def test_a_threshold_never_takes_an_image_out_of_review(threshold: float, p: float) -> None:
    moved = RULE.with_threshold(threshold)
    assert moved.review_low <= moved.threshold <= moved.review_high
    if at(p)[1] == "review":
        assert at(p, moved)[1] == "review"


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_a_threshold_that_is_no_probability(threshold: float) -> None:
    with pytest.raises(UsageError):
        RULE.with_threshold(threshold)
