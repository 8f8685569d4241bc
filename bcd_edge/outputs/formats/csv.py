"""Comma-separated values: a header, one row per image, dots for nested keys, reasons joined by `; `."""

from __future__ import annotations

import csv
from typing import Any, TextIO

from bcd_edge.records import Execution, Quality, Record, SlideSummary, Timing

COLUMNS = [
    column
    for key in Record.__slots__
    for column in {
        "timing_ms": [f"timing_ms.{name}" for name in Timing.__slots__],
        "execution": [f"execution.{name}" for name in Execution.__slots__],
        "quality": [f"quality.{name}" for name in Quality.__slots__],
        "slide": [f"slide.{name}" for name in SlideSummary.__slots__],
    }.get(key, [key])
]


class CsvOutput:
    """See `bcd_edge.outputs.Output`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        self._writer.writeheader()

    def write(self, record: Record) -> None:
        self._writer.writerow(self.cells(record))
        self._stream.flush()

    def cells(self, record: Record) -> dict[str, Any]:
        """A record's values by column."""
        return row(record.as_dict())

    def close(self) -> None:
        self._stream.flush()


def row(record: dict[str, Any]) -> dict[str, Any]:
    """A record's plain values by column."""
    cells = dict(record)
    for nested in ("timing_ms", "execution", "quality", "slide"):
        cells |= {f"{nested}.{key}": value for key, value in (cells.pop(nested) or {}).items()}
    for key in ("reasons", "quality.reasons"):
        cells[key] = "; ".join(cells.get(key, ()))
    return {key: _writable(value) if isinstance(value, str) else value for key, value in cells.items()}


def _writable(text: str) -> str:
    """Escapes what a row cannot contain: invalid Unicode, a single carriage return, and NUL (before Python 3.11)."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\r", "\\r").replace("\0", "\\x00")


def open(stream: TextIO) -> CsvOutput:
    return CsvOutput(stream)
