"""The journal's schema, and who may open it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bcd_edge.errors import OutputError
from bcd_edge.results import schema
from bcd_edge.results.journal import NAME, Journal, connect, reading


def test_an_older_journal_is_brought_up_to_date_with_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(connect(tmp_path / NAME)) as db:
        db.execute("INSERT INTO images (sha256, bundle_sha256, state) VALUES ('a', 'b', 'done')")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "ALTER TABLE images ADD COLUMN seen_by TEXT DEFAULT 'nobody';"))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    with closing(connect(tmp_path / NAME)) as db:
        assert [tuple(row) for row in db.execute("SELECT sha256, seen_by FROM images")] == [("a", "nobody")]
        assert db.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(tmp_path / NAME).close()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE new (x); CREATE TABLE images (x);"))
        patch.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(OutputError, match="cannot be used"):
            connect(tmp_path / NAME)
    with closing(connect(tmp_path / NAME)) as db:
        assert db.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'new'").fetchone()[0] == 0
        assert db.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION


def _open(path: Path) -> None:
    connect(path).close()


def test_processes_that_make_the_journal_at_the_same_time_all_succeed(tmp_path: Path) -> None:
    processes = [multiprocessing.Process(target=_open, args=(tmp_path / NAME,)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6


@pytest.mark.parametrize(("version", "match"), [(99, "later bcd-edge .schema 99."), (1, "before 0.1.0")])
def test_journals_of_other_versions_are_refused(tmp_path: Path, version: int, match: str) -> None:
    with closing(connect(tmp_path / NAME)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(OutputError, match=match):
        connect(tmp_path / NAME)
    with pytest.raises(OutputError, match=match), reading(tmp_path / NAME):
        pass


def test_no_advice_for_a_damaged_journal_could_lose_data(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"no database at all" * 100)
    with pytest.raises(OutputError, match="cannot be used") as refused:
        connect(tmp_path / NAME)
    with pytest.raises(OutputError, match="cannot be read"), reading(tmp_path / NAME):
        pass
    assert not {"move", "delete", "remove"} & set(str(refused.value).split())


def test_answers_are_flushed_and_the_queue_need_not_be(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / NAME)) as journal:
        assert journal.connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        with journal.transaction(flushed=True):
            assert journal.connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
        with journal.transaction():
            assert journal.connection.execute("PRAGMA synchronous").fetchone()[0] == 1  # NORMAL


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    """Mounted over itself, read-only."""
    if os.geteuid() != 0 or subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True).returncode != 0:
        pytest.skip("mounting needs root")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("stopped", [True, False], ids=["after a stop", "copied while a watcher was running"])
def test_a_journal_on_read_only_media_is_read_with_everything_in_it(tmp_path: Path, stopped: bool) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "copy").mkdir()
    db = connect(tmp_path / "results" / NAME)
    db.execute("INSERT INTO images (sha256, bundle_sha256, state) VALUES ('a', 'b', 'done')")
    if stopped:
        db.close()
    for path in (tmp_path / "results").iterdir():
        if not path.name.endswith("-shm"):
            shutil.copy(path, tmp_path / "copy")
    with _read_only(tmp_path / "copy"), reading(tmp_path / "copy" / NAME) as copy:
        assert [row["sha256"] for row in copy.execute("SELECT sha256 FROM images")] == ["a"]
    db.close()


def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    connect(tmp_path / NAME).close()
    before = (tmp_path / NAME).read_bytes()
    with reading(tmp_path / NAME) as db, pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.execute("DELETE FROM images")
    assert (tmp_path / NAME).read_bytes() == before


def test_sqlite_is_new_enough_for_what_is_used() -> None:
    assert sqlite3.sqlite_version_info >= (3, 24)  # ON CONFLICT DO UPDATE
