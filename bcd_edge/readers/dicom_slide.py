"""DICOM slides that OpenSlide does not open: one level in one file, whatever the transfer syntax, and headers that lack what the standard requires.

Frames are decoded by the policy of `bcd_edge.readers.codecs.dicom`, and read where they are asked for.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from bcd_edge.errors import InputError
from bcd_edge.readers import dicom
from bcd_edge.readers.codecs import dicom as codec
from bcd_edge.readers.dicom import Dataset, Pixels
from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.readers.slide import Level, Slide, believed, damaged, paste

PER_FRAME: Final = 0x52009230
MATRIX_COLUMNS, MATRIX_ROWS = 0x00480006, 0x00480007
# (FFFE,E000) begins an item, (FFFE,E0DD) ends them all (PS3.5, 7.5).
ITEM, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
# Image Types of pictures in the same series that are no level of tissue.
NO_TISSUE: Final = ("LABEL", "OVERVIEW")
# Across edges of frames that continue each other levels change as within frames, and across others more, by this factor; how many are looked at.
CONTINUES, COMPARED = 1.5, 64
PLAIN: Final = (dicom.IMPLICIT, dicom.EXPLICIT, dicom.BIG_ENDIAN)


class DicomSlide(Slide):
    """See `bcd_edge.readers.slide.Slide`."""

    def __init__(self, path: Path) -> None:
        """Opens a file.

        Raises:
            InputError: it is damaged, has no level of tissue, or is stored in a way that is not read.
        """
        self._lock = threading.Lock()
        with ExitStack() as opened:
            self._file = opened.enter_context(path.open("rb"))
            try:
                self._open(path)
            except InputError:
                raise
            except Exception as error:  # pydicom raises nearly anything on damaged input
                raise damaged(path, error) from None
            opened.pop_all()

    def _open(self, path: Path) -> None:
        header, self._dataset = _header(self._file)
        self._layout = codec.layout(self._dataset)
        width, height = self._dataset.long(MATRIX_COLUMNS), self._dataset.long(MATRIX_ROWS)
        self._across, self._down = -(-width // self._layout.width), -(-height // self._layout.height)
        super().__init__(path, "dicom", (Level(width, height, 1.0),), _scale_of(header, width))
        self._frames = self._index(path, header)
        if PER_FRAME not in header and header.get("DimensionOrganizationType") != "TILED_FULL":
            self._frames = self._arranged()

    def _index(self, path: Path, header: Any) -> dict[int, tuple[int, int]]:
        """Place and length in the file of the frame of each tile, by its number, row by row; tiles that were left out have none."""
        count = int((self._dataset.decimals(dicom.FRAMES) or [1.0])[0])
        if any(word in str(header.get("ImageType", "")) for word in NO_TISSUE):
            raise InputError(f"The slide {path.name} is only the label or overview of a slide; export its levels of tissue.")
        numbers = list(_numbers(header, self._layout, self._across)) if PER_FRAME in header else list(range(count))
        if not 0 < count <= self._across * self._down or len(set(numbers)) != count or len(numbers) != count:
            raise damaged(path, f"it declares {count:,} frames and has room for {self._across * self._down:,} in one plane")
        pixels = _pixels(self._file, self._dataset)
        if self._dataset.syntax in PLAIN:
            length = self._layout.bytes
            places = [(pixels.start + index * length, length) for index in range(count)]
        else:
            places = list(_fragments(self._file, pixels.start))[1:]
        if len(places) != count or sum(places[-1]) > os.fstat(self._file.fileno()).st_size:
            raise damaged(path, f"it declares {count:,} frames and holds {len(places):,}, or ends within them")
        return dict(zip(numbers, places, strict=True))

    def _arranged(self) -> dict[int, tuple[int, int]]:
        """Frames whose places the file does not tell: row by row or column by column, whichever makes neighbours continue each other.

        Raises:
            InputError: neither does.
        """
        by_rows = self._frames
        by_columns = {index % self._down * self._across + index // self._down: place for index, place in by_rows.items()}
        if len(by_rows) < self._across * self._down:
            raise _without_places(self.path)
        if min(self._across, self._down) == 1:
            return by_rows
        best, other = sorted((by_rows, by_columns), key=lambda frames: self._step(frames, 0))
        across, within = self._step(best, 0), self._step(best, -1) + 1  # a level, where nothing is seen but glass
        if across > CONTINUES * within or self._step(other, 0) < CONTINUES * across:
            raise _without_places(self.path)
        return best

    def _step(self, frames: dict[int, tuple[int, int]], column: int) -> float:
        """Mean difference of levels from the last column of frames to a column of their right neighbours, or, with -1, to their own one before."""
        pairs = [number for number in range(self._across * self._down - 1) if (number + 1) % self._across]
        steps = []
        for number in pairs[:: max(1, len(pairs) // COMPARED)]:
            left = self._frame(*frames[number]).astype(np.int16)
            beside = left[:, -2] if column < 0 else self._frame(*frames[number + 1])[:, column]
            steps.append(float(np.abs(left[:, -1] - beside).mean()))
        return float(np.mean(steps))

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> UInt8Image:
        picture = np.full((height, width, 3), 255, np.uint8)
        tall, wide = self._layout.height, self._layout.width
        for row in range(max(0, y) // tall, -(-min(y + height, self.height) // tall)):
            for column in range(max(0, x) // wide, -(-min(x + width, self.width) // wide)):
                if (place := self._frames.get(row * self._across + column)) is not None:
                    paste(picture, self._frame(*place), column * wide - x, row * tall - y)
        return picture

    def _frame(self, start: int, length: int) -> UInt8Image:
        with self._lock:
            self._file.seek(start)
            data = self._file.read(length)
        syntax, elements = self._dataset.syntax, self._dataset.elements
        if syntax in PLAIN:
            return codec.pixels(Dataset(syntax, data + bytes(length % 2), elements, Pixels(0, length + length % 2, b"OB")))
        fragment = ITEM + bytes(4) + ITEM + struct.pack("<I", length) + data + END + bytes(4)
        return codec.pixels(Dataset(syntax, fragment, elements, Pixels(0, None, b"OB")))

    def close(self) -> None:
        self._file.close()


def _without_places(path: Path) -> InputError:
    return InputError(f"The DICOM slide {path.name} does not tell where its frames lie; export it as TILED_FULL, or with a position for each frame.")


def _header(file: BinaryIO) -> tuple[Any, Dataset]:
    """All of the header by pydicom, and what the codec needs of it; the file is left at the pixels."""
    from pydicom import dcmread

    header = dcmread(file, stop_before_pixels=True)
    syntax = str(header.file_meta.TransferSyntaxUID)
    if syntax not in dicom.SYNTAXES or syntax == dicom.DEFLATED:
        raise InputError(f"The DICOM slide is in the transfer syntax {dicom.name(syntax)}, which is not read; send it as JPEG or Explicit VR.")
    raw = ((int(tag), header.get_item(tag)) for tag in header.keys() if tag < dicom.LAST)  # noqa: SIM118  # iterating a Dataset converts it
    return header, Dataset(syntax, b"", {tag: element.value or b"" for tag, element in raw if element.is_raw}, None)


def _numbers(header: Any, layout: codec.Layout, across: int) -> Iterator[int]:
    """The number of the tile of each frame, by the positions that it declares, from 1 (PS3.3, C.8.12.6.1)."""
    for frame in header[PER_FRAME].value:
        position = frame.PlanePositionSlideSequence[0]
        column, row = (int(position[f"{axis}PositionInTotalImagePixelMatrix"].value) - 1 for axis in ("Column", "Row"))
        if column % layout.width or row % layout.height:
            raise InputError("The frames of the DICOM slide overlap or have gaps, which is not read; export it as TILED_FULL.")
        yield row // layout.height * across + column // layout.width


def _pixels(file: BinaryIO, dataset: Dataset) -> Pixels:
    """Where the value of the Pixel Data element begins, which the file is at."""
    pixels = dicom.pixels(file, os.fstat(file.fileno()).st_size, implicit=dataset.syntax == dicom.IMPLICIT, order=dataset.order)
    if pixels is None or (pixels.end is None) == (dataset.syntax in PLAIN):
        raise InputError("The DICOM slide holds no pixels, or not as its transfer syntax says; export it again.")
    return pixels


def _fragments(file: BinaryIO, at: int) -> Iterator[tuple[int, int]]:
    """Place and length of each item of compressed pixels: the offset table, then one for each frame."""
    while True:
        file.seek(at)
        head = file.read(8)
        if head[:4] == END:
            return
        if len(head) < 8 or head[:4] != ITEM:
            raise InputError("The DICOM slide is damaged (a fragment of its pixels is broken); copy it again.")
        length = int(struct.unpack("<I", head[4:])[0])
        yield at + 8, length
        at += 8 + length


def _scale_of(header: Any, columns: int) -> tuple[float | None, str]:
    """µm per pixel from the spacing of all frames, or from the width of the slide in mm, as `bcd_edge.readers.slide.Slide` has it."""
    try:
        down, across = (1000 * float(side) for side in header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing)
        return believed(across, down)
    except (AttributeError, IndexError, TypeError, ValueError):
        pass
    try:
        across = 1000 * float(header.ImagedVolumeWidth) / columns
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        return None, ""
    return believed(across, across)
