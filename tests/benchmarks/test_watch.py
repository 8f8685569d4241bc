"""Fault injection into a watched folder at a small size; `python -m benchmarks watch --full` is the full one."""

from __future__ import annotations

import os
import re
from contextlib import closing
from pathlib import Path

import pytest

from bcd_edge.results.journal import Journal, connect
from benchmarks import fault_injection, two_writers, watch

SEED = 8
START, END = "<!-- watch -->", "<!-- /watch -->"


def test_crashes() -> None:
    assert fault_injection.crashes(120, 3, SEED).ratio.startswith("120 done; 0 lost, 0 doubled, 0 torn")


def test_two_writers() -> None:
    assert two_writers.second_writer(120, 4, SEED).ratio.startswith("120 done; 0 lost, 0 doubled, 0 torn")


def test_misbehaving_writers() -> None:
    assert fault_injection.writers(64, SEED, 32).ratio.startswith("0 answers from a partial file")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
@pytest.mark.parametrize("min_free", [0, 1_000_000])
def test_full_disk(min_free: int) -> None:
    row = fault_injection.full_disk(SEED, min_free=min_free)
    if row.ratio == "not measured":
        pytest.skip(row.detail)
    assert row.ratio == "recovered, nothing lost"


def test_unreadable_files() -> None:
    assert fault_injection.unreadable_files(SEED).ratio == "recovered, nothing lost"


def test_vanishing_inbox() -> None:
    assert fault_injection.vanishing_inbox(SEED).ratio == "recovered, nothing lost"


def test_the_cost_of_the_journal_is_that_of_answers_which_are_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < float(watch.overhead(256).ratio.removesuffix(" ms")) < 1000
    monkeypatch.setattr(Journal, "insert_image", lambda *_, **options: None)
    with pytest.raises(AssertionError):
        watch.overhead(256)


def test_memory_is_that_of_a_watcher_which_answered_every_file() -> None:
    row = watch.memory(100, SEED)
    tenth, last = (int(number) for number in re.findall(r"(\d+) MiB", row.detail))
    assert 20 < tenth < 1000, "an interpreter with OpenCV needs more than 20 MiB"
    assert abs(int(row.ratio.removesuffix(" MiB")) - (last - tenth)) <= 1


def test_throughput_is_that_of_all_images_from_the_first_taken_to_the_last_answered(tmp_path: Path) -> None:
    row = watch.throughput(4, turns=1)
    ours, theirs = (float(number) for number in re.findall(r"(?:: |predict )([\d.]+)", row.detail))
    assert abs(float(row.ratio.removesuffix(" %")) - 100 * ours / theirs) < 100 / theirs + 2  # the detail is rounded
    with closing(connect(tmp_path / "journal.sqlite3")) as journal:
        for second in (10, 12, 17):
            times = (f"2026-01-01T00:00:{second}.000+00:00", f"2026-01-01T00:00:{second + 3}.500+00:00")
            journal.execute("INSERT INTO images (sha256, bundle_sha256, state, taken_at, ended_at) VALUES (?, 'b', 'done', ?, ?)", (second, *times))
    assert watch._seconds(tmp_path) == 10.5


def test_accounts_find_what_is_lost_or_doubled(tmp_path: Path) -> None:
    inbox, results = tmp_path / "inbox", tmp_path / "results"
    inbox.mkdir()
    wanted = fault_injection.drop(inbox, SEED, 3)
    with fault_injection.watching(inbox, results):
        fault_injection.until(lambda: fault_injection.answered(results) == 3, "three answers")
    fault_injection.check_accounts(results, wanted)
    with pytest.raises(AssertionError, match="1 lost among the rows"):
        fault_injection.check_accounts(results, wanted | {"0" * 64})
    record = next((results / "records").rglob("*.json"))
    record.with_name("again.json").write_bytes(record.read_bytes())
    with pytest.raises(AssertionError, match="1 doubled among the records"):
        fault_injection.check_accounts(results, wanted)


def test_the_document_has_the_marks() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert text.count(START) == text.count(END) == 1
