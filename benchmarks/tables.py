"""Comparisons as a table between two marks of a document."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from bcd_edge import backends
from bcd_edge.system import machine


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: the comparison, the target, the measured figure, and the details."""

    work: str
    wanted: str
    ratio: str
    detail: str


def shown(rows: Iterable[Row]) -> list[Row]:
    """All rows; each is printed as soon as it is measured."""
    printed = []
    for row in rows:
        printed.append(row)
        print(f"{row.work}: {row.ratio} (wanted: {row.wanted}); {row.detail}", flush=True)
    return printed


def markdown(bundle_name: str, rows: Iterable[Row], *more: str) -> str:
    """The machine, the date and versions, then the rows. `more` are versions of libraries that the runtime does not use."""
    versions = [f"{name} {version}" for name, version in backends.versions().items()]
    head = ", ".join([bundle_name, machine.cpu_name(), f"{machine.cores()} cores", f"{date.today():%Y-%m-%d}", *versions, *more])
    lines = [head + ".", "", "| work | wanted | measured | figures |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.work} | {row.wanted} | {row.ratio} | {row.detail} |" for row in rows)])


def put(text: str, out: Path | None, mark: str) -> None:
    """Prints a text, and writes it between `<!-- mark -->` and `<!-- /mark -->` of a Markdown file, if one is given."""
    print(f"\n{text}")
    if out:
        before, _, rest = out.read_text(encoding="utf-8").partition(f"<!-- {mark} -->")
        end = f"<!-- /{mark} -->"
        out.write_text(f"{before}<!-- {mark} -->\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")
