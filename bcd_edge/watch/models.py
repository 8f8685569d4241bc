"""A file of the inbox on its way through a watcher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bcd_edge.watch.scanner import FileStat


@dataclass(frozen=True, slots=True)
class QueuedFile:
    """A file that is due.

    Attributes:
        stat: as it was when it was seen first.
        attempts: how many have failed.
        poison: it was in hand when a provider failed or the process was killed, and is tried alone.
        seen_at: ISO 8601.
        sha256: of an earlier content.
    """

    stat: FileStat
    attempts: int
    poison: bool
    seen_at: str
    sha256: str | None

    @property
    def path(self) -> str:
        return self.stat.path


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A file that got no answer: `state` is its new one, `due` when it is tried again on the monotonic clock, or None.

    `record` is the failed record of what goes to quarantine because of its content.
    """

    file: QueuedFile
    state: str
    reason: str | None
    due: float | None
    attempts: int = 0
    poison: bool = False
    sha256: str | None = None
    record: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class PendingDisposal:
    """An answered input that is still to be moved below the results, to `target`, or deleted if that is None."""

    id: int
    stat: FileStat
    sha256: str
    target: str | None
