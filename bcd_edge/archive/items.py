"""An input of a collection, and the Parquet file that lists a shard of them."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True, slots=True)
class Item:
    """One input.

    Attributes:
        path: path or URL; bytes that are no Unicode are escaped as by `os.fsdecode`.
        source: index of the source that lists it.
        position: its place there: the listing goes on after it.
        size: bytes, where the listing tells it.
        version: what changes with the content: modification time or ETag.
        patient: whose it is, where a manifest tells it.
        slide: which slide of the patient, where a manifest tells it.
        um_per_pixel: width of a pixel on the slide in µm from a manifest, for files that do not tell it.
        error: why there is nothing to read; the input gets a failed row.
    """

    path: str
    source: int
    position: str
    size: int | None = None
    version: str | None = None
    patient: str | None = None
    slide: str | None = None
    um_per_pixel: float | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        """The path as valid Unicode, as in the record."""
        return self.path.encode("utf-8", "backslashreplace").decode()


# Paths are bytes, because a file's name need not be Unicode.
SCHEMA: Final = pa.schema(
    [
        ("path", pa.binary()),
        ("source", pa.int32()),
        ("position", pa.binary()),
        ("size", pa.int64()),
        ("version", pa.string()),
        ("patient", pa.string()),
        ("slide", pa.string()),
        ("um_per_pixel", pa.float64()),
        ("error", pa.string()),
    ]
)
_BINARY: Final = ("path", "position")


def to_bytes(items: Sequence[Item], totals: dict[str, str]) -> bytes:
    """A Parquet file of items, with the totals of the listing up to its end."""
    columns = list(zip(*map(astuple, items), strict=True))
    arrays = [
        pa.array([os.fsencode(value) for value in column] if field.name in _BINARY else column, field.type)
        for field, column in zip(SCHEMA, columns, strict=True)
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays, SCHEMA.with_metadata(totals)), buffer, compression="zstd")
    return buffer.getvalue()


def from_bytes(content: bytes) -> tuple[list[Item], dict[str, str]]:
    """What `to_bytes` wrote."""
    table = pq.ParquetFile(io.BytesIO(content)).read()
    columns: list[list[Any]] = [table[field.name].to_pylist() for field in fields(Item)]
    for index, field in enumerate(fields(Item)):
        if field.name in _BINARY:
            columns[index] = [os.fsdecode(value) for value in columns[index]]
    totals = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return [Item(*values) for values in zip(*columns, strict=True)], totals


def fingerprint(previous: str, items: Sequence[Item]) -> str:
    """SHA-256 of a listing that goes on with these items."""
    digest = hashlib.sha256(previous.encode())
    for item in items:
        digest.update(os.fsencode(f"{item.path}\0{item.size}\0{item.version}\n"))
    return digest.hexdigest()
