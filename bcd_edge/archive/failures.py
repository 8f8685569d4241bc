"""Why inputs failed: equal reasons are counted together, and a true sentence stands for each."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, Final

import pyarrow.compute as pc

from bcd_edge.archive.contents import Counts
from bcd_edge.archive.destination import Destination

KEY: Final = "failure: "
# Letters of a reason that is counted.
REASON: Final = 120
# Shards that are read for examples.
READ: Final = 20


def reason_of(error: str, name: str) -> str:
    """An error without the names and figures of its file, so that equal reasons are counted together."""
    last = name.rpartition("/")[2]
    text = error.replace(name, "the file").replace(last, "the file") if last else error
    return re.sub(r"[1-9][\d,.]*", "N", text)[:REASON]


def summary(counts: Counts, destination: Destination, shards: Collection[int]) -> list[str]:
    """A line for each reason, most frequent first, with the name and the error of one input.

    Args:
        counts: of all rows.
        destination: of the rows.
        shards: with failed rows.
    """
    examples: dict[str, tuple[str, str]] = {}
    for shard in islice(sorted(shards), READ):
        for row in _failed(destination.rows(shard, ["source", "status", "error"])):
            examples.setdefault(reason_of(row["error"], row["source"]), (row["source"], row["error"]))
    lines = []
    for key, number in counts.most_common():
        if key.startswith(KEY):
            source, error = examples.get(key[len(KEY) :], ("", key[len(KEY) :]))
            example = f", for example {source}" if source and number > 1 else f": {source}" if source else ""
            lines.append(f"{number:,} failed{example}: {error}")
    return lines


def failed(destination: Destination) -> Iterator[tuple[str, str]]:
    """Name and error of every failed input.

    Raises:
        UsageError: the folder is no archive.
    """
    destination.require()
    for batch in destination.folder.dataset("records").to_batches(columns=["source", "error"], filter=pc.field("status") == "failed"):
        for row in batch.to_pylist():
            yield row["source"], row["error"]


def _failed(table: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["status"], "failed")).to_pylist()
    return rows
