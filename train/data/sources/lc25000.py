"""LC25000: lung and colon tissue, benign and carcinoma (Borkowski et al., arXiv:1912.12142). For pretraining.

The published files are rotations and flips of about 250 tiles a class, so `manifest.csv` beside the images must name
each file's `source_tile`: that is the group. Patients are not given. The published archive has no such file; docs/training.md
says how to make one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from train.data.sources import Item, Labels, files
from train.data.sources.manifest import rows

NOTE = "Lung and colon, not breast; no patients are given, so a source tile stands for one: for pretraining only."


CITATION = "LC25000 (one file per source tile, pretraining only): Borkowski et al., arXiv:1912.12142"
LIMITS = ("LC25000 is lung and colon tissue; it taught features and says nothing about the breast.",)

CLASSES = {"lung_n", "lung_aca", "lung_scc", "colon_n", "colon_aca"}


def recognises(path: Path, names: Sequence[PurePosixPath]) -> bool:
    if names and 2 * sum(bool(CLASSES & set(name.parts[:-1])) for name in names) > len(names):
        return True
    if not names or not _manifest(path).is_file():
        return False
    try:
        return bool(rows(_manifest(path), ("file", "label", "source_tile")))
    except ValueError:  # a CSV of something else
        return False


def read(path: Path, labels: Labels) -> Iterator[Item]:
    """Yields an item for each file that the manifest lists.

    Raises:
        ValueError: there is no manifest, or it lacks a column.
    """
    if not _manifest(path).is_file():
        raise ValueError(
            f"there is no {_manifest(path)}. The published files are rotations and flips of about 250 tiles a class, so a random split would leak. "
            "Write that CSV with the columns file, label (lung_n, colon_aca ...) and source_tile; docs/training.md says how to find source tiles."
        )
    listed = {PurePosixPath(row["file"]): row for _, row in rows(_manifest(path), ("file", "label", "source_tile"))}
    for name, data in files(path, listed):
        row = listed[name]
        yield Item("lc25000", str(name), data, not row["label"].endswith("_n"), row["source_tile"], subtype=row["label"])


def _manifest(path: Path) -> Path:
    return (path if path.is_dir() else path.parent) / "manifest.csv"
