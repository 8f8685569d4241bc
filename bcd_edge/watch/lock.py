"""One watcher per folder of results, and which process it is."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final

from bcd_edge.errors import OutputError, UsageError
from bcd_edge.system.lock import exclusive

LOCK: Final = "watch.lock"
HEARTBEAT: Final = "heartbeat.json"
# A reader that only asks whether the lock is held must not keep a watcher from starting.
TIMEOUT_S: Final = 2.0


@contextmanager
def locked(results: Path) -> Iterator[None]:
    """Holds the watcher's lock of a folder of results; other writers do not need it.

    Raises:
        UsageError: another watcher holds it.
        OutputError: it cannot be taken.
    """
    with ExitStack() as stack:
        try:
            held = stack.enter_context(exclusive(results / LOCK, TIMEOUT_S))
        except sqlite3.OperationalError as error:
            raise OutputError(
                f"The lock {results / LOCK} cannot be taken ({error}); make room, or give this user permission to write there."
            ) from None
        if not held:
            raise UsageError(f"{results} has a watcher already ({holder(results)}); stop that one, or give another --out.")
        yield


def is_locked(results: Path) -> bool:
    """Whether a watcher holds the lock now."""
    if not (results / LOCK).exists():
        return False
    with closing(sqlite3.connect(results / LOCK, isolation_level=None, timeout=0)) as connection:
        try:
            connection.execute("SELECT * FROM sqlite_master").fetchall()
        except sqlite3.OperationalError:
            return True
    return False


def heartbeat(results: Path) -> dict[str, Any]:
    """The last heartbeat; empty if it cannot be read."""
    try:
        heartbeat = json.loads((results / HEARTBEAT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return heartbeat if isinstance(heartbeat, dict) else {}


def holder(results: Path) -> str:
    """Process, computer and start of the watcher, in words."""
    last = heartbeat(results)
    return f"process {last.get('pid', 'unknown')} on {last.get('host', 'an unknown computer')}, started {last.get('started', 'at an unknown time')}"
