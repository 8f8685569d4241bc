"""A CSV table to rows of numbers; what is missing or out of range is named, and never guessed silently."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bcd_edge.errors import InputError, UsageError

# What spreadsheets and the UCI repository write where there is no value.
MISSING: Final = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})
DELIMITERS: Final = ",;\t"


@dataclass(frozen=True, slots=True)
class Feature:
    """A column of the model.

    Attributes:
        name: of the column.
        unit: of its values.
        low: the least possible value.
        high: the largest.
        impute: in the place of a missing value: the mean in training.
        scale: standard deviation in training.
        quantiles: values in training at 0, 5, ..., 100 %.
    """

    name: str
    unit: str
    low: float
    high: float
    impute: float
    scale: float
    quantiles: Sequence[float]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table.

    Attributes:
        source: path, line, and what is in the column `id` if there is one, as `table.csv:2 id 1000025`.
        cells: text of each feature.
        problem: why the cells may not be the features', else empty.
    """

    source: str
    cells: Mapping[str, str]
    problem: str = ""

    @property
    def sha256(self) -> str:
        """Of the features' names and cells, as JSON."""
        return hashlib.sha256(json.dumps(self.cells).encode()).hexdigest()

    def values(self, features: Sequence[Feature]) -> tuple[list[float], tuple[str, ...]]:
        """What the model gets, within the ranges and without gaps, and a sentence for each value that was not so.

        Raises:
            InputError: the row has more or fewer cells than the header, a cell is not a number, or every feature is missing.
        """
        if self.problem:
            raise InputError(self.problem)
        read = [_value(self, feature) for feature in features]
        if all(math.isnan(value) for value in read):
            raise InputError(f"The row has none of the {len(features)} features; fill it in, or delete it.")
        used = [_usable(feature, value) for feature, value in zip(features, read, strict=True)]
        return [value for value, _ in used], tuple(reason for _, reason in used if reason)


def _value(row: Row, feature: Feature) -> float:
    """The number in a cell; NaN where it is missing."""
    text = row.cells[feature.name].strip()
    if text.lower() in MISSING:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise InputError(f"{feature.name} is {text[:40]!r}, which is no number; give {feature.low:g} to {feature.high:g}, or nothing.")
    return value


def _usable(feature: Feature, value: float) -> tuple[float, str]:
    """A value for the model, and why it differs from the given one."""
    if math.isnan(value):
        return feature.impute, f"{feature.name} is missing; calculated with {feature.impute:.3g}, the mean in training: needs pathologist review"
    if feature.low <= value <= feature.high:
        return value, ""
    nearest = min(max(value, feature.low), feature.high)
    return nearest, f"{feature.name} is {value:g}, outside {feature.low:g} to {feature.high:g}; calculated with {nearest:g}: needs pathologist review"


def read(path: str, features: Sequence[Feature]) -> Iterator[Row]:
    """The rows of a CSV file with a header; `-` is standard input. Columns other than `id` and the features' are ignored, empty lines left out.

    Raises:
        UsageError: it cannot be read as a table, lacks a feature's column, or has no rows.
    """
    reader = csv.reader(io.StringIO(text := _text(path)), delimiter=_delimiter(text))
    try:
        header = [_normalised(name) for name in next(reader, [])]
        places = {feature.name: _place(path, header, feature) for feature in features}
        _all_there(path, places, text)
        is_empty = True
        for cells in reader:
            if any(cell.strip() for cell in cells):
                is_empty = False
                yield _row(path, reader.line_num, header, places, cells)
        if is_empty:
            raise UsageError(f"{path} has no rows below its header; fill it in and try again.")
    except csv.Error as error:
        raise UsageError(f"{path} cannot be read as CSV from line {reader.line_num} ({error}); save it as CSV (UTF-8) and try again.") from None


def _row(path: str, line: int, header: list[str], places: Mapping[str, int], cells: list[str]) -> Row:
    """A comma in a name or in a number would move every cell behind it into the next column, so the number of cells must be right."""
    problem = ""
    if len(cells) != len(header):
        problem = f"The row has {len(cells)} cells and the header {len(header)}; put text with a comma into quotes, and write decimals with a point."
    cells = cells + [""] * (len(header) - len(cells))
    key = cells[header.index("id")].strip() if "id" in header else ""
    return Row(f"{path}:{line}" + f" id {key}" * bool(key), {name: cells[place] for name, place in places.items()}, problem)


def _text(path: str) -> str:
    try:
        return (sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text; save the table as CSV (UTF-8) and try again.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); give a CSV file.") from None


def _delimiter(text: str) -> str:
    """The most frequent of comma, semicolon and tab in the header."""
    header = text.partition("\n")[0]
    return max(DELIMITERS, key=header.count)


def _normalised(name: str) -> str:
    """`Uniformity of Cell Size`, as the UCI repository writes it, is `uniformity_cell_size`."""
    return "_".join(word for word in name.lower().replace("-", " ").replace("_", " ").split() if word != "of")


def _place(path: str, header: list[str], feature: Feature) -> int:
    """The number of a feature's column; -1 if it is not there."""
    name = _normalised(feature.name)
    if header.count(name) > 1:
        raise UsageError(f"{path} has the column {feature.name} {header.count(name)} times; keep the right one.")
    return header.index(name) if name in header else -1


def _all_there(path: str, places: Mapping[str, int], text: str) -> None:
    absent = [name for name, place in places.items() if place < 0]
    if absent:
        raise UsageError(
            f"{path} has no column {', '.join(absent)}; its first line, now {text.partition(chr(10))[0].strip()[:60]!r}, must name "
            f"{', '.join(places)}, with commas, semicolons or tabs between. A column whose values are not known stays empty."
        )
