"""A class per folder: `.../benign/...` and `.../malignant/...`, or any other name in `bcd_edge.labels.LABELS`, in any case.

The nearest folder above an image that is called like a class decides, a word before a digit: in `benign/1/a.png` the 1 is
a patient. Folders above that (`train/`, `val/`) mean nothing here, since the split is made anew. The patient is the folder
right below the class folder: `benign/P07/40X/a.png` is P07. A folder of another class must be given a label or left out
(`--label insitu=malignant`, `--label artefacts=skip`).

Where images lie in the class folder itself, nothing says whose they are, and EVERY IMAGE COUNTS AS A PATIENT OF ITS OWN.
No split can then keep two images of one person on one side: its scores may be leakage. Give patients in folders, or use
a manifest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from bcd_edge.labels import LABELS, class_folder, patient_folder
from train.data.sources import Item, Labels, files, names

NOTE = "An image in no patient's folder counts as a patient of its own; no split can then keep a person on one side."
FALLBACK = True


def recognises(path: Path, names: Sequence[PurePosixPath]) -> bool:
    return any(class_folder(name) is not None for name in names)


def read(path: Path, labels: Labels) -> Iterator[Item]:
    """Yields an item for each image in a class folder.

    Raises:
        ValueError: images lie in folders that name no known class.
    """
    images = names(path)
    if unknown := unknown_classes(images, labels):
        listed = ", ".join(f"{folder} ({count:,} images)" for folder, count in unknown.most_common(5))
        first = unknown.most_common(1)[0][0].lower()
        raise ValueError(f"no known class is named by {listed}; say --label {first}=benign, --label {first}=malignant, or --label {first}=skip.")
    placed = {name: labelled(name, labels) for name in images}
    for name, data in files(path, {name for name, place in placed.items() if place}):
        if place := placed[name]:
            yield Item("folder", str(name), data, *place)


def labelled(name: PurePosixPath, labels: Labels = LABELS) -> tuple[bool, str] | None:
    """Whether an image is malignant and whose it is, from its path; None if it is in no class folder, or in one that is skipped."""
    depth = class_folder(name, labels)
    malignant = None if depth is None else labels[name.parts[depth].lower()]
    if depth is None or malignant is None:
        return None
    # with the class, because `benign/1.png` and `malignant/1.png` are not one person
    return malignant, patient_folder(name, depth) or f"{'malignant' if malignant else 'benign'}/{name.stem}"


def unknown_classes(images: Sequence[PurePosixPath], labels: Labels) -> Counter[str]:
    """How many images are in folders that name no class, by the folder where one would be expected: beside the class folders."""
    depths = {name: class_folder(name, labels) for name in images}
    usual = Counter(depth for depth in depths.values() if depth is not None).most_common(1)
    expected = usual[0][0] if usual else 0
    return Counter(name.parts[min(expected, len(name.parts) - 2)] for name, depth in depths.items() if depth is None and len(name.parts) > 1)
