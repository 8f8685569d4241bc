"""A cohort's pictures to a table: a row per picture with its features, embedding and thumbnail; and means by slide and patient."""

from __future__ import annotations

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bcd_edge.classifier import Classifier, Embedding
from bcd_edge.cohort import embedding_map
from bcd_edge.cohort.dictionary import FEATURES, NAMES
from bcd_edge.cohort.features import Features, measure
from bcd_edge.cohort.sources import Entry
from bcd_edge.errors import UsageError
from bcd_edge.outputs import printable
from bcd_edge.pictures import DecodedImage
from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.records import Record

# Sides of the pictures on the page, in pixels, and their JPEG quality.
THUMBNAIL_PX, THUMBNAIL_QUALITY = 112, 80
# Measuring a picture of 4 million pixels takes seconds, on a busy machine many.
TIMEOUT_S: Final = 300.0
KEYS: Final = ("picture", "patient", "slide", "sha256", "bundle", "embedding_bundle")

Rows = list[dict[str, Any]]


def extract(entries: Iterable[Entry], classifier: Classifier) -> tuple[pa.Table, dict[str, list[str]]]:
    """Measures and embeds every picture.

    Args:
        entries: the pictures.
        classifier: for the embedding, and for the answer of pictures that have none yet.

    Returns:
        The table of features, see `SCHEMA`; and the names of pictures that were left out, by reason.

    Raises:
        UsageError: no picture has a patient, or none could be read.
    """
    measured: dict[str, tuple[Features, bytes]] = {}
    left_out: defaultdict[str, list[str]] = defaultdict(list)
    rows: Rows = []
    stream = ((entry, partial(_prepare, entry, classifier, measured)) for entry in _with_patient(entries, left_out))
    for entry, (record, embedding) in classifier.embed_many(stream, name=lambda entry: entry.picture, timeout_s=TIMEOUT_S):
        if record.status == "ok":
            rows.append(_row(entry, record, embedding, *measured.pop(entry.picture)))
        else:
            left_out[(record.error or "").partition("; ")[0]].append(printable(entry.picture))
    if not rows:
        reasons = "; ".join(f"{len(names):,}: {reason}" for reason, names in left_out.items()) or "there are none"
        raise UsageError(f"No picture could be measured ({reasons}).")
    return table_of(rows), left_out


def _with_patient(entries: Iterable[Entry], left_out: dict[str, list[str]]) -> Iterator[Entry]:
    for entry in entries:
        if entry.patient:
            yield entry
        else:
            left_out["no patient is known; say with --patients where it stands in the path"].append(printable(entry.picture))


def _prepare(entry: Entry, classifier: Classifier, measured: dict[str, tuple[Features, bytes]]) -> DecodedImage:
    """Decodes a picture and notes what its pixels tell, in the thread that decodes."""
    image = entry.decode()
    pixels = image.pixels_hwc_u8
    um_per_pixel = entry.um_per_pixel or classifier.triage.scale.find(image.um_per_pixel, entry.picture, pixels.shape[1])
    measured[entry.picture] = measure(pixels, um_per_pixel), thumbnail(pixels)
    return DecodedImage(pixels, image.sha256, image.decode_ms, um_per_pixel)


def _row(entry: Entry, record: Record, embedding: Embedding | None, features: Features, small: bytes) -> dict[str, Any]:
    quality = record.quality
    features |= {"focus": quality.focus, "exposure": quality.exposure} if quality else {}
    features |= {
        "p_malignant": entry.p_malignant if entry.bundle else record.p_malignant,
        "novelty": entry.novelty if entry.bundle else record.novelty,
    }
    slide = entry.slide and printable(entry.slide)
    keys = (printable(entry.picture), entry.patient, slide, record.sha256, entry.bundle or record.execution.bundle, record.execution.bundle)
    return dict(zip(KEYS, keys, strict=True)) | features | {"embedding": embedding, "thumbnail": small}


def thumbnail(pixels_hwc_u8: UInt8Image) -> bytes:
    """A JPEG of at most `THUMBNAIL_PX` a side."""
    height, width = pixels_hwc_u8.shape[:2]
    shrink = min(1.0, THUMBNAIL_PX / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    small = cv2.resize(pixels_hwc_u8, size, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY])[1]
    return encoded.tobytes()


