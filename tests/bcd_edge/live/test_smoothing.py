"""Answers over time, and whether the picture stands still."""

from __future__ import annotations

import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcd_edge.decision import DecisionRule
from bcd_edge.live.smoothing import MARGIN, SPREAD, Smoothed, Smoother
from bcd_edge.live.stillness import Stillness
from bcd_edge.records import Execution, Record, Verdict

from .conftest import field

RULE = DecisionRule(0.5, 0.3, 0.7)
EXECUTION = Execution("null", "", "", "", "", "", "")


def record(p: float, decision: Verdict | None = None) -> Record:
    return Record("", None, "ok", None, None, p, decision or RULE.predict(p).decision, (), None, EXECUTION)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def answers(values: list[float], step_s: float = 0.05) -> list[Smoothed]:
    smoother = Smoother(RULE)
    return [smoother.add(record(p), index * step_s) for index, p in enumerate(values)]


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 3)), min_size=1, max_size=30), st.floats(0.2, 5))
def test_mean_and_spread_are_those_of_the_weighted_logits(values: list[tuple[float, float]], half_life_s: float) -> None:
    smoother, at_s, times = Smoother(RULE, half_life_s), 0.0, []
    for p, step_s in values:
        at_s += step_s
        times.append(at_s)
        smoothed = smoother.add(record(p), at_s)
    weights = 0.5 ** ((at_s - np.array(times)) / half_life_s)
    logits = np.array([logit(p) for p, _ in values])
    mean = np.average(logits, weights=weights)
    deviation = math.sqrt(np.average((logits - mean) ** 2, weights=weights))
    assert logit(smoothed.p_malignant) == pytest.approx(mean, abs=1e-6)
    assert logit(smoothed.high) == pytest.approx(mean + SPREAD * deviation, abs=1e-5)
    assert smoothed.low <= smoothed.p_malignant <= smoothed.high
    assert smoothed.frames == len(values)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_what_the_rule_calls_review_is_never_shown_as_an_answer(values: list[float]) -> None:
    for smoothed in answers(values):
        by_rule = RULE.predict(smoothed.p_malignant).decision
        assert smoothed.decision in (by_rule, "review")


def test_a_decision_at_the_edge_of_the_band_does_not_flicker() -> None:
    edge = logit(0.3)
    wobbling = [1 / (1 + math.exp(-(edge + 0.4 * MARGIN * (-1) ** index - 0.1 * MARGIN))) for index in range(200)]
    decisions = [smoothed.decision for smoothed in answers(wobbling)]
    assert sum(a != b for a, b in pairwise(decisions)) <= 1


def test_a_new_answer_takes_over_and_leaves_review_only_beyond_the_margin() -> None:
    decisions = [smoothed.decision for smoothed in answers([0.05] * 40 + [0.95] * 200)]
    changes = [decisions[0], *(after for before, after in pairwise(decisions) if before != after)]
    assert changes == ["benign", "review", "malignant"]


def test_frames_with_something_against_them_bring_review_and_it_stays_until_few_are_left() -> None:
    smoother = Smoother(RULE)
    flags = [True] * 30 + [False, True] * 30 + [False] * 80
    decisions = [smoother.add(record(0.05, "review" if flag else None), 0.05 * index).decision for index, flag in enumerate(flags)]
    assert decisions[:90] == ["review"] * 90
    assert decisions[-1] == "benign"


def test_another_field_begins_anew() -> None:
    smoother = Smoother(RULE)
    for index in range(50):
        smoother.add(record(0.95), 0.05 * index)
    smoother.reset()
    smoothed = smoother.add(record(0.05), 3)
    assert (smoothed.decision, smoothed.frames) == ("benign", 1)
    assert smoothed.p_malignant == pytest.approx(0.05)


def test_noise_and_light_are_still_and_a_moved_or_other_field_is_not() -> None:
    large = cv2.resize(field(), (960, 720), interpolation=cv2.INTER_CUBIC)
    rng = np.random.default_rng(0)

    def seen(picture: np.ndarray) -> np.ndarray:
        return cv2.resize(np.ascontiguousarray(picture), (192, 192), interpolation=cv2.INTER_AREA)

    base = seen(large[:700, :900])

    def is_still(picture: np.ndarray) -> bool:
        stillness = Stillness()
        assert not stillness.is_still(base)
        return stillness.is_still(picture)

    assert is_still(base)
    assert is_still(seen(np.clip(large[:700, :900] + rng.normal(0, 6, (700, 900, 3)), 0, 255).astype(np.uint8)))
    assert is_still(seen((large[:700, :900] * 0.96).astype(np.uint8)))
    assert not is_still(seen(large[20:720, 30:930]))
    assert not is_still(cv2.resize(field(9), (192, 192), interpolation=cv2.INTER_AREA))
