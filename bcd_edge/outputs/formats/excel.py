"""CSV as Excel opens it: UTF-8 with a byte order mark, and no text that Excel would run as a formula; otherwise as `csv`."""

from __future__ import annotations

from typing import Any, Final, TextIO

from bcd_edge.outputs.formats.csv import CsvOutput
from bcd_edge.records import Record

BYTE_ORDER_MARK: Final = "\ufeff"
# OWASP, "CSV Injection": what makes a spreadsheet take a cell for a formula.
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class ExcelOutput(CsvOutput):
    """See `bcd_edge.outputs.Output`."""

    def __init__(self, stream: TextIO) -> None:
        stream.write(BYTE_ORDER_MARK)
        super().__init__(stream)

    def cells(self, record: Record) -> dict[str, Any]:
        return {key: safe(value) for key, value in super().cells(record).items()}


def safe(value: Any) -> Any:
    """Text that begins like a formula gets an apostrophe in front, which marks it as text; everything else stays as it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def open(stream: TextIO) -> ExcelOutput:
    return ExcelOutput(stream)