def _schema() -> pa.Schema:
    features = [
        pa.field(feature.name, pa.float64(), metadata={"unit": feature.unit, "definition": feature.definition, "source": feature.source})
        for feature in FEATURES
    ]
    return pa.schema([*((name, pa.string()) for name in KEYS), *features, ("embedding", pa.list_(pa.float32())), ("thumbnail", pa.binary())])


SCHEMA: Final = _schema()


def table_of(rows: Rows) -> pa.Table:
    """Rows as a table by picture, with the components of their embeddings."""
    rows = sorted(rows, key=lambda row: (row["patient"], row["picture"]))
    embedded = [row for row in rows if row["embedding"] is not None]
    if len(embedded) > 1:
        scores = embedding_map.components(np.stack([row["embedding"] for row in embedded]), 3)
        for row, score in zip(embedded, scores, strict=True):
            row |= {f"embedding_pc{number}": float(value) for number, value in enumerate(score, 1)}
    return pa.Table.from_pylist(rows, SCHEMA)


def matrix(table: pa.Table, names: Sequence[str] = NAMES) -> npt.NDArray[np.float64]:
    """Columns of a table, rows x names, with NaN for what is missing."""
    return np.column_stack([np.array(table[name].to_pylist(), np.float64) for name in names]) if names else np.zeros((table.num_rows, 0))


def embeddings(table: pa.Table) -> npt.NDArray[np.float32] | None:
    """N x size; None where a picture has none, or there are too few for a map."""
    values = table["embedding"].to_pylist()
    return np.array(values, np.float32) if len(values) > 2 and all(values) else None


def means(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Means over the pictures that have a feature or an embedding, a row for each combination of the `keys`, with the number of pictures.

    Every picture counts the same within its patient, and every patient the same in what follows.
    """
    names = [tuple(row) for row in zip(*(table[key].to_pylist() for key in keys), strict=True)]
    order = {name: index for index, name in enumerate(sorted(set(names), key=str))}
    group = np.array([order[name] for name in names])
    values = matrix(table)
    known = ~np.isnan(values)
    sums, counts = np.zeros((len(order), len(NAMES))), np.zeros((len(order), len(NAMES)))
    np.add.at(sums, group, np.where(known, values, 0))
    np.add.at(counts, group, known)
    averages = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    columns: dict[str, Any] = {key: [name[index] for name in order] for index, key in enumerate(keys)}
    columns["pictures"] = np.bincount(group)
    columns |= {name: pa.array(column, from_pandas=True) for name, column in zip(NAMES, averages.T, strict=True)}
    return pa.table(columns | {"embedding": pa.array(_mean_embeddings(table, group, len(order)), pa.list_(pa.float32()))})


def _mean_embeddings(table: pa.Table, group: npt.NDArray[np.intp], groups: int) -> list[npt.NDArray[np.float32] | None]:
    """By group; None where no picture has an embedding."""
    members: list[list[list[float]]] = [[] for _ in range(groups)]
    for index, embedding in zip(group, table["embedding"].to_pylist(), strict=True):
        if embedding:
            members[index].append(embedding)
    return [np.mean(own, axis=0, dtype=np.float32) if own else None for own in members]


def renamed(table: pa.Table, naming: Callable[[str], str]) -> pa.Table:
    """The same with other names of patients and pictures; no slides, whose names may tell the patient."""
    for name in ("picture", "patient"):
        table = table.set_column(
            table.schema.get_field_index(name), table.schema.field(name), pa.array([naming(text) for text in table[name].to_pylist()])
        )
    return table.set_column(table.schema.get_field_index("slide"), table.schema.field("slide"), pa.nulls(table.num_rows, pa.string()))


def pseudonyms() -> Callable[[str], str]:
    """A name to 12 hexadecimal digits, keyed with a secret that is kept nowhere."""
    key = secrets.token_bytes(16)
    return lambda name: hashlib.blake2b(name.encode(errors="surrogateescape"), key=key, digest_size=6).hexdigest()


def read(path: Path) -> pa.Table:
    """A table of features that an earlier report wrote.

    Raises:
        UsageError: it is something else.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path} cannot be read as Parquet ({error}); give features.parquet of an earlier report.") from None
    if missing := [name for name in SCHEMA.names if name not in table.column_names]:
        raise UsageError(f"{path} has no column {missing[0]}, so it is no table of features; give features.parquet of an earlier report.")
    return table.select(SCHEMA.names).cast(SCHEMA)


def write(table: pa.Table, path: Path) -> None:
    """Writes a table as Parquet."""
    pq.write_table(table, path, compression="zstd")
