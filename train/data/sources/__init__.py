"""Image collections, one adapter a file: `read("KIND=PATH")` or `read("PATH")` gives an `Item` for each labelled image.

A path is a folder (searched recursively), a .zip of one, or a CSV manifest. The adapter knows what file names, folders
and rows of its collection mean; everything after it sees only `Item`. An adapter is a module with

    NOTE = "..."                                 # one sentence that a reader of its figures must know
    def recognises(path: Path, names: Sequence[PurePosixPath]) -> bool: ...  # from the names of the images there
    def read(path: Path, labels: Labels) -> Iterator[Item]: ...  # an item for each image that is given a label

and, where they apply, `CITATION` (for model cards), `LIMITS` (what a model trained on it cannot know, for model cards),
`FIELD_UM` (side in µm of the square as large as the field, by magnification) and `FALLBACK = True` (asked last whether it recognises a path).
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import ModuleType

import click

from bcd_edge import plugins
from bcd_edge.labels import LABELS
from bcd_edge.system.folders import is_ignored

KINDS = tuple(plugins.names(__name__))
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")

Labels = Mapping[str, bool | None]  # lower-case word to "malignant?"; None leaves its images out


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled image: `malignant` is the label, `patient` the group that no split may tear apart.

    What a collection does not tell is empty: `magnification` ("100X"), `subtype` ("DC"), `slide` of the patient ("AB"),
    `part` that the patient is in for good ("test"), `um_per_pixel` (None).
    """

    source: str
    name: str
    data: bytes = field(repr=False)
    malignant: bool
    patient: str
    magnification: str = ""
    subtype: str = ""
    slide: str = ""
    part: str = ""
    um_per_pixel: float | None = None

    @property
    def group(self) -> str:
        return f"{self.source}/{self.patient}"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def adapter(kind: str) -> ModuleType:
    """The module of a kind."""
    return plugins.load(__name__, kind)


def parse_labels(options: Sequence[str]) -> Labels:
    """The words for the classes: `bcd_edge.labels.LABELS` and those of `--label NAME=CLASS`.

    Raises:
        click.UsageError: a class is none of benign, malignant and skip.
    """
    classes = {"benign": False, "malignant": True, "skip": None}
    labels: dict[str, bool | None] = dict(LABELS)
    for option in options:
        name, _, label = option.partition("=")
        if not name or label not in classes:
            raise click.UsageError(f"--label {option}: write NAME=benign, NAME=malignant, or NAME=skip to leave these images out.")
        labels[name.lower()] = classes[label]
    return labels


def names(path: Path) -> list[PurePosixPath]:
    """The image files below a folder or in a .zip, sorted; of those without a suffix the first bytes are read. Not those that are `ignored`."""
    return [name for name in _images(path) if not is_ignored(str(name))]


def ignored(path: Path) -> Counter[str]:
    """How many images lie in hidden and house-keeping folders, by the name of the folder."""
    folders = (next((folder for folder in name.parts[:-1] if is_ignored(folder)), "") for name in _images(path))
    return Counter(folder for folder in folders if folder)


def archives(path: Path) -> list[PurePosixPath]:
    """The archives below a folder or in a .zip, which are not looked into."""
    return [name for name in _listed(path) if name.suffix.lower() in ARCHIVES]


