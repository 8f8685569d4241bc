"""The clinical table: a row or more per patient, its columns recognised by their values or as told."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from bcd_edge.errors import UsageError

Kind = Literal["binary", "category", "ordinal", "continuous"]
KINDS: Final = (*get_args(Kind), "ignore")
# What stands for a value that is not known, in any case of letters.
MISSING: Final = frozenset({"", "na", "n/a", "nan", "none", "null", "?", ".", "-", "unknown"})
YES, NO = (
    frozenset({"1", "1.0", "true", "yes", "y", "dead", "deceased", "event", "relapse"}),
    frozenset({"0", "0.0", "false", "no", "n", "alive", "censored", "none"}),
)
# Whole numbers with as many different values are grades; more is a measurement. More different words are free text.
MOST_LEVELS: Final = 10
FREE_TEXT: Final = "different texts"

Column = dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What features are compared with.

    Attributes:
        name: of the column, or of the pair of time and event.
        kind: how it is compared.
        values: patient to value: 0 or 1 of a binary one, the rank of an ordinal one, months or whatever the table has of a time.
        events: patient to whether the event was observed at that time, for a time to event.
        level: what 1 means in a binary outcome.
        rest: what 0 means.
        levels: what 0, 1, 2 and so on mean in an ordinal one whose values are words; empty where they are numbers.
    """

    name: str
    kind: Literal["binary", "ordinal", "continuous", "time"]
    values: Mapping[str, float]
    events: Mapping[str, bool] = field(default_factory=dict)
    level: str = ""
    rest: str = ""
    levels: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """How it is called on the page."""
        return f"{self.name}: {self.level} against {self.rest}" if self.kind == "binary" else self.name


@dataclass(frozen=True, slots=True)
class Clinical:
    """A clinical table by patient.

    Attributes:
        patients: those in it.
        columns: name to patient to text; None where it is missing, or where rows of one patient disagree.
        notes: what a reader should know of how it was read.
    """

    patients: frozenset[str]
    columns: Mapping[str, Column]
    notes: tuple[str, ...]

    def of(self, patients: Collection[str]) -> Clinical:
        """The same of those patients alone."""
        columns = {head: {patient: column[patient] for patient in patients if patient in column} for head, column in self.columns.items()}
        return Clinical(self.patients.intersection(patients), columns, self.notes)

    def renamed(self, naming: Callable[[str], str], kept: Container[str] = ()) -> Clinical:
        """The same with other names of patients, and without free text and dates, which may tell who they are.

        Args:
            naming: of patients.
            kept: columns that stay, whatever is in them.
        """
        columns = {
            head: {naming(patient): value for patient, value in column.items()}
            for head, column in self.columns.items()
            if head in kept or not _recognise(sorted({value for value in column.values() if value is not None})).endswith(FREE_TEXT)
        }
        return Clinical(frozenset(map(naming, self.patients)), columns, self.notes)


def read(path: Path, key: str = "patient") -> Clinical:
    """Reads a table of comma-, semicolon- or tab-separated values, or Parquet.

    Raises:
        UsageError: it cannot be read, or has no such column.
    """
    heads, rows = _rows(path)
    if key not in heads:
        has = f"it has {', '.join(heads[:8])}" if heads else "it is empty"
        raise UsageError(f"{path} has no column {key!r} ({has}); say with --key which one names the patient.")
    if several := [head for head in heads if heads.count(head) > 1]:
        raise UsageError(f"{path} has two columns {several[0]!r}; rename one.")
    values: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        if patient := (row[key] or "").strip():
            own = values.setdefault(patient, {head: set() for head in heads})
            for head in heads:
                if (text := (row[head] or "").strip()).lower() not in MISSING:
                    own[head].add(text)
    if not values:
        raise UsageError(f"{path} has no row with a {key}; give a table with a row per patient.")
    notes = []
    columns: dict[str, Column] = {}
    for head in heads:
        if head == key:
            continue
        columns[head] = {patient: next(iter(own[head])) if len(own[head]) == 1 else None for patient, own in values.items()}
        if several := sorted(patient for patient, own in values.items() if len(own[head]) > 1):
            notes.append(f"{head}: patients whose rows have different values are left out of it, {len(several)} in all.")
    return Clinical(frozenset(values), columns, tuple(notes))


def _rows(path: Path) -> tuple[list[str], list[dict[str, str | None]]]:
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            return table.column_names, [{name: None if value is None else str(value) for name, value in row.items()} for row in table.to_pylist()]
        return _separated(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise UsageError(f"The clinical table {path} is no text in UTF-8; save it as CSV in UTF-8, or as Parquet.") from None
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(
            f"The clinical table {path} cannot be read ({getattr(error, 'strerror', None) or error}); give a CSV or Parquet file."
        ) from None


def _separated(text: str) -> tuple[list[str], list[dict[str, str | None]]]:
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), restval=None)
    return [name for name in reader.fieldnames or [] if name], list(reader)


