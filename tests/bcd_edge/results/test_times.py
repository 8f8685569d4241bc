"""Local days and times with their offset, through summer time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from bcd_edge.results import summary
from bcd_edge.results.clock import Clock, local_now, shown_time
from bcd_edge.results.folder import Results

from .conftest import rows

pytestmark = pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone of a process can be changed on POSIX alone")


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> Clock:
    """A clock that stands at a time given in UTC."""
    return Clock(wall=lambda: datetime.fromisoformat(text).replace(tzinfo=timezone.utc).astimezone())


@pytest.mark.parametrize(
    ("utc", "text", "local"),
    [
        ("2026-01-15T22:59:59", "2026-01-15T23:59:59.000+01:00", "2026-01-15 23:59:59 CET"),
        ("2026-01-15T23:00:00", "2026-01-16T00:00:00.000+01:00", "2026-01-16 00:00:00 CET"),
        ("2026-07-15T21:59:59", "2026-07-15T23:59:59.000+02:00", "2026-07-15 23:59:59 CEST"),
        ("2026-07-15T22:00:00", "2026-07-16T00:00:00.000+02:00", "2026-07-16 00:00:00 CEST"),
        ("2026-03-29T00:59:59", "2026-03-29T01:59:59.000+01:00", "2026-03-29 01:59:59 CET"),
        ("2026-03-29T01:00:00", "2026-03-29T03:00:00.000+02:00", "2026-03-29 03:00:00 CEST"),
        ("2026-10-25T00:30:00", "2026-10-25T02:30:00.000+02:00", "2026-10-25 02:30:00 CEST"),
        ("2026-10-25T01:30:00", "2026-10-25T02:30:00.000+01:00", "2026-10-25 02:30:00 CET"),
    ],
)
def test_times_and_days_are_local(utc: str, text: str, local: str) -> None:
    assert (at(utc).text(), at(utc).day(), shown_time(text)) == (text, text[:10], local)


def test_now_has_the_offset_of_the_system() -> None:
    now = local_now()
    assert now.utcoffset() is not None
    assert abs((now - datetime.now(timezone.utc)).total_seconds()) < 60


def test_a_csv_holds_a_local_day(tmp_path: Path, classifier: Any, record: Callable[..., Any]) -> None:
    for seed, utc in enumerate(("2026-10-24T21:59:00", "2026-10-24T22:01:00", "2026-10-25T22:59:00", "2026-10-25T23:01:00")):
        with Results.open(tmp_path, clock=at(utc)) as results:
            results.commit(f"{seed}.png", record(f"{seed}.png", seed))
    days = {path.stem: path.read_text().count(".png") for path in (tmp_path / "daily").iterdir()}
    assert days == {"2026-10-24": 1, "2026-10-25": 2, "2026-10-26": 1}
    assert [row["intake.answered"][-6:] for row in rows(tmp_path)] == ["+02:00", "+02:00", "+01:00", "+01:00"]


def test_the_page_names_the_time_zone(tmp_path: Path, record: Callable[..., Any]) -> None:
    with Results.open(tmp_path, clock=at("2026-07-15T22:30:00")) as results:
        results.commit("a.png", record("a.png"))
        page = summary.page(results.journal.connection, str, state="stopped", time=results.clock.text(), skipped={})
    assert page.count("2026-07-16 00:30:00 CEST") == 2
    assert "daily/2026-07-16.csv" in page
