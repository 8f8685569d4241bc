"""A budget of power, kept on a recorded board's sensors whose current follows the rate."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from bcd_edge.cli import main
from bcd_edge.errors import ProviderError, UsageError
from bcd_edge.live import budget
from bcd_edge.live.budget import LONGEST_S, governor, parse_watts

from .conftest import field

# Of the simulated board: at rest, and for an answer.
IDLE_W, ANSWER_J, FASTEST_S = 5.0, 0.4, 0.04


def board(root: Path, watts: float) -> None:
    """The files of an INA3221 on a Jetson Orin Nano, see tests of the benchmark's energy."""
    chip = root / "sys/class/hwmon/hwmon1"
    chip.mkdir(parents=True, exist_ok=True)
    for name, content in {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": "5000", "curr1_input": str(round(watts / 5 * 1000))}.items():
        (chip / name).write_text(content + "\n")


def run(root: Path, budget_w: float, seconds: float) -> list[tuple[float, float]]:
    """Watts and interval after each second of a simulated run."""
    board(root, IDLE_W)
    power, at_s, readings = governor(budget_w, root), 0.0, []
    while at_s < seconds:
        interval_s = max(FASTEST_S, power.interval_s)
        board(root, IDLE_W + ANSWER_J / interval_s)
        at_s += interval_s
        power.observe(at_s)
        power.answered()
        readings.append((IDLE_W + ANSWER_J / interval_s, power.interval_s))
    return readings


def test_the_rate_is_lowered_until_the_budget_is_kept(tmp_path: Path) -> None:
    assert IDLE_W + ANSWER_J / FASTEST_S == 15
    later = run(tmp_path, 10, 60)[-100:]
    watts = [reading for reading, _ in later]
    assert 8.5 < sum(watts) / len(watts) <= 10
    assert max(watts) < 11.5


def test_within_the_budget_nothing_is_held_back(tmp_path: Path) -> None:
    assert {interval_s for _, interval_s in run(tmp_path, 20, 20)} == {0.0}


def test_a_budget_below_the_power_at_rest_slows_to_the_longest_interval(tmp_path: Path) -> None:
    assert run(tmp_path, 4, 200)[-1][1] == LONGEST_S


def test_the_command_shows_the_watts_and_answers_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Callable[..., Path]) -> None:
    board(tmp_path, 15)
    monkeypatch.setattr(budget, "governor", partial(governor, root=tmp_path))
    arguments = ["live", str(record([field()] * 75)), "--fps", "15", "--budget", "10W", "--format", "jsonl", "--provider", "null", "-q"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    updates = [json.loads(line) for line in done.stdout.splitlines()]
    assert {update["watts"] for update in updates} - {None} == {15.0}
    assert updates[-1]["dropped"] > 0


def test_a_budget_needs_a_meter(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="needs a power meter, and none can be read here"):
        governor(10, tmp_path)


@pytest.mark.parametrize(("text", "watts"), [("10W", 10), ("7.5", 7.5), (" 15 w", 15)])
def test_watts_are_read(text: str, watts: float) -> None:
    assert parse_watts(text) == watts


@pytest.mark.parametrize("text", ["", "0W", "ten", "-3"])
def test_what_is_no_power_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no power; write for example 10W"):
        parse_watts(text)
