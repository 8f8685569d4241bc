"""`bcd-edge archive` through vanishing nodes and a failing store, and what it costs beside `predict` and Ray's own recipe."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Final

from bcd_edge import bundle
from benchmarks import archive_faults, archive_speed
from benchmarks.tables import Row, markdown, put, shown

# Each with its number of inputs from the command line.
PARTS: Final[dict[str, tuple[Callable[[Path, int], Row], str]]] = {
    "cluster": (archive_faults.killed_cluster, "pictures"),
    "store": (archive_faults.failing_store, "objects"),
    "engine": (archive_speed.own_engine, "timed"),
    "ray": (archive_speed.on_ray, "timed"),
    "plan": (archive_speed.plan, "timed"),
    "recipe": (archive_speed.recipe, "timed"),
    "listing": (archive_speed.listing, "names"),
}
_LINE: Final = re.compile(r"\| `(\w+)`: ")


def measure(out: Path | None, only: Collection[str], sizes: Mapping[str, int]) -> None:
    """Measures parts, prints the table, and puts their lines between the marks of `out`; those of other parts stay.

    Args:
        out: a Markdown file with the marks `archive`.
        only: parts that are measured; all if empty.
        sizes: `pictures` of the cluster whose nodes and driver are killed, `objects` in the store that fails, `names` in the listing whose
            memory is measured, pictures of each `timed` run.
    """
    rows = [row for part in PARTS if not only or part in only for row in shown(_measured(part, sizes))]
    versions = [f"{package} {metadata.version(package)}" for package in ("ray", "pyarrow", "torch")]
    text = markdown(bundle.open().name, rows, *versions)
    put(_merged(text, out.read_text(encoding="utf-8")) if out else text, out, "archive")


def _measured(part: str, sizes: Mapping[str, int]) -> Iterable[Row]:
    """The row of a part, with its name and the date, because parts may be measured on different days."""
    measured, size = PARTS[part]
    with tempfile.TemporaryDirectory() as name:
        os.environ["BCD_EDGE_CACHE"] = f"{name}/cache"  # the defaults are measured, not what `tune` chose here
        row = measured(Path(name), sizes[size])
    yield replace(row, work=f"`{part}`: {row.work}", detail=f"{row.detail}; {date.today():%Y-%m-%d}")


def _merged(text: str, document: str) -> str:
    """A new table with the old lines of the parts that it lacks, in the order of the parts."""
    head = text.split("\n|---", 1)[0]
    lines: dict[str, str] = {}
    for table in (document, text):
        lines |= {match[1]: line for line in table.splitlines() if (match := _LINE.match(line))}
    return "\n".join([head, "|---|---|---|---|", *(lines[part] for part in PARTS if part in lines)])
