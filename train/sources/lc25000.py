"""LC25000: lung and colon tissue, benign and carcinoma (Borkowski et al., arXiv:1912.12142). For pretraining.

The published files are rotations and flips of about 250 tiles a class, so `manifest.csv` beside the images must name
each file's `source_tile`: that is the group. Patients are not given.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from train.sources import Item, files


def read(path: Path) -> Iterator[Item]:
    manifest = (path if path.is_dir() else path.parent) / "manifest.csv"
    with manifest.open(newline="", encoding="utf-8") as lines:
        rows = {row["file"]: row for row in csv.DictReader(lines)}
    for name, data in files(path):
        if row := rows.get(str(name)):
            yield Item("lc25000", str(name), data, not row["label"].endswith("_n"), row["source_tile"])
