"""What goes into a folder of results and comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one image, ready to be committed.

    Attributes:
        key: the image's name: for a watcher its path below the inbox.
        record: a classifier's record as plain values, and under `intake` patient, slide and times (ISO 8601).
        overlay: whether an overlay is to be drawn for it.
        is_link: the record is that of an earlier answer to the same content.
    """

    key: str
    record: dict[str, Any]
    overlay: bool = False
    is_link: bool = False

    @property
    def sha256(self) -> str:
        """Of the image file's bytes."""
        return str(self.record["sha256"])

    @property
    def bundle_sha256(self) -> str:
        return str(self.record["execution"]["bundle_sha256"])


@dataclass(frozen=True, slots=True)
class Committed:
    """An answer as the journal has it now.

    Attributes:
        answer: with the record that holds: another process may have answered this content first.
        same_as: the key under which the content was classified, where that is another answer.
        is_new: whether this key had no answer to this content before.
    """

    answer: Answer
    same_as: str | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class PendingOverlay:
    """An answered image without its overlay: where it lies in the inbox, or below the results as `target`."""

    sha256: str
    path: str
    target: str | None
    record: dict[str, Any]


def intake(*, seen: str, taken: str, answered: str, patient: str | None = None, slide: str | None = None, study: str | None = None) -> dict[str, Any]:
    """What a folder of results adds to a record, under the key `intake`: whose image it is, and when it came; `study` where a header said so."""
    return {"patient": patient, "slide": slide, "seen": seen, "taken": taken, "answered": answered, "study": study}
