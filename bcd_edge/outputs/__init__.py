"""Output formats. Each file of `formats` is a format; its module defines

def open(stream: TextIO) -> Output: ...
"""

from __future__ import annotations

from typing import Protocol

from bcd_edge.records import Record


class Output(Protocol):
    """Writes records one by one; `close` completes the document, also after an interruption."""

    def write(self, record: Record) -> None:
        """Adds one record."""

    def close(self) -> None:
        """Writes the end of the document; the stream stays open."""


def printable(text: str) -> str:
    """Escapes control characters and invalid Unicode, so that a file name cannot control the terminal."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
