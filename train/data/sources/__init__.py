"""Image collections, one adapter a file: `read("KIND=PATH")` or `read("PATH")` gives an `Item` for each labelled image.

A path is a folder (searched recursively), a .zip of one, or a CSV manifest. The adapter knows what file names, folders
and rows of its collection mean; everything after it sees only `Item`. An adapter is a module with three names:

    NOTE = "..."                                 # one sentence that a reader of its numbers must know
    def recognises(path: Path, names: Sequence[PurePosixPath]) -> bool: ...  # from the names of the images there
    def read(path: Path) -> Iterator[Item]: ...  # an item for each image that is given a label
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import click

from bcd_edge import plugins
from bcd_edge.system.folders import is_ignored

KINDS = tuple(plugins.names(__name__))

# What people call the two classes in folders and manifests, in lower case; True is malignant.
LABELS = {"benign": False, "normal": False, "negative": False, "0": False, "malignant": True, "positive": True, "1": True}


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled image: `malignant` is the label, `patient` the group that no split may tear apart.

    What a collection does not tell is empty: `magnification` ("100X"), `subtype` ("DC"), `slide` of the patient ("AB").
    """

    source: str
    name: str
    data: bytes = field(repr=False)
    malignant: bool
    patient: str
    magnification: str = ""
    subtype: str = ""
    slide: str = ""

    @property
    def group(self) -> str:
        return f"{self.source}/{self.patient}"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def names(path: Path) -> list[PurePosixPath]:
    """The image files below a folder or in a .zip, sorted, without reading one; hidden ones are left out."""
    if path.is_dir():
        below = ((PurePosixPath(file.relative_to(path).as_posix()), file) for file in sorted(path.rglob("*")))
        return [name for name, file in below if _is_image(str(name)) and file.is_file()]
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            return list(_members(archive))
    return []


def files(path: Path, wanted: Container[PurePosixPath] | None = None) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Name and bytes of the images in `names(path)`, or of those `wanted` among them; bytes are read when they are asked for."""
    if path.suffix.lower() == ".zip" and not path.is_dir():
        with zipfile.ZipFile(path) as archive:
            for name, member in _members(archive).items():
                if wanted is None or name in wanted:
                    yield name, _unpacked(archive, member)
    else:
        for name in names(path):
            if wanted is None or name in wanted:
                yield name, (path / name).read_bytes()


def detect(path: Path) -> str:
    """The kind of a bare path, from names alone.

    Raises:
        click.UsageError: no kind recognises it, or it cannot be listed.
    """
    with _said(str(path)):
        found = names(path)
        # any collection's tree may have folders that are called like a class, so these speak last
        for kind in sorted(KINDS, key=lambda kind: kind == "folder"):
            if plugins.load(__name__, kind).recognises(path, found):
                return kind
    what = f"none of the {len(found):,} images there is named, or in a folder named, as a known collection does it" if found else "no image there"
    raise click.UsageError(
        f"{path}: {what}; give a folder or .zip with class folders (benign/ and malignant/), a .csv with columns file and label, or KIND=PATH."
    )


def resolve(specification: str) -> tuple[str, Path]:
    """Kind and path of `KIND=PATH`, or of a bare `PATH` by `detect`; what stands before `=` counts only if it is a kind.

    Raises:
        click.UsageError: unknown kind, missing path, or a bare path of no known kind.
    """
    kind, separator, path = specification.partition("=")
    if separator and kind in KINDS:
        if not os.path.exists(path):
            raise click.UsageError(f"{specification}: {path} does not exist; give a folder, a .zip of images or a .csv.")
        return kind, Path(path)
    if not os.path.exists(specification):
        raise click.UsageError(f"{specification}: no such file; write PATH, or KIND=PATH with KIND one of {', '.join(KINDS)}.")
    return detect(Path(specification)), Path(specification)


def read(specification: str) -> list[Item]:
    """Reads `KIND=PATH`, for example `breakhis=data/breakhis/images.zip`, or a `PATH` whose kind shows.

    Raises:
        click.UsageError: see `resolve`; a broken archive or manifest, or no image of that kind in it.
    """
    kind, path = resolve(specification)
    with _said(specification):
        items = list(plugins.load(__name__, kind).read(path))
    if not items:
        raise click.UsageError(f"{specification}: no file there is named like an image of {kind}; name another path or KIND=PATH.")
    return items


def unique(items: Iterable[Item]) -> list[Item]:
    """Each file content once (the last of those that are the same), sorted by source and name: what training sees."""
    return sorted({item.sha256: item for item in items}.values(), key=lambda item: (item.source, item.name))


def _is_image(name: str) -> bool:
    from bcd_edge.readers.raster import SUFFIXES  # loads OpenCV, which `--help` need not wait for

    return name.lower().endswith(SUFFIXES) and not is_ignored(name)  # macOS packs a hidden ._name beside each file


def _members(archive: zipfile.ZipFile) -> dict[PurePosixPath, str]:
    return {PurePosixPath(name): name for name in sorted(archive.namelist()) if _is_image(name) and not name.endswith("/")}


def _unpacked(archive: zipfile.ZipFile, member: str) -> bytes:
    try:
        return archive.read(member)
    except (RuntimeError, zlib.error, EOFError) as error:  # a password, an unknown method, damage
        raise zipfile.BadZipFile(f"{member}: {error}") from None


@contextmanager
def _said(specification: str) -> Iterator[None]:
    """What keeps a path from being read, as a sentence that begins with what was asked."""
    try:
        yield
    except zipfile.BadZipFile as error:
        raise click.UsageError(f"{specification}: the .zip cannot be unpacked ({error}); copy it again from where it came.") from None
    except OSError as error:
        raise click.UsageError(f"{specification}: {error.filename or 'it'} could not be read ({error.strerror or error}).") from None
    except ValueError as error:
        raise click.UsageError(f"{specification}: {error}") from None
