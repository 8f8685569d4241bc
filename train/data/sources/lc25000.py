"""LC25000: lung and colon tissue, benign and carcinoma (Borkowski et al., arXiv:1912.12142). For pretraining.

The published files are rotations and flips of about 250 tiles a class, so `manifest.csv` beside the images must name
each file's `source_tile`: that is the group. Patients are not given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from train.data.sources import Item, files
from train.data.sources.manifest import rows

NOTE = "Lung and colon, not breast; no patients are given, so a source tile stands for one: for pretraining only."


def recognises(path: Path, names: Sequence[PurePosixPath]) -> bool:
    if not names or not _manifest(path).is_file():
        return False
    try:
        return bool(rows(_manifest(path), ("file", "label", "source_tile")))
    except ValueError:  # a CSV of something else
        return False


def read(path: Path) -> Iterator[Item]:
    listed = {PurePosixPath(row["file"]): row for _, row in rows(_manifest(path), ("file", "label", "source_tile"))}
    for name, data in files(path, listed):
        row = listed[name]
        yield Item("lc25000", str(name), data, not row["label"].endswith("_n"), row["source_tile"], subtype=row["label"])


def _manifest(path: Path) -> Path:
    return (path if path.is_dir() else path.parent) / "manifest.csv"
