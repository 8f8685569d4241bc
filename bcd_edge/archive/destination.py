"""The folder of an archive: the listing, the records, a manifest, and the lock of the run that writes it."""

from __future__ import annotations

import io
import json
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from bcd_edge.archive import folders, rows
from bcd_edge.archive.contents import ContentIndex, Counts
from bcd_edge.archive.listing import read_items
from bcd_edge.errors import OutputError, UsageError
from bcd_edge.records import Record
from bcd_edge.system.lock import exclusive

MANIFEST: Final = "manifest.json"
# Shards in a folder: what every file system lists quickly.
PART: Final = 1000
# Bytes that hold the footer of nearly every shard, which has 10 kB.
FOOTER: Final = 65536
GIVE: Final = "give the folder that bcd-edge archive --out has written"
# Footers that are read at a time, which mostly waits for a disk or a store.
CHECKS: Final = 16
_COUNTS: Final = b"counts"
_SHARD: Final = re.compile(r"part=\d+/shard-(\d+)\.parquet")


class Destination:
    """Where an archive's answers are written.

    Attributes:
        folder: of the data set.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        """Takes a folder or URL that need not exist.

        Raises:
            ProviderError: the package for the store is not installed.
            UsageError: this is no store that writes whole objects.
        """
        self.folder = folders.open(place)
        self._row = lru_cache(maxsize=8)(self._table)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder, and holds it against other runs of this machine.

        Raises:
            OutputError: it cannot be written.
            UsageError: another run holds it.
        """
        state = self.folder.state
        try:
            state.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{state.parent} cannot be written ({error.strerror}); give a folder that you can write to.") from None
        try:
            with exclusive(state / "lock", 0.0) as is_held:
                if not is_held:
                    raise UsageError(f"Another run writes {self.folder}; wait for it, or give another folder with --out.")
                yield
        except sqlite3.OperationalError as error:  # of the lock or of the index of contents
            raise OutputError(f"{state} could not be written ({error}); make room there, then go on with --resume.") from None

    def committed(self) -> set[int]:
        """Numbers of the shards that have their rows."""
        return {int(match[1]) for name in self.folder.names("records") if (match := _SHARD.fullmatch(name))}

    def commit(self, shard: int, shard_rows: pa.Table, counts: Counts) -> None:
        """Puts a shard's rows into place, all or none.

        Raises:
            OutputError: the folder cannot be written.
        """
        try:
            self.folder.write(name_of(shard), rows.to_bytes(shard_rows, {"counts": json.dumps(counts)}))
        except OSError as error:
            raise OutputError(
                f"Shard {shard} could not be written into {self.folder} ({error.strerror or error}); "
                "make room or give permission there, then go on with --resume."
            ) from None

    def rows(self, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a shard, all columns if none are named.

        Raises:
            FileNotFoundError: the shard is not committed.
            OSError: it cannot be read.
            ArrowException: it is damaged.
        """
        return pq.ParquetFile(io.BytesIO(self.folder.read(name_of(shard)))).read(columns)

    def counts(self, shard: int) -> Counts:
        """What `commit` was given."""
        footer = self.footer(shard)
        return Counter(json.loads(((footer.metadata if footer else None) or {}).get(_COUNTS, b"{}")))

    def take_out_damaged(self, shard_size: int) -> list[int]:
        """Moves shards whose file is cut or has the wrong number of rows into `damaged/`, so that they are done again; only footers are read.

        Returns:
            Their numbers.
        """
        with ThreadPoolExecutor(CHECKS) as threads:
            numbers = sorted(self.committed())
            damaged = [
                number for number, is_whole in zip(numbers, threads.map(partial(self._is_whole, shard_size), numbers), strict=True) if not is_whole
            ]
        for number in damaged:
            name = name_of(number)
            self.folder.move(name, f"damaged/{name.rpartition('/')[2]}")
        return damaged

    def _is_whole(self, shard_size: int, shard: int) -> bool:
        footer = self.footer(shard)
        if footer is None or footer.num_rows == shard_size:
            return footer is not None
        with suppress(FileNotFoundError):  # rows without a listing are for `verify` to tell
            return bool(footer.num_rows == len(read_items(self.folder, shard)))
        return True

    def footer(self, shard: int) -> pq.FileMetaData | None:
        """What a shard's file tells of itself; None where it is cut or damaged there."""
        name = name_of(shard)
        end = self.folder.tail(name, FOOTER)
        if (length := int.from_bytes(end[-8:-4], "little") + 8) > len(end):
            end = self.folder.tail(name, length)
        try:
            return pq.read_metadata(io.BytesIO(end))
        except (pa.ArrowException, OSError):  # OSError is Arrow's word for a footer that it cannot parse
            return None

    def record(self, shard: int, index: int) -> tuple[Record, Any]:
        """The record of a row, and its embedding."""
        row = self._row(shard).slice(index, 1).to_pylist()[0]
        return Record.from_dict({key: value for key, value in row.items() if key in Record.__slots__}), row.get(rows.EMBEDDING)

    def _table(self, shard: int) -> pa.Table:
        return self.rows(shard)

    def manifest(self) -> dict[str, Any] | None:
        """What `write_manifest` was given; None where there is none.

        Raises:
            UsageError: it is not readable.
        """
        try:
            content: dict[str, Any] = json.loads(self.folder.read(MANIFEST))
            if not isinstance(content, dict) or not content.keys() >= {"state", "settings", "bundle"}:
                raise ValueError("it is of something else")
            return content
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.folder}/{MANIFEST} is not an archive's ({error}); {GIVE}.") from None

    def require(self) -> dict[str, Any]:
        """The manifest of an archive that must be there.

        Raises:
            UsageError: there is none.
        """
        manifest = self.manifest()
        if manifest is None:
            problem = "does not exist, or is empty" if self.folder.is_empty() else f"has no {MANIFEST}, so it is no archive"
            raise UsageError(f"{self.folder} {problem}; {GIVE}.")
        return manifest

    def write_manifest(self, content: dict[str, Any]) -> None:
        """Replaces the manifest.

        Raises:
            OutputError: the folder cannot be written.
        """
        try:
            self.folder.write(MANIFEST, (json.dumps(content, indent=1) + "\n").encode())
        except OSError as error:
            raise OutputError(
                f"{self.folder} cannot be written ({error.strerror or error}); give a folder or a bucket that you can write to."
            ) from None


def name_of(shard: int) -> str:
    """The file of a shard's rows."""
    return f"records/part={shard // PART:04}/shard-{shard:06}.parquet"


def open_index(destination: Destination) -> ContentIndex:
    """The index of contents, which agrees with the shards that have rows."""
    return ContentIndex(destination.folder.state / "contents.sqlite3", destination.committed(), destination.counts)
