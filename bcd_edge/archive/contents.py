"""Where each content is answered first: an index from SHA-256 to shard and row, so that the same content is computed once."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

Counts = Counter[str]


class Place(NamedTuple):
    """A row of the data set: its shard, and its number there from 0."""

    shard: int
    row: int


class ContentIndex:
    """A claim holds a content for a row from when it is read until its shard is committed; for any number of threads.

    Claims are in memory. What is committed is in SQLite, with the counts of each shard; its file may be lost: then contents are computed again.
    """

    def __init__(self, path: Path, committed: Collection[int], counts_of: Callable[[int], Counts]) -> None:
        """Opens the index, and makes it agree with the shards that have their rows.

        Args:
            path: of the database; made if missing.
            committed: shards that have their rows.
            counts_of: the counts of such a shard.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._lock = threading.Lock()
        self._claims: dict[bytes, Place] = {}
        self._db.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; CREATE TABLE IF NOT EXISTS shards (number INTEGER PRIMARY KEY, counts TEXT);"
            "CREATE TABLE IF NOT EXISTS contents (content BLOB PRIMARY KEY, shard INTEGER, row INTEGER) WITHOUT ROWID;"
        )
        indexed = {number for (number,) in self._db.execute("SELECT number FROM shards")}
        self.forget(indexed.difference(committed))
        for number in set(committed) - indexed:
            self._db.execute("INSERT INTO shards VALUES (?, ?)", (number, json.dumps(counts_of(number))))

    def forget(self, shards: Collection[int]) -> None:
        """Takes out shards, which are to be done again."""
        with self._lock:
            for number in shards:
                self._db.execute("DELETE FROM contents WHERE shard = ?", (number,))
                self._db.execute("DELETE FROM shards WHERE number = ?", (number,))

    def claim(self, content: bytes, place: Place) -> Place | None:
        """The row that answers a content already, or will; None if this row is to do it."""
        return self.claim_many([(content, place)])[0]

    def claim_many(self, claims: Sequence[tuple[bytes, Place]]) -> list[Place | None]:
        """`claim` for several."""
        with self._lock:
            return [self._claim(content, place) for content, place in claims]

    def _claim(self, content: bytes, place: Place) -> Place | None:
        owner = self._claims.get(content)
        if owner is None:
            row = self._db.execute("SELECT shard, row FROM contents WHERE content = ?", (content,)).fetchone()
            owner = Place(*row) if row else None
        if owner is None or owner == place:
            self._claims[content] = place
            return None
        return owner

    def release(self, shard: int) -> None:
        """Gives up the claims of a shard that nobody works on any more."""
        with self._lock:
            self._claims = {content: place for content, place in self._claims.items() if place.shard != shard}

    def commit(self, shard: int, counts: Counts) -> None:
        """Keeps the claims of a shard; called before its rows are put into place."""
        with self._lock:
            owned = [(content, place.shard, place.row) for content, place in self._claims.items() if place.shard == shard]
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", owned)
            self._db.execute("INSERT OR REPLACE INTO shards VALUES (?, ?)", (shard, json.dumps(counts)))
            self._db.execute("COMMIT")
            for content, _, _ in owned:
                del self._claims[content]

    def counts(self) -> Counts:
        """Of all committed shards together."""
        with self._lock:
            rows = self._db.execute("SELECT counts FROM shards").fetchall()
        total: Counts = Counter()
        for (text,) in rows:
            total.update(json.loads(text))
        return total

    def failed_shards(self) -> set[int]:
        """Shards with failed rows."""
        with self._lock:
            rows = self._db.execute("SELECT number FROM shards WHERE json_extract(counts, '$.failed') > 0").fetchall()
        return {number for (number,) in rows}

    def close(self) -> None:
        """Closes the database."""
        self._db.close()
