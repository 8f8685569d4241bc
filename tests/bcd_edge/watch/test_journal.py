"""The journal's schema, and what it says of files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bcd_edge.errors import OutputError
from bcd_edge.watch import journal as journal_module
from bcd_edge.watch.journal import MIGRATIONS, NAME, Journal, connect
from bcd_edge.watch.models import Setback
from bcd_edge.watch.scanner import Look

AT = "2026-01-01T00:00:00.000+00:00"


def test_an_older_journal_is_brought_up_to_date_with_its_rows(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place.drop("a.png")
    place.run()
    monkeypatch.setattr(journal_module, "MIGRATIONS", (*MIGRATIONS, "ALTER TABLE images ADD COLUMN seen_by TEXT DEFAULT 'nobody';"))
    place.drop("b.png")
    place.run()
    assert place.query("PRAGMA user_version") == [len(MIGRATIONS) + 1]
    assert place.query("SELECT DISTINCT seen_by FROM images") == ["nobody"]
    assert place.done() == 2


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(tmp_path / NAME).close()
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE new (x); CREATE TABLE images (x);"))
        with pytest.raises(OutputError, match="cannot be used"):
            connect(tmp_path / NAME)
    with closing(connect(tmp_path / NAME)) as db:
        assert db.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'new'").fetchone()[0] == 0
        assert db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)


def test_a_later_journal_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    with closing(connect(tmp_path / NAME)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(OutputError, match="schema 99"):
        connect(tmp_path / NAME)
    (tmp_path / "other").write_bytes(b"no database at all" * 100)
    with pytest.raises(OutputError, match="cannot be used"):
        connect(tmp_path / "other")


def test_answers_are_flushed_and_looks_need_not_be(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / NAME, "b")) as journal:
        assert journal.connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        with journal._transaction(flushed=True):
            assert journal.connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
        with journal._transaction():
            assert journal.connection.execute("PRAGMA synchronous").fetchone()[0] == 1  # NORMAL


def test_a_file_is_due_after_it_held_still(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / NAME, "b")) as journal:
        first, second = Look("a.png", 1, 1, 1), Look("a.png", 2, 2, 2)
        assert journal.saw([first], 100.0, 2.0, AT) == 1
        assert journal.saw([first], 101.0, 2.0, AT) == 0
        assert journal.saw([second], 101.9, 2.0, AT) == 1
        assert journal.due(103.8, 9, suspect=False) == []
        (file,) = journal.due(103.9, 9, suspect=False)
        assert file.look == second


def test_a_change_while_a_file_is_in_hand_outlives_its_outcome(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / NAME, "b")) as journal:
        journal.saw([Look("a.png", 1, 1, 1)], 0.0, 0.0, AT)
        (file,) = journal.due(0.0, 1, suspect=False)
        journal.take([file], AT)
        journal.saw([Look("a.png", 9, 9, 9)], 1.0, 0.0, AT)
        journal.finish([], [Setback(file, "quarantined", "no image", None, 5)], "2026-01-01", 0, AT)
        (again,) = journal.due(1.0, 1, suspect=False)
        assert (again.look.size, again.tries) == (9, 0)


def test_a_deleted_file_that_comes_back_is_new(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / NAME, "b")) as journal:
        look = Look("a.png", 1, 1, 1)
        journal.saw([look], 0.0, 0.0, AT)
        (file,) = journal.due(0.0, 1, suspect=False)
        journal.take([file], AT)
        journal.finish([], [Setback(file, "gone", "deleted", None)], "2026-01-01", 0, AT)
        assert not journal.is_due(1.0)
        assert journal.saw([look], 2.0, 0.0, AT) == 1
        assert journal.is_due(2.0)


def test_the_next_looks_at_what_is_due_use_an_index(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / NAME, "b")) as journal:
        statements: list[str] = []
        journal.connection.set_trace_callback(statements.append)
        journal.due(1.0, 16, suspect=False)
        journal.is_due(1.0)
        journal.unsettled(0, 64)
        journal.waiting()
        journal.connection.set_trace_callback(None)
        for statement in statements:
            plan = " ".join(row["detail"] for row in journal.connection.execute(f"EXPLAIN QUERY PLAN {statement}"))
            assert "SCAN" not in plan.replace("SCAN files USING COVERING INDEX files_due", "").replace("SCAN files USING INDEX files_due", ""), plan


def test_sqlite_is_new_enough_for_what_is_used() -> None:
    assert sqlite3.sqlite_version_info >= (3, 24)  # ON CONFLICT DO UPDATE
