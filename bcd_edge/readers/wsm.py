"""DICOM slides that OpenSlide does not read: in JPEG-LS or RLE, or without what it asks for. One file, full resolution only, by pydicom."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from bcd_edge.errors import InputError
from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.readers.slide import Level, Slide, believed, damaged, paste

UNDEFINED: Final = 0xFFFFFFFF
# A frame's description, as its decoder needs it.
DESCRIPTION: Final = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)


class WsmSlide(Slide):
    """See `bcd_edge.readers.slide.Slide`; frames lie row by row (TILED_FULL), one optical path and focal plane."""

    def __init__(self, path: Path) -> None:
        import pydicom
        from pydicom.pixels import get_decoder

        self._file: BinaryIO = path.open("rb")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # sloppy text in elements that nobody reads
                self._header = header = pydicom.dcmread(self._file, stop_before_pixels=True)
                self._syntax = header.file_meta.TransferSyntaxUID
                self._decoder = get_decoder(self._syntax)
                width, height = int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows)
                self._across = -(-width // header.Columns)
                self._frames = self._places(path, self._across * -(-height // header.Rows))
                scale = _scale_of(header, width, height)
        except InputError:
            self._file.close()
            raise
        except Exception as error:  # pydicom raises nearly anything on damaged input
            self._file.close()
            raise damaged(path, error) from None
        super().__init__(path, "dicom", (Level(width, height, 1.0),), scale)

    def _places(self, path: Path, tiles: int) -> list[tuple[int, int]]:
        """Offset and length of every frame."""
        if self._header.get("DimensionOrganizationType") != "TILED_FULL":  # there are files that go column by column, and do not say so
            raise InputError(f"The slide {path.name} does not say where its frames lie (it is not TILED_FULL); export it fully tiled.")
        count = int(self._header.get("NumberOfFrames", 1))
        if count != tiles:
            raise InputError(f"The slide {path.name} has {count:,} frames where its size asks for {tiles:,}; export it fully tiled, in one plane.")
        if self._syntax.is_implicit_VR:
            self._file.seek(4, os.SEEK_CUR)
        else:
            self._file.seek(8, os.SEEK_CUR)
        (length,) = struct.unpack("<I" if self._syntax.is_little_endian else ">I", self._file.read(4))
        start = self._file.tell()
        if length != UNDEFINED:
            size = length // count
            return [(start + index * size, size) for index in range(count)]
        fragments = list(self._fragments(path))[1:]  # the first is the offset table, which is not needed
        if len(fragments) != count:
            raise damaged(path, f"{len(fragments):,} fragments for {count:,} frames")
        return fragments

    def _fragments(self, path: Path) -> Iterator[tuple[int, int]]:
        while len(item := self._file.read(8)) == 8:
            group, element, length = struct.unpack("<HHI", item)
            if (group, element) == (0xFFFE, 0xE0DD):
                return
            if (group, element) != (0xFFFE, 0xE000):
                break
            yield self._file.tell(), length
            self._file.seek(length, os.SEEK_CUR)
        raise damaged(path, "its frames end early")

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> UInt8Image:
        picture = np.full((height, width, 3), 255, np.uint8)
        rows, columns = self._header.Rows, self._header.Columns
        for row in range(max(0, y) // rows, -(-min(y + height, self.height) // rows)):
            for column in range(max(0, x) // columns, -(-min(x + width, self.width) // columns)):
                tile = self._frame(row * self._across + column)[: self.height - row * rows, : self.width - column * columns]
                paste(picture, tile, column * columns - x, row * rows - y)
        return picture

    def _frame(self, index: int) -> UInt8Image:
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.encaps import encapsulate

        offset, length = self._frames[index]
        data = os.pread(self._file.fileno(), length, offset)
        if len(data) < length:
            raise damaged(self.path, "a frame lies behind the end of the file")
        frame = Dataset()
        frame.file_meta = FileMetaDataset()
        frame.file_meta.TransferSyntaxUID = self._syntax
        for name in DESCRIPTION:
            if name in self._header:
                setattr(frame, name, getattr(self._header, name))
        frame.PixelData = encapsulate([data]) if self._syntax.is_encapsulated else data
        pixels, _ = self._decoder.as_array(frame)
        if pixels.dtype != np.uint8 or pixels.ndim != 3:
            raise InputError(f"The slide {self.path.name} has frames of {pixels.dtype}; export it as RGB of 8 bits.")
        return np.asarray(pixels, np.uint8)

    def close(self) -> None:
        self._file.close()


def _scale_of(header: Any, width: int, height: int) -> tuple[float | None, str]:
    """µm per pixel from Pixel Spacing, or from the size of the imaged volume in mm."""
    try:
        down, across = (1000 * float(side) for side in header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing)
    except (AttributeError, IndexError, TypeError, ValueError):
        if "ImagedVolumeWidth" not in header or "ImagedVolumeHeight" not in header:
            return None, ""
        across, down = 1000 * float(header.ImagedVolumeWidth) / width, 1000 * float(header.ImagedVolumeHeight) / height
    return believed(across, down)
