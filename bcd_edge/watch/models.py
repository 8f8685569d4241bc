"""What the journal takes and gives: files that are due, answers, setbacks, inputs that are still to be put away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bcd_edge.watch.scanner import Look


@dataclass(frozen=True, slots=True)
class File:
    """A file that is due, as the journal has it. `tries` counts failures, `suspect` is set where it was in hand when something broke."""

    look: Look
    tries: int
    suspect: bool
    seen_at: str
    sha256: str | None

    @property
    def path(self) -> str:
        return self.look.path


@dataclass(frozen=True, slots=True)
class Answer:
    """What one file was answered, ready for the journal.

    Attributes:
        file: what was read.
        sha256: of its bytes.
        record: as in the result; `record["watch"]` has patient, slide and times.
        result_sha256: of the result's bytes; None where an earlier answer is linked.
        same_as: the name under which the content was classified, for a link.
        after: what becomes of the input: `keep`, `move`, `delete`.
        target: where it is moved, below the results.
        overlay: whether one is wanted.
    """

    file: File
    sha256: str
    record: dict[str, Any]
    result_sha256: str | None
    same_as: str | None
    after: str
    target: str | None
    overlay: bool


@dataclass(frozen=True, slots=True)
class Setback:
    """A file that got no answer: `state` is where it stands now, `due` when it is tried again on the monotonic clock, or None.

    `record` is the failed record of what is quarantined for its content.
    """

    file: File
    state: str
    reason: str | None
    due: float | None
    tries: int = 0
    suspect: bool = False
    sha256: str | None = None
    record: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Unsettled:
    """An answered input that is still to be moved or deleted."""

    rowid: int
    look: Look
    sha256: str
    after: str
    target: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """An answered image without its overlay: where it lies in the inbox, or below the results as `target`."""

    sha256: str
    path: str
    target: str | None
    record: dict[str, Any]
