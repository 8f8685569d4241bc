"""What a watcher's queue says of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bcd_edge.results.journal import NAME, Journal
from bcd_edge.watch.models import FailedAttempt
from bcd_edge.watch.queue import FileQueue
from bcd_edge.watch.scanner import FileStat

AT = "2026-01-01T00:00:00.000+00:00"


@contextmanager
def queued(folder: Path) -> Iterator[FileQueue]:
    with closing(Journal(folder / NAME)) as journal:
        yield FileQueue(journal)


def test_a_file_is_due_after_it_held_still(tmp_path: Path) -> None:
    with queued(tmp_path) as queue:
        first, second = FileStat("a.png", 1, 1, 1), FileStat("a.png", 2, 2, 2)
        assert queue.note_seen([first], 100.0, 2.0, AT) == 1
        assert queue.note_seen([first], 101.0, 2.0, AT) == 0
        assert queue.note_seen([second], 101.9, 2.0, AT) == 1
        assert queue.due(103.8, 9, poison=False) == []
        (file,) = queue.due(103.9, 9, poison=False)
        assert file.stat == second


def test_a_change_while_a_file_is_in_hand_outlives_its_outcome(tmp_path: Path) -> None:
    with queued(tmp_path) as queue:
        queue.note_seen([FileStat("a.png", 1, 1, 1)], 0.0, 0.0, AT)
        (file,) = queue.due(0.0, 1, poison=False)
        queue.take([file], AT)
        queue.note_seen([FileStat("a.png", 9, 9, 9)], 1.0, 0.0, AT)
        queue.note_failed(FailedAttempt(file, "quarantined", "no image", None, 5), AT)
        (again,) = queue.due(1.0, 1, poison=False)
        assert (again.stat.size, again.attempts) == (9, 0)


def test_a_deleted_file_that_comes_back_is_new(tmp_path: Path) -> None:
    with queued(tmp_path) as queue:
        seen = FileStat("a.png", 1, 1, 1)
        queue.note_seen([seen], 0.0, 0.0, AT)
        (file,) = queue.due(0.0, 1, poison=False)
        queue.take([file], AT)
        queue.note_failed(FailedAttempt(file, "gone", "deleted", None), AT)
        assert not queue.is_due(1.0)
        assert queue.note_seen([seen], 2.0, 0.0, AT) == 1
        assert queue.is_due(2.0)


def test_what_is_asked_in_every_round_uses_an_index(tmp_path: Path) -> None:
    with queued(tmp_path) as queue:
        statements: list[str] = []
        queue._db.set_trace_callback(statements.append)
        queue.due(1.0, 16, poison=False)
        queue.is_due(1.0)
        queue.pending_disposals(0, 64)
        queue.waiting()
        queue._db.set_trace_callback(None)
        for statement in statements:
            plan = " ".join(row["detail"] for row in queue._db.execute(f"EXPLAIN QUERY PLAN {statement}"))
            assert "SCAN" not in plan.replace("SCAN files USING COVERING INDEX files_due", "").replace("SCAN files USING INDEX files_due", ""), plan
