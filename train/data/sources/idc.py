"""IDC patches: 50 x 50 pixels of whole-mount slides, invasive ductal carcinoma or not.

Cruz-Roa et al., SPIE 2014; Janowczyk & Madabhushi, J Pathol Inform 2016. `<patient>_idx5_x<x>_y<y>_class<0|1>.png`.
Class 0 is "no invasive carcinoma in this patch", which is not "benign tumour"; it is mapped to the benign class here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from train.data.sources import Item, Labels, files

NOTE = 'Benign means "no invasive carcinoma in this patch" here, not "benign tumour"; patients have patches of both.'

CITATION = (
    "IDC patches (subset): Cruz-Roa et al., SPIE 2014; Janowczyk & Madabhushi, J Pathol Inform 2016. "
    "Class 0 is 'no invasive carcinoma in this patch', which is not 'benign tumour'"
)
LIMITS = ("IDC patches are 50 x 50 pixel cut-outs of whole-mount slides; a patch without invasive carcinoma may still hold disease.",)

# Side of the field in µm: 50 pixels of 4 µm, slides at 40X shrunk by 16 (Cruz-Roa et al., SPIE 2014).
FIELD_UM = {"": 200.0}

NAME = re.compile(r"(?P<patient>\d+)_idx\d+_x\d+_y\d+_class(?P<label>[01])$")


def recognises(path: Path, names: Sequence[PurePosixPath]) -> bool:
    return 2 * sum(bool(NAME.match(name.stem)) for name in names) > len(names)


def read(path: Path, labels: Labels) -> Iterator[Item]:
    for name, data in files(path):
        if parts := NAME.match(name.stem):
            yield Item("idc", str(name), data, parts["label"] == "1", parts["patient"])
