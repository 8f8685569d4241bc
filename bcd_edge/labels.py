"""The words for the two classes in folder names and manifests, for training and for measuring accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

# The manifest in a folder of exported labels.
LABELS_FILE: Final = "labels.csv"
# In lower case; True is malignant.
LABELS: Final[Mapping[str, bool]] = {
    "benign": False,
    "normal": False,
    "negative": False,
    "0": False,
    "malignant": True,
    "positive": True,
    "1": True,
}


def class_folder(path: PurePath, labels: Mapping[str, bool | None] = LABELS) -> int | None:
    """The depth of the folder that names the class of an image, or None if none does.

    The one nearest to the image counts, but a word before a digit: in `benign/1/a.png` the 1 is a patient.
    """
    folders = path.parts[:-1]
    depths = [depth for depth, folder in enumerate(folders) if folder.lower() in labels]
    return max(depths, key=lambda depth: (not folders[depth].isdigit(), depth), default=None)


def patient_folder(path: PurePath, depth: int) -> str:
    """The folder right below the class folder at `depth`; empty if the image lies in the class folder itself."""
    return path.parts[depth + 1] if depth + 2 < len(path.parts) else ""
