"""Probabilities, thresholds and the band in which a person looks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcd_edge.bundle import Decision
from bcd_edge.decision import decide, probability, with_threshold
from bcd_edge.errors import ProviderError, UsageError

RULE = Decision(threshold=0.4, review_low=0.2, review_high=0.7)
PROBABILITY = st.floats(0, 1)
LOGIT = st.floats(-1e4, 1e4, width=32)


def at(p: float, rule: Decision = RULE) -> tuple[str, str]:
    said = decide(probability(np.array([0, math.log(p / (1 - p))], np.float32), 1.0), rule)
    return said.label, said.decision


def test_the_four_zones() -> None:
    assert [at(p) for p in (0.1, 0.3, 0.5, 0.8)] == [("benign", "benign"), ("benign", "review"), ("malignant", "review"), ("malignant", "malignant")]


def test_known_probability() -> None:
    assert probability(np.array([1, 3], np.float32), 2.0) == pytest.approx(1 / (1 + math.exp(-1)))


@given(LOGIT, LOGIT, st.floats(0.05, 20))
def test_every_answer_is_consistent(benign: float, malignant: float, temperature: float) -> None:
    said = decide(probability(np.array([benign, malignant], np.float32), temperature), RULE)
    assert 0 <= said.p_malignant <= 1
    assert said.decision in (said.label, "review")
    assert said.reasons


@pytest.mark.parametrize("logits", [[math.nan, 0], [0, math.nan], [math.inf, 0], [0, -math.inf], [0], [0, 0, 0]])
def test_what_is_no_number_is_never_benign(logits: list[float]) -> None:
    with pytest.raises(ProviderError):
        probability(np.array(logits, np.float32), 1.0)


@given(threshold=PROBABILITY, p=st.floats(0.001, 0.999))
def test_a_threshold_never_takes_an_image_out_of_review(threshold: float, p: float) -> None:
    moved = with_threshold(RULE, threshold)
    assert moved.review_low <= moved.threshold <= moved.review_high
    if at(p)[1] == "review":
        assert at(p, moved)[1] == "review"


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_a_threshold_that_is_no_probability(threshold: float) -> None:
    with pytest.raises(UsageError):
        with_threshold(RULE, threshold)
