"""CSV for Excel: UTF-8 with a byte order mark, and no text that Excel would evaluate as a formula; otherwise as `csv`."""

from __future__ import annotations

from typing import Any, Final, TextIO

from bcd_edge.outputs.formats.csv import CsvOutput
from bcd_edge.records import Record

BYTE_ORDER_MARK: Final = "\ufeff"
# First characters that make a spreadsheet evaluate a cell as a formula (OWASP, "CSV Injection").
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class ExcelOutput(CsvOutput):
    """See `bcd_edge.outputs.Output`."""

    def __init__(self, stream: TextIO) -> None:
        stream.write(BYTE_ORDER_MARK)
        super().__init__(stream)

    def cells(self, record: Record) -> dict[str, Any]:
        return {key: safe(value) for key, value in super().cells(record).items()}


def safe(value: Any) -> Any:
    """Puts an apostrophe, which marks text, before text that begins like a formula; returns other values unchanged."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def open(stream: TextIO) -> ExcelOutput:
    return ExcelOutput(stream)
