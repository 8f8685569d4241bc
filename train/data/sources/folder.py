"""A class per folder: `.../benign/...` and `.../malignant/...`, or any other name in `train.data.sources.LABELS`, in any case.

The nearest folder above an image that is called like a class decides, a word before a digit: in `benign/1/a.png` the 1 is
a patient. Folders above that (`train/`, `val/`) mean nothing here, since the split is made anew. The patient is the folder
right below the class folder: `benign/P07/40X/a.png` is P07.

Where images lie in the class folder itself, nothing says whose they are, and EVERY IMAGE COUNTS AS A PATIENT OF ITS OWN.
No split can then keep two images of one person on one side: its scores may be leakage. Give patients in folders, or use
a manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from train.data.sources import LABELS, Item, files

NOTE = "An image in no patient's folder counts as a patient of its own; no split can then keep a person on one side."


def recognises(path: Path, names: Sequence[PurePosixPath]) -> bool:
    return any(labelled(name) for name in names)


def labelled(name: PurePosixPath) -> tuple[bool, str] | None:
    """Whether an image is malignant and whose it is, from its path; None if no folder of it is called like a class."""
    folders = name.parts[:-1]
    called = [depth for depth, folder in enumerate(folders) if folder.lower() in LABELS]
    if not called:
        return None
    depth = max(called, key=lambda depth: (folders[depth].isalpha(), depth))
    malignant = LABELS[folders[depth].lower()]
    # with the class, because `benign/1.png` and `malignant/1.png` are not one person
    alone = f"{'malignant' if malignant else 'benign'}/{name.stem}"
    return malignant, folders[depth + 1] if depth + 1 < len(folders) else alone


def read(path: Path) -> Iterator[Item]:
    for name, data in files(path):
        if found := labelled(name):
            yield Item("folder", str(name), data, *found)
