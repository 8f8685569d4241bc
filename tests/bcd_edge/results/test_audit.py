"""The audit finds every change of an entry, and of a review."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcd_edge.errors import UsageError
from bcd_edge.results import audit, reviews
from bcd_edge.results.folder import Results

Row = tuple[Any, ...]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    with Results.open(tmp_path_factory.mktemp("audit") / "results") as results:
        for number in range(8):
            audit.add(results, "view", who=f"Dr {number % 3}", address="10.0.0.7", about=f"{number:064x}", seconds=number)
        yield results


@pytest.fixture(scope="module")
def rows(folder: Results) -> list[Row]:
    return [tuple(row) for row in folder.journal.connection.execute("SELECT * FROM audit ORDER BY id")]


def verified(rows: list[Row], *, noted: tuple[str, ...] = (), issued: int = 8) -> audit.Chain:
    """Of a journal that holds these entries instead, written by somebody whom no trigger stops."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        db.executescript(
            """CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, entry TEXT, sha256 TEXT, uid TEXT);
               CREATE TABLE reviews (id INTEGER, uid TEXT); CREATE TABLE sign_outs (id INTEGER, uid TEXT);"""
        )
        db.executemany("INSERT INTO audit VALUES (?, ?, ?, ?)", rows)
        db.execute("UPDATE sqlite_sequence SET seq = ?", (issued,))
        return audit.verify(db, noted)


def test_an_unchanged_chain_is_in_order(folder: Results, rows: list[Row]) -> None:
    assert audit.verify(folder.journal.connection) == audit.Chain(8, f"8:{rows[-1][2]}", ()) == verified(rows, noted=(f"3:{rows[2][2]}",))
    assert audit.head(folder.journal.connection) == f"8:{rows[-1][2]}"


@given(at=st.integers(0, 7), column=st.integers(1, 2), position=st.integers(0, 10_000), letter=st.characters())
def test_any_changed_character_is_found(rows: list[Row], at: int, column: int, position: int, letter: str) -> None:
    text = rows[at][column]
    position %= len(text)
    changed = text[:position] + letter + text[position + 1 :]
    row = (*rows[at][:column], changed, *rows[at][column + 1 :])
    assert bool(verified([*rows[:at], row, *rows[at + 1 :]]).problems) == (changed != text)


@given(removed=st.sets(st.integers(0, 7), min_size=1, max_size=7), renumbered=st.booleans())
def test_any_removed_entries_are_found(rows: list[Row], removed: set[int], renumbered: bool) -> None:
    left = [row for index, row in enumerate(rows) if index not in removed]
    if renumbered:
        left = [(number, *row[1:]) for number, row in enumerate(left, 1)]
    assert verified(left).problems


@given(order=st.permutations(range(8)))
def test_any_other_order_is_found(rows: list[Row], order: list[int]) -> None:
    moved = [(number, *rows[index][1:]) for number, index in enumerate(order, 1)]
    assert bool(verified(moved).problems) == (order != list(range(8)))


@given(at=st.integers(1, 8), twin=st.integers(0, 7))
def test_an_added_entry_is_found(rows: list[Row], at: int, twin: int) -> None:
    more = [*rows[:at], rows[twin], *rows[at:]]
    assert verified([(number, *row[1:]) for number, row in enumerate(more, 1)], issued=9).problems


@given(left=st.integers(0, 7), noted=st.integers(1, 8))
def test_an_end_that_was_cut_off_with_care_is_found_by_a_later_noted_head_alone(rows: list[Row], left: int, noted: int) -> None:
    """What a chain of hashes cannot do by itself."""
    if left:
        assert verified(rows[:left], issued=left).problems == ()
    assert bool(verified(rows[:left], noted=(f"{noted}:{rows[noted - 1][2]}",), issued=left).problems) == (noted > left)


def test_a_chain_that_was_made_anew_is_found_by_a_noted_head_alone(rows: list[Row]) -> None:
    previous, forged = audit.START, []
    for number, entry, _, uid in rows:
        entry = entry.replace("Dr 1", "Dr 9")
        previous = audit.chained(previous, entry)
        forged.append((number, entry, previous, uid))
    assert verified(forged).problems == ()
    assert verified(forged, noted=(f"8:{rows[-1][2]}",)).problems == ("Entry 8 is not the one whose hash was noted.",)


@pytest.mark.parametrize("head", ["", "8", "8:abc", f"-1:{'0' * 64}", f"x:{'0' * 64}"])
def test_what_is_no_head_is_refused(folder: Results, head: str) -> None:
    with pytest.raises(UsageError, match="is not a head"):
        audit.verify(folder.journal.connection, [head])


