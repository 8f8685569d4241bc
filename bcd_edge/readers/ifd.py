"""Directories of tags as in TIFF 6.0, BigTIFF and EXIF: read defensively, from any byte order, values of any integer type."""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from typing import Final

# type code to the format character of `struct`; rationals are read as their two integers
TYPES: Final = {
    1: "B",
    2: "s",
    3: "H",
    4: "I",
    5: "II",
    6: "b",
    7: "s",
    8: "h",
    9: "i",
    10: "ii",
    11: "f",
    12: "d",
    13: "I",
    16: "Q",
    17: "q",
    18: "Q",
}
ORIENTATION: Final = 274
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
# µm by unit: inch, centimetre.
UNIT_UM: Final = {2: 25_400.0, 3: 10_000.0}
# Width and height of a pixel may differ by so much and still be taken for one number.
SQUARENESS: Final = 0.02
XMP_ORIENTATION: Final = re.compile(rb"""tiff:Orientation(?:="|='|>)([1-8])""")
MAX_PAGES: Final = 4096


class DirectoryError(ValueError):
    """The structure of the directories is damaged."""


class Directory:
    """One directory: tag to values, read when asked for."""

    def __init__(self, data: bytes | mmap.mmap, order: str, entries: dict[int, tuple[int, int, int]]) -> None:
        self.data, self.order, self._entries = data, order, entries

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def values(self, tag: int) -> tuple[int, ...]:
        """All integers of a tag, none if it is missing.

        Raises:
            DirectoryError: they lie outside the file, or are no integers.
        """
        kind, count, at = self._entries.get(tag, (1, 0, 0))
        form = TYPES.get(kind, "")
        if form not in tuple("BHIQbhiq"):
            raise DirectoryError(f"tag {tag} has the type {kind}, not an integer")
        if at + count * struct.calcsize(form) > len(self.data):
            raise DirectoryError(f"tag {tag} lies outside the file")
        return struct.unpack_from(f"{self.order}{count}{form}", self.data, at)

    def first(self, tag: int, default: int) -> int:
        return next(iter(self.values(tag)), default)

    def ratio(self, tag: int) -> float:
        """The first rational number of a tag; 0 if it is missing, or no number.

        Raises:
            DirectoryError: it lies outside the file.
        """
        kind, count, at = self._entries.get(tag, (5, 0, 0))
        if kind != 5 or not count:
            return 0.0
        if at + 8 > len(self.data):
            raise DirectoryError(f"tag {tag} lies outside the file")
        upper, lower = struct.unpack_from(f"{self.order}II", self.data, at)
        return upper / lower if lower else 0.0

    def raw(self, tag: int) -> bytes:
        """The bytes of a text or of opaque data, empty if the tag is missing."""
        kind, count, at = self._entries.get(tag, (1, 0, 0))
        return self.data[at : at + count * struct.calcsize("=" + TYPES.get(kind, "s"))]


def directories(data: bytes | mmap.mmap) -> Iterator[Directory]:
    """The directories of a TIFF file or of an EXIF block, in their order.

    Raises:
        DirectoryError: the structure is damaged.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        raise DirectoryError("no byte order")
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    offset, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    place = 8 if big else 4
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(order + offset, data, place)
        while at:
            if at in seen or len(seen) >= MAX_PAGES:
                raise DirectoryError("the chain of directories does not end")
            seen.add(at)
            (entries,) = struct.unpack_from(order + count, data, at)
            at += struct.calcsize(count)
            if at + entries * entry > len(data):
                raise DirectoryError("a directory lies outside the file")
            yield Directory(data, order, dict(_entry(data, order, at + index * entry, big) for index in range(entries)))
            (at,) = struct.unpack_from(order + offset, data, at + entries * entry)
    except (struct.error, OverflowError):  # BigTIFF has places beyond any memory
        raise DirectoryError("a directory lies outside the file") from None


def exif_orientation(exif: bytes) -> int:
    """The orientation in an EXIF block, 1..8; 1 where the block does not give a valid one. Other tags may be damaged."""
    try:
        value = next(directories(exif)).first(ORIENTATION, 1)
    except (DirectoryError, StopIteration):
        return 1
    return value if 1 <= value <= 8 else 1


def pixel_width(directory: Directory, unit: float | None = None) -> float:
    """Width of a pixel in µm by the resolution in a directory; 0 if it has none, or pixels that are not square.

    Args:
        directory: of a TIFF, or of an EXIF block.
        unit: µm that the resolution counts pixels in; by tag 296 if not given.

    Raises:
        DirectoryError: a tag is damaged.
    """
    unit = UNIT_UM.get(directory.first(RESOLUTION_UNIT, 2), 0.0) if unit is None else unit
    return width_in_um(unit, directory.ratio(X_RESOLUTION), directory.ratio(Y_RESOLUTION))


def width_in_um(unit: float, across: float, down: float) -> float:
    """Width of a pixel in µm from the numbers of pixels in a unit, given in µm; 0 if they are none, or differ."""
    is_square = across > 0 and abs(across - (down or across)) <= SQUARENESS * across
    return unit / across if is_square else 0.0


def exif_pixel_width(exif: bytes) -> float:
    """Width of a pixel in µm by an EXIF block; 0 if it does not tell."""
    try:
        return pixel_width(next(directories(exif)))
    except (DirectoryError, StopIteration):
        return 0.0


def xmp_orientation(xmp: bytes) -> int:
    """The orientation in Adobe's XMP, 1..8; 1 where it gives none."""
    match = XMP_ORIENTATION.search(xmp)
    return int(match.group(1)) if match else 1


def _entry(data: bytes | mmap.mmap, order: str, at: int, big: bool) -> tuple[int, tuple[int, int, int]]:
    """Tag, and the type, count and place of its values: in the entry itself where they fit."""
    tag, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, at)
    at += 12 if big else 8
    size = count * struct.calcsize("=" + TYPES.get(kind, "s"))
    if size > (8 if big else 4):
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, at)
    return tag, (kind, count, at)
