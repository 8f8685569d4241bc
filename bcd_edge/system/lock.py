"""A lock between programs: SQLite's, which is the same on every system and is given back however its holder ends."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

# SQLite waits without listening to Ctrl-C, so it waits for so long at a time.
TURN_S: Final = 0.1


@contextmanager
def exclusive(path: Path, patience_s: float, waiting: Callable[[], object] = lambda: None) -> Iterator[bool]:
    """Holds a lock, and says whether: False where another program kept it for longer than `patience_s`.

    Args:
        path: the lock's file, made if it is not there and left there.
        patience_s: seconds.
        waiting: called once if another program holds it.

    Raises:
        sqlite3.OperationalError: the file cannot be opened, or its file system has no locks.
    """
    with closing(sqlite3.connect(path, isolation_level=None, timeout=TURN_S)) as connection:
        yield _taken(connection, time.monotonic() + patience_s, waiting)


def _taken(connection: sqlite3.Connection, ends: float, waiting: Callable[[], object]) -> bool:
    told = False
    while True:
        try:
            connection.execute("BEGIN EXCLUSIVE")
            return True
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
        if time.monotonic() > ends:
            return False
        if not told:
            waiting()
            told = True
