"""What was changed or lost is found, and what the journal has is restored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bcd_edge.results.folder import Results
from bcd_edge.results.verify import repair

from .conftest import checked


def test_records_and_csvs_are_restored_byte_for_byte(results: Results, record: Callable[..., Any]) -> None:
    for seed in range(6):
        results.commit(f"{seed}.png", record(f"{seed}.png", seed))
    paths = [*sorted((results.root / "records").rglob("*.json")), *(results.root / "daily").iterdir()]
    whole = {path: path.read_bytes() for path in paths}
    paths[0].unlink()
    paths[1].write_bytes(whole[paths[1]].replace(b"review", b"benign"))
    paths[2].write_bytes(b"")
    paths[-1].write_bytes(whole[paths[-1]].replace(b"3.png", b"3,png"))
    assert len(checked(results.root).problems) == 4
    assert repair(results) == 4
    assert {path: path.read_bytes() for path in paths} == whole
    assert checked(results.root).problems == ()
    assert repair(results) == 0


def test_an_answer_that_was_changed_in_a_csv_is_found_though_its_length_is_the_same(results: Results, record: Callable[..., Any]) -> None:
    results.commit("a.png", record("a.png"))
    (path,) = (results.root / "daily").iterdir()
    whole = path.read_bytes()
    other = {b"benign": b"review", b"review": b"benign", b"malignant": b"MALIGNANT"}
    decision = next(word for word in other if b"," + word + b"," in whole)
    path.write_bytes(whole.replace(b"," + decision + b",", b"," + other[decision] + b","))
    assert len(checked(results.root).problems) == 1
    assert repair(results) == 1
    assert path.read_bytes() == whole


def test_a_missing_folder_of_records_is_restored(results: Results, record: Callable[..., Any]) -> None:
    import shutil

    results.commit("a.png", record("a.png"))
    shutil.rmtree(results.root / "records")
    assert repair(results) == 1
    assert checked(results.root).problems == ()


def test_a_missing_overlay_is_drawn_again(results: Results, record: Callable[..., Any]) -> None:
    committed = results.commit("a.png", record("a.png"), overlay=True)
    results.journal.note_overlay(committed.answer.sha256, committed.answer.bundle_sha256, "records/lost.overlay.png")
    assert len(checked(results.root).problems) == 1
    assert repair(results) == 1
    assert checked(results.root).problems == ()
    assert results.journal.pending_overlay(committed.answer.bundle_sha256) is not None