def test_entries_are_neither_changed_nor_deleted_through_the_journal(folder: Results) -> None:
    for statement in ("UPDATE audit SET entry = ''", "DELETE FROM audit"):
        with pytest.raises(sqlite3.IntegrityError, match="added, never"):
            folder.journal.connection.execute(statement)


def filed(results: Results, record: Callable[..., Any], uid: str) -> reviews.Review:
    answer = record("P1/a.png")
    results.commit("P1/a.png", answer, patient="P1")
    with results.journal.transaction(flushed=True):
        review = reviews.add(results, answer.sha256, "benign", reader="Dr Rao", uid=uid)
        audit.add_review(results, review.uid, who="Dr Rao", address="10.0.0.7")
    return review


def test_a_review_is_in_the_audit_once(results: Results, record: Callable[..., Any]) -> None:
    review = filed(results, record, "u1")
    assert filed(results, record, "u1") == review
    entries = list(audit.entries(results.journal.connection, about=review.sha256[:8], who="Dr Rao"))
    assert [(entry.action, entry.uid, entry.details["decision"], entry.address) for entry in entries] == [("review", "u1", "benign", "10.0.0.7")]
    reviews.sign_out(results, "P1", "benign", reader="Dr Rao", uid="u2")
    audit.add_sign_out(results, "u2", who="Dr Rao", address="10.0.0.7")
    reviews.undo(results, review.id, reader="Dr Rao", uid="u3")
    audit.add_review(results, "u3", who="Dr Rao", address="10.0.0.7")
    assert [(entry.action, entry.about) for entry in audit.entries(results.journal.connection, after=1)] == [
        ("sign out", "P1"),
        ("undo", review.sha256),
    ]
    assert audit.verify(results.journal.connection).problems == ()


def test_a_review_and_its_entry_are_committed_together(results: Results, record: Callable[..., Any]) -> None:
    answer = record("P1/a.png")
    results.commit("P1/a.png", answer, patient="P1")
    with pytest.raises(KeyboardInterrupt), results.journal.transaction(flushed=True):
        review = reviews.add(results, answer.sha256, "benign", reader="Dr Rao")
        audit.add_review(results, review.uid, who="Dr Rao", address="10.0.0.7")
        raise KeyboardInterrupt
    db = results.journal.connection
    assert reviews.of_case(db, answer.sha256) == list(audit.entries(db)) == []


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE reviews SET decision = 'malignant'", "The review 1 is not what its entry says"),
        ("UPDATE reviews SET comment = 'x'", "The review 1 is not what its entry says"),
        ("DELETE FROM reviews", "The review of entry 1 is missing"),
        ("INSERT INTO reviews SELECT 2, 'u9', sha256, bundle_sha256, path, patient, 'Dr No', decision, undoes, comment, reading, source, blinded,"
         " answer, p_malignant, audit, at, decided_at FROM reviews", "The review 2 has no entry"),
    ],
)  # fmt: skip
def test_a_review_that_is_not_as_its_entry_says_is_found(results: Results, record: Callable[..., Any], statement: str, problem: str) -> None:
    filed(results, record, "u1")
    db = results.journal.connection
    for trigger in ("reviews_change", "reviews_delete"):
        db.execute(f"DROP TRIGGER {trigger}")
    db.execute(statement)
    assert [text for text in audit.verify(db).problems if problem in text]


def test_a_reader_without_the_right_to_write_verifies(results: Results, tmp_path: Path) -> None:
    from bcd_edge.results.journal import NAME, reading

    audit.add(results, "view", who="Dr Rao", address="local")
    with reading(results.root / NAME) as db:
        assert audit.verify(db).entries == 1


WRITER = """
import itertools, sys
from pathlib import Path
from bcd_edge.results import audit
from bcd_edge.results.folder import Results
with Results.open(Path(sys.argv[1])) as results:
    for number in itertools.count():
        audit.add(results, "view", who=sys.argv[2], address="local", uid=f"{sys.argv[2]} {number}")
        print(f"{sys.argv[2]} {number}", flush=True)
"""


def test_writers_that_are_killed_leave_one_whole_chain_with_every_acknowledged_entry(tmp_path: Path) -> None:
    root = tmp_path / "results"
    Results.open(root).close()
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(root), name], stdout=subprocess.PIPE, text=True) for name in ("a", "b", "c")]
    for writer in writers:
        for _ in range(10):
            writer.stdout.readline()
    for writer in writers:
        writer.kill()
    acknowledged = {f"{name} 9" for name in ("a", "b", "c")} | {
        line.strip() for writer in writers for line in writer.communicate()[0].splitlines(True)
    }
    with Results.open(root) as results:
        assert audit.verify(results.journal.connection).problems == ()
        assert acknowledged <= {entry.uid for entry in audit.entries(results.journal.connection)}
