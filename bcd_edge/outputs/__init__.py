"""Output formats, one file of `formats` each. A format's module has one name:

def open(stream: TextIO) -> Output: ...
"""

from __future__ import annotations

from typing import Protocol

from bcd_edge.records import Record


class Output(Protocol):
    """Takes records one by one; `close` ends the document, also after an interruption."""

    def write(self, record: Record) -> None:
        """Adds one record."""

    def close(self) -> None:
        """Writes what belongs at the end; the stream stays open."""


def printable(text: str) -> str:
    """Without control characters or broken Unicode: a file's name must not steer the terminal."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
