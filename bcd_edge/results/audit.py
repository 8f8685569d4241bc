"""The audit: who saw and decided what, when, from where. Entries are added, never changed, and chained by hash.

The hash of an entry is SHA-256 over the hash of the one before it (64 zeros for the first) and the entry's text, which is JSON with
sorted keys and its own number. Whoever changes, removes, adds or moves an entry anywhere but at the end breaks the chain.

A chain cannot show that entries at its end are missing, nor that somebody with the right to write the file has made all of it anew:
there is no secret in it that such a person could not read. For that, `head` is noted outside this computer, and `verify` is given
it: the chain must still contain it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from bcd_edge.errors import UsageError
from bcd_edge.results.folder import Results

START: Final = "0" * 64
# So many problems are listed; a copy with every entry changed would fill the screen.
MOST_PROBLEMS: Final = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry.

    Attributes:
        id: 1, 2, 3 and so on.
        at: when, ISO 8601 with offset.
        who: the user, or a part of the program such as `command line`.
        address: from where: an IP address, or `local`.
        action: what was done: `view`, `review`, `undo`, `sign in`, `user added` …
        about: on what: a SHA-256, a patient, a user; empty if on nothing.
        uid: of the review or sign-out that it belongs to.
        details: plain values.
        sha256: hash of the chain up to here.
    """

    id: int
    at: str
    who: str
    address: str
    action: str
    about: str
    uid: str | None
    details: dict[str, Any]
    sha256: str


@dataclass(frozen=True, slots=True)
class Chain:
    """What `verify` found: the number of entries, `ID:SHA-256` of the last one, and sentences about what is wrong."""

    entries: int
    head: str
    problems: tuple[str, ...]


def add(results: Results, action: str, *, who: str, address: str, about: str = "", uid: str | None = None, **details: Any) -> None:
    """Adds an entry, inside the caller's transaction if there is one, so that both are committed or neither."""
    with results.journal.transaction(flushed=True) as db:
        last = db.execute("SELECT id, sha256 FROM audit ORDER BY id DESC LIMIT 1").fetchone()
        number, previous = (last["id"] + 1, last["sha256"]) if last else (1, START)
        own = {"id": number, "at": results.clock.text(), "who": who, "address": address, "action": action, "about": about}
        text = canonical(own | {"uid": uid, "details": details})
        db.execute("INSERT INTO audit VALUES (?, ?, ?, ?)", (number, text, chained(previous, text), uid))


def add_review(results: Results, uid: str, *, who: str, address: str) -> None:
    """Adds the entry of the review with this `uid`, with a hash of its row, so that a changed row is noticed; none if it has one.

    Belongs in the transaction that adds the review.
    """
    _add_row(results, "reviews", uid, who, address)


def add_sign_out(results: Results, uid: str, *, who: str, address: str) -> None:
    """As `add_review`, of a patient's sign-out."""
    _add_row(results, "sign_outs", uid, who, address)


def _add_row(results: Results, table: str, uid: str, who: str, address: str) -> None:
    with results.journal.transaction(flushed=True) as db:
        if db.execute("SELECT 1 FROM audit WHERE uid = ?", (uid,)).fetchone():
            return
        row = dict(db.execute(f"SELECT * FROM {table} WHERE uid = ?", (uid,)).fetchone())
        action = "sign out" if table == "sign_outs" else "undo" if row["decision"] == "undo" else "review"
        about = row["patient"] if table == "sign_outs" else row["sha256"]
        add(results, action, who=who, address=address, about=about, uid=uid, decision=row["decision"], row=table, row_sha256=_row_sha256(row))