def parse_columns(pairs: Sequence[tuple[str, str]]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """`NAME=kind` or `NAME=kind:VALUE,...` to name to kind and values.

    Raises:
        UsageError: there is no such kind.
    """
    parsed = {}
    for name, text in pairs:
        kind, _, levels = text.partition(":")
        if kind not in KINDS:
            raise UsageError(f"--column {name}={text}: {kind!r} is no kind of column; give one of {', '.join(KINDS)}.")
        parsed[name] = (kind, tuple(levels.split(",")) if levels else ())
    return parsed


def outcomes(
    clinical: Clinical, kinds: Mapping[str, tuple[str, tuple[str, ...]]], time: str | None = None, event: str | None = None
) -> tuple[list[Outcome], list[str]]:
    """What features are to be compared with, and notes on columns that are not.

    Args:
        clinical: the table.
        kinds: what was told of columns, by `parse_columns`.
        time: column with the time to the event or to the last follow-up.
        event: column with whether the event was observed.

    Raises:
        UsageError: a named column is missing, or its values are not of its kind.
    """
    for name in (*kinds, *filter(None, (time, event))):
        if name not in clinical.columns:
            raise UsageError(f"The clinical table has no column {name!r}; it has {', '.join(clinical.columns)}.")
    if bool(time) != bool(event):
        raise UsageError("A time to event needs both columns; give --time and --event.")
    found, notes = [], []
    if time and event:
        found.append(_survival(time, clinical.columns[time], event, clinical.columns[event]))
    for name, column in clinical.columns.items():
        if name in (time, event):
            continue
        known = {patient: value for patient, value in column.items() if value is not None}
        kind, levels = kinds.get(name) or (_recognise(sorted(set(known.values()))), ())
        if kind in KINDS[:-1]:
            found += _outcomes(name, kind, known, levels)
        elif kind != "ignore":
            notes.append(f"{name}: not compared, {kind}; say with --column {name}=KIND if it should be.")
    return found, notes


def _recognise(values: Sequence[str]) -> str:
    """The kind of a column with these different values; else why it has none."""
    if len(values) < 2:
        return "it has one value" if values else "it is empty"
    if len(values) == 2:
        return "binary"
    numbers = [_number(value) for value in values]
    if all(number is not None for number in numbers):
        return "ordinal" if len(values) <= MOST_LEVELS and all(number == int(number) for number in numbers if number is not None) else "continuous"
    return "category" if len(values) <= MOST_LEVELS else f"it has {len(values)} {FREE_TEXT}"


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else np.nan
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _outcomes(name: str, kind: str, known: Mapping[str, str], levels: tuple[str, ...]) -> list[Outcome]:
    different = sorted(set(known.values()), key=lambda value: (_number(value) is None, _number(value) or 0.0, value))
    if kind == "binary":
        if len(different) != 2 and not levels:
            raise UsageError(
                f"--column {name}=binary: it has {len(different)} different values; write --column {name}=binary:VALUE for one against the rest."
            )
        return [_against_rest(name, levels[0] if levels else different[1], different, known)]
    if kind == "category":
        return [_against_rest(name, level, different, known) for level in levels or different]
    if kind == "ordinal" and levels:
        numbers = {patient: float(levels.index(value)) if value in levels else None for patient, value in known.items()}
    else:
        numbers = {patient: _number(value) for patient, value in known.items()}
    if wrong := [known[patient] for patient, number in numbers.items() if number is None]:
        order = f"write its values in order, as in --column {name}=ordinal:low,high" if kind == "ordinal" else "correct it, or leave it empty"
        raise UsageError(f"Column {name} has {wrong[0]!r}, which is no {'level' if levels else 'number'}; {order}.")
    values = {patient: number for patient, number in numbers.items() if number is not None}
    return [Outcome(name, "ordinal", values, levels=levels) if kind == "ordinal" else Outcome(name, "continuous", values)]


def _against_rest(name: str, level: str, different: Sequence[str], known: Mapping[str, str]) -> Outcome:
    if level not in different:
        raise UsageError(f"Column {name} has no value {level!r}; it has {', '.join(different[:MOST_LEVELS])}.")
    rest = [other for other in different if other != level]
    return Outcome(
        name,
        "binary",
        {patient: float(value == level) for patient, value in known.items()},
        level=level,
        rest=rest[0] if len(rest) == 1 else "the rest",
    )


def _survival(time: str, times: Column, event: str, events: Column) -> Outcome:
    values, observed = {}, {}
    for patient in times.keys() & events.keys():
        at, text = times[patient], events[patient]
        if at is None or text is None:
            continue
        number = _number(at)
        if number is None or number <= 0:
            raise UsageError(f"Column {time} has {at!r} for patient {patient}; a time is a number above 0 since the picture was taken.")
        if text.lower() not in YES | NO:
            raise UsageError(f"Column {event} has {text!r} for patient {patient}; write 1 where the event was observed, and 0 where it was not.")
        values[patient], observed[patient] = number, text.lower() in YES
    return Outcome(f"{event} by {time}", "time", values, observed)


def vectors(outcome: Outcome, patients: Sequence[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Values and events of patients in this order; NaN for those that have none."""
    values = np.array([outcome.values.get(patient, np.nan) for patient in patients])
    return values, np.array([outcome.events.get(patient, False) for patient in patients])
