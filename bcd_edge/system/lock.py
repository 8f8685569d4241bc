"""A lock between processes: SQLite's, which works alike on every system and is released however its holder ends."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

# SQLite does not react to Ctrl-C while it waits, so it waits this long at a time.
POLL_S: Final = 0.1


@contextmanager
def exclusive(path: Path, timeout_s: float, on_wait: Callable[[], object] = lambda: None) -> Iterator[bool]:
    """Takes a lock and yields whether it is held: False if another process kept it for longer than `timeout_s`.

    Args:
        path: the lock file; created if missing, and never deleted.
        timeout_s: seconds.
        on_wait: called once if another process holds it.

    Raises:
        sqlite3.OperationalError: the file cannot be opened, or its file system does not support locks.
    """
    with closing(sqlite3.connect(path, isolation_level=None, timeout=POLL_S)) as connection:
        yield _acquire(connection, time.monotonic() + timeout_s, on_wait)


def _acquire(connection: sqlite3.Connection, deadline: float, on_wait: Callable[[], object]) -> bool:
    waited = False
    while True:
        try:
            connection.execute("BEGIN EXCLUSIVE")
            return True
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
        if time.monotonic() > deadline:
            return False
        if not waited:
            on_wait()
            waited = True
