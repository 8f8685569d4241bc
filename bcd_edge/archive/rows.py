"""Records as rows of a Parquet file: the record's own keys, nested as they are, with `row` and `intake` beside them."""

from __future__ import annotations

import io
import types
import typing
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bcd_edge.archive.items import Item
from bcd_edge.classifier import Embedding
from bcd_edge.records import Record


def _type(hint: Any) -> pa.DataType:
    """The Arrow type of a record's key; what may be None is what it is without."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) is typing.Literal:
        return pa.string()
    if typing.get_origin(hint) is tuple:
        return pa.list_(_type(typing.get_args(hint)[0]))
    if is_dataclass(hint):
        return pa.struct([(name, _type(part)) for name, part in typing.get_type_hints(hint).items()])
    return {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}[hint]


EMBEDDING: Final = "embedding"
INTAKE: Final = pa.struct([("patient", pa.string()), ("slide", pa.string()), ("size", pa.int64()), ("version", pa.string())])
SCHEMA: Final = pa.schema([("row", pa.int64()), *((name, _type(hint)) for name, hint in typing.get_type_hints(Record).items()), ("intake", INTAKE)])


def row_of(record: Record, number: int, item: Item, patient: str | None, slide: str | None) -> dict[str, Any]:
    """A row of plain values.

    Args:
        record: the answer.
        number: of the input in the whole listing, from 0.
        item: the input.
        patient: whose it is.
        slide: which slide of the patient.
    """
    intake = {"patient": patient, "slide": slide, "size": item.size, "version": item.version}
    return {"row": number} | record.as_dict() | {"source": item.name, "intake": intake}


def table_of(rows: Sequence[dict[str, Any]], embeddings: Sequence[Embedding | None], kind: str | None) -> pa.Table:
    """Rows as a table; with a column of embeddings of a `kind`, `float32` or `float16`, if one is given."""
    table = pa.Table.from_pylist(list(rows), SCHEMA)
    if kind is None:
        return table
    values = [None if embedding is None else np.asarray(embedding, kind) for embedding in embeddings]
    return table.append_column(EMBEDDING, pa.array(values, pa.list_(pa.from_numpy_dtype(kind))))


def to_bytes(table: pa.Table, metadata: dict[str, str]) -> bytes:
    """A Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer, compression="zstd")
    return buffer.getvalue()