def files(path: Path, wanted: Container[PurePosixPath] | None = None) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Name and bytes of the images in `names(path)`, or of those `wanted` among them; bytes are read when they are asked for."""
    chosen = [name for name in names(path) if wanted is None or name in wanted]
    if path.suffix.lower() == ".zip" and not path.is_dir():
        with zipfile.ZipFile(path) as archive:
            members = _members(archive)
            for name in chosen:
                yield name, _unpacked(archive, members[name])
    else:
        for name in chosen:
            yield name, (path / name).read_bytes()


def detect(path: Path) -> str:
    """The kind of a bare path, from names alone.

    Raises:
        click.UsageError: no kind recognises it, or it cannot be listed.
    """
    with _explained(str(path)):
        images = names(path)
        # any collection's tree may have folders that are called like a class, so the fallback is asked last
        for kind in sorted(KINDS, key=lambda kind: getattr(adapter(kind), "FALLBACK", False)):
            if adapter(kind).recognises(path, images):
                return kind
        reason = (
            f"none of the {len(images):,} images there is named, or in a folder named, as in a known collection"
            if images
            else f"no image there{_packed_away(path)}"
        )
    raise click.UsageError(
        f"{path}: {reason}; give a folder or .zip with class folders (benign/ and malignant/), a .csv with columns file and label, or KIND=PATH "
        "(folder=PATH --label tumour=malignant names class folders)."
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


def read(specification: str, labels: Labels = LABELS) -> list[Item]:
    """Reads `KIND=PATH`, for example `breakhis=data/breakhis/images.zip`, or a `PATH` whose kind shows.

    Args:
        specification: as above.
        labels: of `parse_labels`, for kinds whose folders or rows name a class.

    Raises:
        click.UsageError: see `resolve`; a broken archive or manifest, an unknown class, or no image of that kind in it.
    """
    kind, path = resolve(specification)
    with _explained(specification):
        items = list(adapter(kind).read(path, labels))
        if not items:
            raise ValueError(f"no file there is named like an image of {kind}{_packed_away(path)}; name another path or KIND=PATH.")
    return items


def unique(items: Iterable[Item]) -> list[Item]:
    """Each file content once (the last of those that are the same), sorted by source and name: what training sees."""
    return sorted({item.sha256: item for item in items}.values(), key=lambda item: (item.source, item.name))


def one_class(items: Iterable[Item]) -> dict[str, str]:
    """The sources whose images are all of one class, with that class: telling such a source from another needs no knowledge of tissue."""
    classes: dict[str, set[bool]] = {}
    for item in items:
        classes.setdefault(item.source, set()).add(item.malignant)
    return {source: "malignant" if True in seen else "benign" for source, seen in classes.items() if len(seen) == 1}


def _images(path: Path) -> list[PurePosixPath]:
    """Every image below a folder or in a .zip, sorted: by its name, or by its content if the name has no suffix."""
    from bcd_edge.readers import raster  # loads OpenCV, which `--help` need not wait for

    listed = [name for name in _listed(path) if not is_ignored(name.name)]  # macOS packs a hidden ._name beside each file
    if path.is_dir():
        return [name for name in listed if raster.has_image(str(path / name))]
    heads = _heads(path, [name for name in listed if not name.suffix], raster.HEAD_BYTES)
    return [name for name in listed if (raster.is_image(heads[name]) if name in heads else name.suffix.lower() in raster.suffixes())]


def _heads(path: Path, members: Sequence[PurePosixPath], length: int) -> dict[PurePosixPath, bytes]:
    """The first bytes of members of a .zip."""
    if not members:
        return {}
    with zipfile.ZipFile(path) as archive:
        originals = _members(archive)
        return {name: _unpacked(archive, originals[name], length) for name in members}


def _listed(path: Path) -> list[PurePosixPath]:
    """Every file below a folder or in a .zip, sorted."""
    if path.is_dir():
        return [PurePosixPath(file.relative_to(path).as_posix()) for file in sorted(path.rglob("*")) if file.is_file()]
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            return list(_members(archive))
    return []


def _members(archive: zipfile.ZipFile) -> dict[PurePosixPath, str]:
    return {PurePosixPath(name): name for name in sorted(archive.namelist()) if not name.endswith("/")}


def _packed_away(path: Path) -> str:
    """What to do about an archive that is not looked into, as the end of a sentence; empty if there is none."""
    if path.is_file() and path.suffix.lower() in ARCHIVES[1:]:
        return f": {path.name} is an archive of a kind that is not read, so unpack it and give the folder"
    packed = [str(name) for name in archives(path)]
    return f" but {', '.join(packed[:3])}{', ...' if len(packed) > 3 else ''}: unpack what is in there and give the folder" if packed else ""


def _unpacked(archive: zipfile.ZipFile, member: str, length: int = -1) -> bytes:
    try:
        with archive.open(member) as file:
            return file.read(length)
    except (RuntimeError, zlib.error, EOFError) as error:  # a password, an unknown method, damage
        raise zipfile.BadZipFile(f"{member}: {error}") from None


@contextmanager
def _explained(specification: str) -> Iterator[None]:
    """What keeps a path from being read, as a sentence that begins with what was asked."""
    try:
        yield
    except zipfile.BadZipFile as error:
        raise click.UsageError(f"{specification}: the .zip cannot be unpacked ({error}); copy it again from where it came.") from None
    except OSError as error:
        raise click.UsageError(f"{specification}: {error.filename or 'it'} could not be read ({error.strerror or error}).") from None
    except ValueError as error:
        raise click.UsageError(f"{specification}: {error}") from None
