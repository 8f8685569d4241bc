"""Committing to a folder of results through its public functions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bcd_edge.errors import OutputError
from bcd_edge.results.daily import DailyTables
from bcd_edge.results.folder import Results
from bcd_edge.results.staging import Staging

from .conftest import answers, checked, rows


def test_a_committed_answer_is_in_journal_records_and_csv(results: Results, record: Callable[..., Any]) -> None:
    committed = results.commit("ward/a.png", record("ward/a.png"), patient="P7", slide="S1")
    assert (committed.same_as, committed.is_new) == (None, True)
    (path,) = (results.root / "records").rglob("*.json")
    assert json.loads(path.read_text()) == json.loads(json.dumps(committed.answer.record))
    (row,) = rows(results.root)
    assert (row["source"], row["intake.patient"], row["intake.slide"], row["decision"]) == ("ward/a.png", "P7", "S1", "review")
    assert checked(results.root).problems == ()


def test_a_content_has_one_answer_and_any_number_of_names(results: Results, record: Callable[..., Any]) -> None:
    first = results.commit("a.png", record("a.png"), patient="P1")
    for key in ("b.png", "b.png", "a.png"):
        again = results.commit(key, record(key), patient="P2")
        assert again.answer.record["timing_ms"] == first.answer.record["timing_ms"]
        assert again.same_as == "a.png"
    assert [(row["source"], row["intake.same_as"], row["intake.patient"]) for row in rows(results.root)] == [
        ("a.png", "", "P1"),
        ("b.png", "a.png", "P2"),
    ]
    assert checked(results.root).problems == ()


def test_a_failed_record_is_no_answer(results: Results, record: Callable[..., Any]) -> None:
    from dataclasses import replace

    with pytest.raises(OutputError, match="failed one"):
        results.commit("a.png", replace(record("a.png"), status="failed"))


@pytest.mark.parametrize("step", [(Staging, "publish"), (DailyTables, "append")])
def test_a_commit_that_fails_leaves_nothing_and_can_be_repeated(
    results: Results, record: Callable[..., Any], step: tuple[type, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results.commit("a.png", record("a.png", 1))
    real = getattr(*step)

    def full(*arguments: Any) -> None:
        real(*arguments)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*step, full)
        with pytest.raises(OSError, match="No space"):
            results.commit("b.png", record("b.png", 2))
    assert results.journal.connection.execute("SELECT COUNT(*) FROM images").fetchone()[0] == 1
    results.commit("b.png", record("b.png", 2))
    assert sorted(row["source"] for row in rows(results.root)) == ["a.png", "b.png"]
    assert max(answers(results.root).values()) == 1
    assert checked(results.root).problems == ()


def test_how_names_are_shown_is_shared_by_all_who_write_and_holds_for_earlier_rows(results: Results, record: Callable[..., Any]) -> None:
    results.commit("Doe-Jane.png", record("Doe-Jane.png", 1), patient="Doe")
    with Results.open(results.root, pseudonymise=True) as hidden:
        assert "Doe" not in "".join(path.read_text() for path in (results.root / "daily").iterdir())
        hidden.commit("Doe-John.png", record("Doe-John.png", 2), patient="Doe")
    with Results.open(results.root) as other:  # which says nothing of it
        other.commit("Doe-Jim.png", record("Doe-Jim.png", 3), patient="Doe")
    assert "Doe" not in "".join(path.read_text() for path in (results.root / "daily").iterdir())
    assert len({row["intake.patient"] for row in rows(results.root)}) == 1
    with Results.open(results.root, pseudonymise=False):
        assert {row["intake.patient"] for row in rows(results.root)} == {"Doe"}
    assert checked(results.root).problems == ()


def test_csvs_for_excel_have_a_byte_order_mark_and_no_formula(results: Results, record: Callable[..., Any]) -> None:
    results.commit("=HYPERLINK(1).png", record("=HYPERLINK(1).png", 1), patient="+49")
    with Results.open(results.root, excel=True) as excel:
        excel.commit("@b.png", record("@b.png", 2), patient="-1")
    (path,) = (results.root / "daily").iterdir()
    assert path.read_bytes().startswith(b"\xef\xbb\xbfsource,")
    assert [(row["source"], row["intake.patient"]) for row in rows(results.root)] == [("'=HYPERLINK(1).png", "'+49"), ("'@b.png", "'-1")]
    assert checked(results.root).problems == ()


def test_a_csv_whose_rewriting_was_killed_is_written_again(results: Results, record: Callable[..., Any]) -> None:
    for index in range(5):
        results.commit(f"{index}.png", record(f"{index}.png", index))
    (path,) = (results.root / "daily").iterdir()
    whole = path.read_bytes()
    longer = whole.replace(b".png", b"-with-a-longer-name.png")  # as of another setting, renamed and then not committed
    path.write_bytes(longer)
    with Results.open(results.root):
        assert path.read_bytes() == whole
    path.write_bytes(whole + b"torn,ro")
    with Results.open(results.root):
        assert path.read_bytes() == whole


def test_what_others_stage_is_not_removed_and_what_the_dead_left_is(results: Results, tmp_path: Path) -> None:
    temporary = results.root / "tmp"
    (temporary / "1.records_alive.json").write_bytes(b"of a process that runs")
    (temporary / "99999999.records_dead.json").write_bytes(b"of one that does not")
    with Results.open(results.root):
        assert [path.name for path in temporary.iterdir()] == ["1.records_alive.json"]
