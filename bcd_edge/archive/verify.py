"""Whether an archive is whole: every listed input has its row, in its place, once, and every file is readable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa

from bcd_edge.archive import items
from bcd_edge.archive.destination import Destination, name_of

# How many problems are kept as sentences.
SHOWN: Final = 20
GO_ON: Final = "--resume does it"
AGAIN: Final = "move it away, and --resume does the shard again"
BACKUP: Final = "copy it back from a backup, or begin with another --out; the rows stay readable"


@dataclass(slots=True)
class Verification:
    """What was counted.

    Attributes:
        inputs: that are listed.
        rows: that are there.
        failed: rows without an answer.
        copies: rows whose content another row has, too.
        problem_count: number of problems.
        problems: sentences that say what to do, the first `SHOWN`.
    """

    inputs: int = 0
    rows: int = 0
    failed: int = 0
    copies: int = 0
    problem_count: int = 0
    problems: tuple[str, ...] = ()

    def add(self, problem: str) -> None:
        """Counts a problem."""
        self.problem_count += 1
        if self.problem_count <= SHOWN:
            self.problems += (problem,)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with `whole` for whether there is no problem."""
        return {"whole": not self.problem_count} | asdict(self)

    def __str__(self) -> str:
        counts = f"{self.inputs:,} inputs, {self.rows:,} rows, {self.failed:,} failed, {self.copies:,} with the same content as another row"
        if not self.problem_count:
            return f"Whole: every input has its row, once. {counts}."
        more = self.problem_count - len(self.problems)
        lines = [f"NOT whole: {counts}.", *self.problems, *([f"and {more:,} more problems"] if more else [])]
        return "\n".join(lines)


def verify(place: str | os.PathLike[str]) -> Verification:
    """Reads the listing beside the rows, shard by shard.

    Raises:
        UsageError: the folder is no archive.
    """
    destination, result = Destination(place), Verification()
    folder, manifest = destination.folder, destination.require()
    listed = [name for name in folder.names("listing") if name.endswith(".parquet")]
    fingerprint = ""
    hashes: list[pa.Array] = []
    for number, name in enumerate(listed):
        try:
            inputs, totals = items.from_bytes(folder.read(f"listing/{name}"))
            fingerprint = items.fingerprint(fingerprint, inputs)
            if name != f"{number:06}.parquet" or totals["fingerprint"] != fingerprint:
                result.add(f"listing/{name} is not what was listed; {BACKUP}")
        except (OSError, pa.ArrowException, KeyError) as error:
            result.add(f"listing/{name} is damaged ({error}); {BACKUP}")
            continue
        result.inputs += len(inputs)
        for problem in _shard(destination, number, [item.name for item in inputs], result, hashes):
            result.add(problem)
    for number in destination.committed() - set(range(len(listed))):
        result.add(f"{name_of(number)} has rows that are not listed; move it away")
    if manifest["state"] == "complete" and manifest["listing"]["fingerprint"] != fingerprint:
        result.add(f"manifest.json is of another listing; {BACKUP}")
    if manifest["state"] != "complete":
        result.add("the run is not complete; go on with --resume")
    known = pa.chunked_array(hashes, pa.binary(32)).drop_null() if hashes else pa.chunked_array([], pa.binary(32))
    result.copies = len(known) - len(known.unique())
    return result


def _shard(destination: Destination, number: int, names: list[str], result: Verification, hashes: list[pa.Array]) -> Iterator[str]:
    name = name_of(number)
    try:
        table = destination.rows(number, ["row", "source", "status", "sha256", "p_malignant"])
    except FileNotFoundError:
        yield f"shard {number} with {len(names)} inputs has no rows yet; {GO_ON}"
        return
    except (OSError, pa.ArrowException) as error:
        yield f"{name} is damaged ({error}); {AGAIN if destination.footer(number) else GO_ON}"
        return
    result.rows += table.num_rows
    result.failed += table["status"].to_pylist().count("failed")
    hashes.append(pa.array([text and bytes.fromhex(text) for text in table["sha256"].to_pylist()], pa.binary(32)))
    if table["source"].to_pylist() != names:
        yield f"{name} does not have the inputs of its listing; {AGAIN}"
    rows = table["row"].to_pylist()
    if rows != list(range(rows[0], rows[0] + len(rows))) if rows else names:
        yield f"{name} does not number its rows; {AGAIN}"
    answered = [status == "ok" for status in table["status"].to_pylist()]
    if answered != [p is not None for p in table["p_malignant"].to_pylist()]:
        yield f"{name} has rows without an answer that are not failed; {AGAIN}"
