"""The torture of a watched folder at a small size; `python -m benchmarks watch --full` is the full one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import fault_injection, watch

SEED = 8
START, END = "<!-- watch -->", "<!-- /watch -->"


def test_crashes() -> None:
    assert fault_injection.crashes(120, 3, SEED).ratio.startswith("120 done; 0 lost, 0 doubled, 0 torn")


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


def test_what_watching_costs_is_measured() -> None:
    assert watch.overhead(256).ratio.endswith(" ms")
    assert watch.memory(100, SEED).ratio.endswith(" MiB")
    assert watch.throughput(4, turns=1).ratio.endswith(" %")


def test_accounts_find_what_is_lost_or_doubled(tmp_path: Path) -> None:
    inbox, results = tmp_path / "inbox", tmp_path / "results"
    inbox.mkdir()
    wanted = fault_injection.drop(inbox, SEED, 3)
    with fault_injection.watching(inbox, results):
        fault_injection.until(lambda: fault_injection.answered(results) == 3, "three answers")
    fault_injection.accounts(results, wanted)
    with pytest.raises(AssertionError, match="1 lost among the rows"):
        fault_injection.accounts(results, wanted | {"0" * 64})
    record = next((results / "records").rglob("*.json"))
    record.with_name("again.json").write_bytes(record.read_bytes())
    with pytest.raises(AssertionError, match="1 doubled among the results"):
        fault_injection.accounts(results, wanted)


def test_the_document_has_the_marks() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert text.count(START) == text.count(END) == 1
