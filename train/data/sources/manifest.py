"""A CSV manifest, for a collection whose file names tell nothing: one row an image.

| column | |
|---|---|
| `file` | needed; relative to the CSV's folder, or inside a .zip in that folder |
| `label` | needed; `benign`, `malignant`, or another name in `bcd_edge.labels.LABELS` or given by `--label`, in any case |
| `patient` | without it EVERY IMAGE COUNTS AS A PATIENT OF ITS OWN, and no split can protect from leakage |
| `source` | the collection, such as `breakhis`, that the patient belongs to, if not this one: who is in two collections is one patient |
| `part` | `train`, `validation` or `test`, where the patient is for good; `fit` draws only those without one |
| `um_per_pixel` | width of a pixel on the slide; a bundle knows the fields of view that it was trained on if every image has one |
| `magnification` | as `um_per_pixel` for those who have a slide scanner's objective ("40x", as in `bcd-edge predict --magnification`) |
| `slide`, `subtype` | may be left out or empty, as `magnification` and `um_per_pixel` |

A folder with a `labels.csv`, as `bcd-edge labels export` writes it, may be given in its place. Further columns are ignored. UTF-8,
with or without the mark that Excel writes; commas between cells.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath

from bcd_edge.errors import UsageError
from bcd_edge.holdout import PARTS
from bcd_edge.labels import LABELS_FILE
from bcd_edge.triage.scale import PLAUSIBLE_UM, plausible, um_at
from train.data.sources import Item, Labels, files

NOTE = "An image without a patient in its row counts as a patient of its own; no split can then keep a person on one side."


def recognises(path: Path, names: Sequence[PurePosixPath]) -> bool:
    return (path.suffix.lower() == ".csv" and path.is_file()) or (path / LABELS_FILE).is_file()


def rows(path: Path, needed: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Line number and cells of each row of a CSV, by lower-case column name; a cell that is not there is empty.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no CSV, or lacks a column.
    """
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines, restval="")
        try:
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            if missing := [name for name in needed if name not in reader.fieldnames]:
                present = ", ".join(reader.fieldnames) or "nothing"
                raise ValueError(f"{path.name} has no column {' and no column '.join(missing)}; its first row must name them and has {present}.")
            return [(reader.line_num, {name: cell.strip() for name, cell in row.items() if name and isinstance(cell, str)}) for row in reader]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path.name} is no CSV in UTF-8 ({error}); export it again.") from None


def read(path: Path, labels: Labels) -> Iterator[Item]:
    """Yields an item for each row.

    Raises:
        ValueError: a row whose label is unknown, whose path leaves the folder, or whose file is missing, by its line.
    """
    if path.is_dir():
        path = path / LABELS_FILE
        if not path.is_file():
            raise ValueError(f"that is a folder without a {LABELS_FILE}; give the .csv in it.")
    listed = [(f"line {line} ({row['file']})", row) for line, row in rows(path, ("file", "label"))]
    if unknown := sorted({row["label"] for _, row in listed if row["label"].lower() not in labels}):
        place = next(place for place, row in listed if row["label"] in unknown)
        raise ValueError(
            f"{place} has the label {unknown[0]!r}; write one of {', '.join(labels)}, or say --label {unknown[0].lower() or 'NAME'}=CLASS, "
            "CLASS being benign, malignant or skip."
        )
    if wrong := next((place for place, row in listed if row.get("part", "") not in ("", *PARTS)), None):
        raise ValueError(f"{wrong} has a part that is none of {', '.join(PARTS)}; write one of these, or leave the cell empty.")
    listed = [(place, row) for place, row in listed if labels[row["label"].lower()] is not None]
    paths = [_inside(path.parent, place, row["file"]) for place, row in listed]
    packed = _packed(path.parent, {name for name in paths if not (path.parent / name).is_file()})
    for (place, row), name in zip(listed, paths, strict=True):
        if name not in packed and not (path.parent / name).is_file():
            raise ValueError(f"{place} is neither in the folder of {path.name} nor in a .zip there; correct the row or add the file.")
        data = packed[name] if name in packed else (path.parent / name).read_bytes()
        magnification = row.get("magnification", "").upper()
        yield Item(
            row.get("source", "") or "manifest",
            str(name),
            data,
            bool(labels[row["label"].lower()]),
            row.get("patient", "") or str(name.with_suffix("")),
            magnification + "X" if magnification.isdecimal() else magnification,
            row.get("subtype", ""),
            row.get("slide", ""),
            row.get("part", ""),
            _um_per_pixel(place, row.get("um_per_pixel", ""), magnification),
        )


def _um_per_pixel(place: str, text: str, magnification: str) -> float | None:
    """The width of a pixel in µm, None where neither cell tells.

    Raises:
        ValueError: no microscope has such pixels.
    """
    if not text:
        with suppress(UsageError):  # of a kind that says nothing about pixels, such as 400X with the eyepiece
            return um_at(magnification)
        return None
    try:
        value = plausible(float(text))
    except ValueError:
        value = None
    if value is None:
        raise ValueError(f"{place} has the um_per_pixel {text!r}, which no microscope has; write {PLAUSIBLE_UM[0]} to {PLAUSIBLE_UM[1]}, or nothing.")
    return value


def _inside(folder: Path, place: str, file: str) -> PurePosixPath:
    """The path a row names, refused if it leaves the folder in words or through a link."""
    given = PureWindowsPath(file)  # reads both / and \, and sees a drive
    name = PurePosixPath(given.as_posix())
    if not given.name:
        raise ValueError(f"{place} names no file; write its path from the folder of the .csv.")
    if given.drive or given.root or ".." in given.parts or not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{place} leaves the folder of the .csv; put the images below it.")
    return name


def _packed(folder: Path, wanted: set[PurePosixPath]) -> dict[PurePosixPath, bytes]:
    """Name to bytes of those `wanted` that are in a .zip beside the manifest."""
    packed: dict[PurePosixPath, bytes] = {}
    for archive in sorted(folder.glob("*.zip")) if wanted else ():
        packed |= dict(files(archive, wanted - packed.keys()))
    return packed
