"""One watcher for a folder of results, and who it is."""

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
PATIENCE_S: Final = 2.0


@contextmanager
def locked(results: Path) -> Iterator[None]:
    """Holds the lock of a folder of results.

    Raises:
        UsageError: another watcher holds it; who, as far as its heartbeat tells.
        OutputError: it cannot be taken.
    """
    with ExitStack() as stack:
        try:
            held = stack.enter_context(exclusive(results / LOCK, PATIENCE_S))
        except sqlite3.OperationalError as error:
            raise OutputError(f"The lock {results / LOCK} cannot be taken ({error}); make room, or give another --out.") from None
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
    """What the watcher said of itself last; empty if nothing can be read."""
    try:
        found = json.loads((results / HEARTBEAT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def holder(results: Path) -> str:
    """Process, computer and start of the watcher, in words."""
    said = heartbeat(results)
    return f"process {said.get('pid', 'unknown')} on {said.get('host', 'an unknown computer')}, started {said.get('started', 'at an unknown time')}"
