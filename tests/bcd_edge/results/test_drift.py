"""The drift test: alarms as rare as it says where nothing changes, and soon where something does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcd_edge.results import drift


@given(st.lists(st.one_of(st.integers(0, 3).map(float), st.just(float("nan"))), max_size=40), st.integers(0, 5))
def test_ranks_are_those_among_the_values_until_then(values: list[float], seed: int) -> None:
    ranks = drift.ranks(np.array(values).reshape(-1, 1), seed)[:, 0]
    for index, value in enumerate(values):
        past = [other for other in values[: index + 1] if other == other]
        below, equal = sum(other < value for other in past), sum(other == value for other in past)
        if value == value:
            assert below / len(past) <= ranks[index] <= (below + equal) / len(past)
        else:
            assert ranks[index] == 0.5


def test_ranks_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 50, (200, 2)).astype(float)
    whole = drift.ranks(values)
    monkeypatch.setattr(drift, "BLOCK", 7)
    np.testing.assert_array_equal(drift.ranks(values), whole)


@pytest.mark.parametrize("ties", [False, True])
def test_false_alarms_are_as_rare_as_it_says(ties: bool) -> None:
    """Each column is a clinic in which nothing changes; among n patients, an alarm has a probability of at most n / every."""
    patients, clinics, every = 300, 1000, 1500
    values = np.random.default_rng(1).standard_exponential((patients, clinics))
    statistic = drift.shiryaev_roberts(drift.ranks(np.floor(3 * values) if ties else values))
    alarms = (statistic >= every).any(axis=0).mean()
    assert 0.02 < alarms < patients / every  # the bound is not an empty one


@pytest.mark.parametrize(("shift", "within"), [(1.0, 60), (2.0, 30), (-2.0, 30)])
def test_a_planted_change_is_found_soon_and_dated(shift: float, within: int) -> None:
    runs = []
    for seed in range(20):
        values = np.random.default_rng(seed).standard_normal((320, 7))
        values[200:, 3] += shift
        runs.append(drift.changes({f"{column}": values[:, column] for column in range(7)})[0])
    first = [changes[0] for changes in runs if changes]
    in_time = [change for change in first if change.measure == "3" and 200 <= change.alarm < 200 + within]
    assert len(in_time) >= 17
    assert np.median([abs(change.patient - 200) for change in in_time]) <= 6
    assert all((change.after > change.before) == (shift > 0) for change in in_time)


def test_after_an_alarm_it_begins_anew() -> None:
    values = np.random.default_rng(3).standard_normal(600)
    values[200:400] += 3
    changes, level = drift.changes({"a": values})
    assert [change.patient // 10 for change in changes] == [20, 40]
    assert 0 <= level < 1


def test_nothing_is_no_change() -> None:
    assert drift.changes({"a": np.empty(0)}) == ([], 0.0)
    assert drift.changes({"a": np.full(100, np.nan), "b": np.ones(100)})[0] == []
