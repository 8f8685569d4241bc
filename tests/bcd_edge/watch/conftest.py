"""An inbox, results, and a watcher with the provider null, in this process or in one of its own."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bcd_edge.backends.fake import FakeBackend, Model, darkness
from bcd_edge.backends.providers import null
from bcd_edge.options import RunOptions
from bcd_edge.results.clock import Clock
from bcd_edge.results.verify import Verification, verify
from bcd_edge.watch.run import watch
from bcd_edge.watch.settings import ControlSignals, Settings, Stats

QUICK = ("--provider", "null", "--stable-for", "50ms", "--scan", "200ms", "--retry-after", "20ms", "--max-attempts", "3", "--min-free", "0")


def without_blue(batch_nhwc_u8: np.ndarray) -> bool:
    """Whether an image of a batch is that of `Place.drop_without_blue`; the warm-up's is black."""
    brightest = batch_nhwc_u8.max(axis=(1, 2))
    return bool(((brightest[:, 2] == 0) & (brightest[:, 0] > 0)).any())


@dataclass
class Place:
    """An inbox and results, and what can be done with them."""

    inbox: Path
    results: Path

    def picture(self, seed: str | int) -> bytes:
        """A PNG of random pixels, the same for the same seed."""
        pixels = np.random.default_rng(list(os.fsencode(str(seed)))).integers(0, 256, (12, 12, 3), np.uint8)
        return bytes(cv2.imencode(".png", pixels)[1].tobytes())

    def drop(self, *names: str, seed: int | None = None) -> None:
        """Writes a picture for each name; its content is that of the name, or of `seed`."""
        for name in names:
            path = self.inbox / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.picture(name if seed is None else seed))

    def drop_without_blue(self, name: str) -> None:
        """Writes a picture that a fake engine can recognise."""
        pixels = np.random.default_rng(5).integers(0, 256, (12, 12, 3), np.uint8) * np.array([0, 1, 1], np.uint8)
        (self.inbox / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())

    def settings(self, **how: Any) -> Settings:
        quick = Settings(
            self.inbox,
            self.results,
            {"options": RunOptions(provider="null")},
            stable_for_s=0.05,
            retry_s=0.02,
            max_attempts=3,
            events=False,
            once=True,
        )
        return replace(quick, **how)

    def run(self, clock: Clock | None = None, **how: Any) -> Stats:
        """Watches until everything is answered."""
        settings, stats = self.settings(**how), Stats()
        watch(settings, ControlSignals(), stats, lambda: settings, clock)
        return stats

    def command(self, *options: str) -> list[str]:
        return [sys.executable, "-m", "bcd_edge", "watch", str(self.inbox), "--out", str(self.results), *QUICK, *options]

    def tell(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        """A command below `watch`."""
        done = subprocess.run([sys.executable, "-m", "bcd_edge", "watch", name, str(self.results), *options], capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return done

    def query(self, sql: str, *values: object) -> list[Any]:
        """Rows of the journal; single columns without their tuples."""
        with closing(sqlite3.connect(self.results / "journal.sqlite3", timeout=30)) as db:
            rows = db.execute(sql, values).fetchall()
        return [row[0] if len(row) == 1 else row for row in rows]

    def done(self) -> int:
        if not (self.results / "journal.sqlite3").exists():
            return 0
        try:
            return int(self.query("SELECT COUNT(*) FROM images WHERE state = 'done'")[0])
        except sqlite3.OperationalError:  # being made
            return 0

    def rows(self) -> list[dict[str, str]]:
        """Of all days' CSVs."""
        texts = [path.read_text(encoding="utf-8") for path in sorted((self.results / "daily").iterdir())]
        return [row for text in texts for row in csv.DictReader(text.splitlines())]

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((self.results / "records").rglob("*.json"))]

    def verification(self) -> Verification:
        with closing(sqlite3.connect(self.results / "journal.sqlite3")) as db:
            db.isolation_level = None
            return verify(db, self.results, running=False)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "inbox").mkdir()
    return Place(tmp_path / "inbox", tmp_path / "results")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Model], None]:
    """Has the provider null run a function as its model, from the next watcher on; not for the black image of the warm-up."""

    def replace_null(model: Model) -> None:
        def warmed_up(batch_nhwc_u8: np.ndarray) -> np.ndarray:
            return (model if batch_nhwc_u8.any() else darkness)(batch_nhwc_u8)

        monkeypatch.setattr(null, "open", lambda *_: FakeBackend(warmed_up, provider="null"))

    return replace_null


@pytest.fixture
def interned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything that Python code interns from now on; it stays for ever in some Pythons: see `bcd_edge.watch`."""
    messages: list[str] = []
    intern = sys.intern

    def noting(text: str) -> str:
        messages.append(text)
        return intern(text)

    monkeypatch.setattr(sys, "intern", noting)
    return messages


@pytest.fixture
def until() -> Callable[[Callable[[], object], str], None]:
    """Waits for a condition, with words for what it is."""
    import time

    def wait(condition: Callable[[], object], awaited: str) -> None:
        ends = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < ends, f"waited in vain for: {awaited}"
            time.sleep(0.02)

    return wait
