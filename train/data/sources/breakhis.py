"""BreaKHis: surgical biopsies, H&E, 40X to 400X (Spanhol et al., IEEE TBME 2016).

`SOB_<B|M>_<subtype>-<year>-<patient><slide letters>-<magnification>-<sequence>`. The patient is the accession number
without the slide letters: 22549AB and 22549G are one person. `190EF` is a whole identifier (its other form would be a
three-digit accession number, and there is none).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from bcd_edge.triage.scale import BREAKHIS_UM
from train.data.sources import Item, Labels, files

NOTE = "The subset's magnifications go with class and patient; compare scores within one magnification."

CITATION = "BreaKHis (subset): Spanhol et al., A Dataset for Breast Cancer Histopathological Image Classification, IEEE TBME 2016"
LIMITS = ("BreaKHis images are photographs of surgical biopsies from one laboratory, most of the subset at 100X and 200X.",)

# Sides in µm of a square as large as the field of 700 x 460 pixels.
FIELD_UM = {f"{power}X": round(um * math.sqrt(700 * 460), 1) for power, um in BREAKHIS_UM.items()}

NAME = re.compile(r"SOB_(?P<label>[BM])_(?P<subtype>[A-Z]+)-\d+-(?P<patient>\d+)(?P<slide>[A-Z]*)-(?P<magnification>\d+)-\d+")
WHOLE = {"190EF"}


def recognises(path: Path, names: Sequence[PurePosixPath]) -> bool:
    return 2 * sum(bool(NAME.match(name.stem)) for name in names) > len(names)


def read(path: Path, labels: Labels) -> Iterator[Item]:
    for name, data in files(path):
        if parts := NAME.match(name.stem):
            patient, slide = parts["patient"], parts["slide"]
            if patient + slide in WHOLE:
                patient, slide = patient + slide, ""
            yield Item("breakhis", str(name), data, parts["label"] == "M", patient, parts["magnification"] + "X", parts["subtype"], slide)
