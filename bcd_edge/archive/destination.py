"""The folder of an archive: the listing, the records, a manifest, and the lock of the run that writes it."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from bcd_edge.archive import rows
from bcd_edge.archive.contents import ContentIndex, Counts
from bcd_edge.errors import OutputError, UsageError
from bcd_edge.records import Record
from bcd_edge.system.atomic import atomic_write
from bcd_edge.system.lock import exclusive

MANIFEST: Final = "manifest.json"
# Shards in a folder: what every file system lists quickly.
PART: Final = 1000
_COUNTS: Final = b"counts"


class Destination:
    """Where an archive's answers are written."""

    def __init__(self, folder: Path) -> None:
        """Takes a folder that need not exist."""
        self.folder = folder
        self.listing = folder / "listing"
        self.state = folder / ".state"
        self._row = lru_cache(maxsize=8)(self._table)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder, and holds it against other runs.

        Raises:
            OutputError: it cannot be written.
            UsageError: another run holds it.
        """
        try:
            self.state.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be written ({error.strerror}); give a folder that you can write to.") from None
        with exclusive(self.state / "lock", 0.0) as is_held:
            if not is_held:
                raise UsageError(f"Another run writes {self.folder}; wait for it, or give another folder with --out.")
            yield

    def path(self, shard: int) -> Path:
        """The file of a shard's rows."""
        return self.folder / "records" / f"part={shard // PART:04}" / f"shard-{shard:06}.parquet"

    def committed(self) -> set[int]:
        """Numbers of the shards that have their rows."""
        return {int(path.stem[6:]) for path in self.folder.glob("records/part=*/shard-*.parquet")}

    def commit(self, shard: int, shard_rows: Sequence[dict[str, Any]], counts: Counts) -> None:
        """Puts a shard's rows into place, all or none.

        Raises:
            OutputError: the folder cannot be written.
        """
        path = self.path(shard)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, rows.to_bytes(shard_rows, {"counts": json.dumps(counts)}), durable=True)
        except OSError as error:
            raise OutputError(
                f"Shard {shard} could not be written into {self.folder} ({error.strerror or error}); make room there, then go on with --resume."
            ) from None

    def counts(self, shard: int) -> Counts:
        """What `commit` was given."""
        return Counter(json.loads((pq.read_schema(self.path(shard)).metadata or {}).get(_COUNTS, b"{}")))

    def record(self, shard: int, index: int) -> Record:
        """The record of a row."""
        return to_record(self._row(shard).slice(index, 1).to_pylist()[0])

    def _table(self, shard: int) -> pa.Table:
        return pq.read_table(io.BytesIO(self.path(shard).read_bytes()))

    def manifest(self) -> dict[str, Any] | None:
        """What `write_manifest` was given; None where there is none.

        Raises:
            UsageError: it is not readable.
        """
        try:
            content: dict[str, Any] = json.loads((self.folder / MANIFEST).read_bytes())
            return content
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.folder / MANIFEST} is not readable ({error}); give the folder of an archive.") from None

    def write_manifest(self, content: dict[str, Any]) -> None:
        """Replaces the manifest."""
        atomic_write(self.folder / MANIFEST, (json.dumps(content, indent=1) + "\n").encode(), durable=True)

    def is_empty(self) -> bool:
        """Whether nothing is there yet but what a run that was killed at once leaves."""
        return not self.folder.exists() or all(name.startswith(".") for name in os.listdir(self.folder))


def open_index(destination: Destination) -> ContentIndex:
    """The index of contents, which agrees with the shards that have rows."""
    return ContentIndex(destination.state / "contents.sqlite3", destination.committed(), destination.counts)


def to_record(row: dict[str, Any]) -> Record:
    """The record in a row."""
    return Record.from_dict({key: value for key, value in row.items() if key in Record.__slots__})
