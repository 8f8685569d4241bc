"""Image collections, one adapter a file: `read(path)` yields an `Item` for each labelled image.

A path is a folder (searched recursively) or a .zip of one. The adapter knows what file names and folders of its
collection mean; everything after it sees only `Item`.
"""

from __future__ import annotations

import hashlib
import importlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import click

KINDS = ("breakhis", "idc", "lc25000")


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled image: `malignant` is the label, `patient` the group that no split may tear apart."""

    source: str
    name: str
    data: bytes = field(repr=False)
    malignant: bool
    patient: str
    magnification: str = ""

    @property
    def group(self) -> str:
        return f"{self.source}/{self.patient}"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def files(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Name and bytes of every PNG and JPEG below a folder or in a .zip, in sorted order."""
    wanted = (".png", ".jpg", ".jpeg")
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.lower().endswith(wanted):
                    yield PurePosixPath(name), archive.read(name)
    else:
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in wanted:
                yield PurePosixPath(file.relative_to(path)), file.read_bytes()


def read(specification: str) -> list[Item]:
    """Reads `KIND=PATH`, for example `breakhis=data/breakhis/images.zip`.

    Raises:
        click.UsageError: unknown kind, missing path, a broken archive, or no image of that kind in it.
    """
    kind, separator, path = specification.partition("=")
    if not separator or kind not in KINDS:
        raise click.UsageError(f"--data {specification}: write KIND=PATH with KIND one of {', '.join(KINDS)}.")
    if not Path(path).exists():
        raise click.UsageError(f"--data {specification}: {path} does not exist; give a folder or a .zip of images.")
    try:
        items = list(importlib.import_module(f"train.sources.{kind}").read(Path(path)))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise click.UsageError(f"--data {specification}: {error}") from None
    if not items:
        raise click.UsageError(f"--data {specification}: no file there is named like an image of {kind}.")
    return items