def canonical(value: Any) -> str:
    """JSON in which equal values are equal text, in ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def chained(previous: str, text: str) -> str:
    """Hash of the chain that ends in an entry."""
    return hashlib.sha256(previous.encode() + text.encode()).hexdigest()


def head(db: sqlite3.Connection) -> str:
    """`ID:SHA-256` of the last entry, to be noted elsewhere."""
    row = db.execute("SELECT id, sha256 FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    return f"{row['id']}:{row['sha256']}" if row else f"0:{START}"


def entries(db: sqlite3.Connection, *, after: int = 0, about: str | None = None, who: str | None = None, limit: int = -1) -> Iterator[Entry]:
    """Entries with a larger id than `after`, the earliest first."""
    rows = db.execute("SELECT entry, sha256 FROM audit WHERE id > ? ORDER BY id", (after,))
    parsed = (Entry(**json.loads(row["entry"]), sha256=row["sha256"]) for row in rows)
    matching = (entry for entry in parsed if (about is None or entry.about.startswith(about)) and (who is None or entry.who == who))
    return islice(matching, None if limit < 0 else limit)


def verify(db: sqlite3.Connection, noted: Iterable[str] = ()) -> Chain:
    """Checks the whole chain, and the reviews and sign-outs against it.

    Args:
        db: the journal.
        noted: heads of the chain that were noted earlier, which it must still contain.

    Raises:
        UsageError: something noted is not a head.
    """
    heads = dict(map(_parse_head, noted))
    db.execute("BEGIN")  # everything below sees the same moment, beside writers
    try:
        chain, number, last = _check_chain(db, heads)
        problems = [*chain, *_check_end(db, number, last, heads), *_check_rows(db)]
    finally:
        db.execute("COMMIT")
    if len(problems) > MOST_PROBLEMS:
        problems = [*problems[:MOST_PROBLEMS], f"{len(problems) - MOST_PROBLEMS} more problems are not listed."]
    return Chain(number, f"{number}:{last}", tuple(problems))


def _parse_head(text: str) -> tuple[int, str]:
    number, _, sha256 = text.strip().partition(":")
    if not number.isdecimal() or len(sha256) != 64:
        raise UsageError(f"{text!r} is not a head of the audit; give NUMBER:SHA-256 as bcd-edge serve audit verify printed it.")
    return int(number), sha256


def _check_chain(db: sqlite3.Connection, heads: dict[int, str]) -> tuple[list[str], int, str]:
    """What is wrong with the entries, and number and hash of the last."""
    problems, number, previous = [], 0, START
    for row in db.execute("SELECT id, entry, sha256, uid FROM audit ORDER BY id"):
        if row["id"] != number + 1:
            problems.append(f"Entries {number + 1} to {row['id'] - 1} are missing.")
        if chained(previous, row["entry"]) != row["sha256"]:
            problems.append(f"Entry {row['id']} was changed, moved or added, or the one before it was removed.")
        elif not _agrees(row):
            problems.append(f"The number of entry {row['id']} or of its review was changed.")
        if heads.get(row["id"], row["sha256"]) != row["sha256"]:
            problems.append(f"Entry {row['id']} is not the one whose hash was noted.")
        number, previous = row["id"], row["sha256"]
    return problems, number, previous


def _agrees(row: sqlite3.Row) -> bool:
    entry = json.loads(row["entry"])
    return bool(entry["id"] == row["id"] and entry["uid"] == row["uid"])


def _check_end(db: sqlite3.Connection, number: int, last: str, heads: dict[int, str]) -> list[str]:
    """SQLite's own count of entries notices an end that was cut off carelessly; a noted head notices every one."""
    issued = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").fetchone()
    problems = [f"Entries {number + 1} to {issued[0]} are missing."] if issued and issued[0] > number else []
    missing = [noted for noted in sorted(heads) if noted > number]
    problems += [f"Entry {noted}, whose hash was noted, is missing." for noted in missing]
    return problems + ([f"Entry 0 has another hash than {START}."] if heads.get(0, START) != START else [])


def _check_rows(db: sqlite3.Connection) -> list[str]:
    problems = []
    for table, word in (("reviews", "review"), ("sign_outs", "sign-out")):
        query = f"""SELECT {table}.*, entry FROM {table} LEFT JOIN audit USING (uid) ORDER BY {table}.id"""
        for row in map(dict, db.execute(query)):
            entry = row.pop("entry")
            if entry is None:
                problems.append(f"The {word} {row['id']} has no entry: it was not filed by bcd-edge serve or consult.")
            elif json.loads(entry)["details"].get("row_sha256") != _row_sha256(row):
                problems.append(f"The {word} {row['id']} is not what its entry says: it was changed.")
        gone = db.execute(
            f"""SELECT id FROM audit WHERE uid IS NOT NULL AND json_extract(entry, '$.details.row') = ?
                AND NOT EXISTS (SELECT 1 FROM {table} WHERE {table}.uid = audit.uid)""",
            (table,),
        )
        problems += [f"The {word} of entry {row['id']} is missing." for row in gone]
    return problems


def _row_sha256(row: dict[str, Any]) -> str:
    plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
    return hashlib.sha256(canonical(plain).encode()).hexdigest()
