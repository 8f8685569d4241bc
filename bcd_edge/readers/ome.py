"""OME-TIFF, whose levels lie in directories below the page (Besson et al., ECDP 2019), where OpenSlide does not look for them."""

from __future__ import annotations

import mmap
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from bcd_edge.errors import InputError
from bcd_edge.readers.codecs import tiff
from bcd_edge.readers.ifd import DirectoryError, directories
from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.readers.slide import Level, Slide, believed, damaged, paste

# µm of the units that microscopes write.
UNITS_UM: Final = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}


def recognises(path: Path) -> bool:
    """Whether a TIFF's first page has levels below it, or an OME description."""
    try:
        with path.open("rb") as file:
            if not tiff.matches(file.read(4)):
                return False
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                page = next(directories(data))
                return 330 in page or b"<OME" in page.raw(270)[:4096]
    except (OSError, ValueError, StopIteration, DirectoryError):
        return False


class OmeSlide(Slide):
    """See `bcd_edge.readers.slide.Slide`."""

    def __init__(self, path: Path) -> None:
        import tifffile

        with ExitStack() as opened:
            try:
                self._file = opened.enter_context(tifffile.TiffFile(path))
                series = self._file.series[0]
                self._pages = [level.keyframe for level in series.levels]
                metadata = tifffile.xml2dict(self._file.ome_metadata or "")
            except Exception as error:  # tifffile raises what its parsing meets
                raise damaged(path, error) from None
            self._check(path, series)
            opened.pop_all()
        width = self._pages[0].imagewidth
        levels = tuple(Level(page.imagewidth, page.imagelength, width / page.imagewidth) for page in self._pages)
        self._lock = threading.Lock()
        super().__init__(path, "ome-tiff", levels, _scale_of(metadata))

    def _check(self, path: Path, series: Any) -> None:
        """Refuses what is no bright-field slide in tiles."""
        if series.axes != "YXS" or series.dtype != np.uint8 or series.shape[2] != 3:
            raise InputError(
                f"The slide {path.name} holds {series.axes} of {series.dtype}, where one plane of 8-bit RGB is read; export it as bright-field RGB."
            )
        if not all(page.is_tiled for page in self._pages):
            raise InputError(f"The slide {path.name} is not tiled, so that parts of it cannot be read; export it as a tiled pyramid.")

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> UInt8Image:
        page, downsample = self._pages[level], self.levels[level].downsample
        left, top = round(x / downsample), round(y / downsample)
        picture = np.full((height, width, 3), 255, np.uint8)
        across = -(-page.imagewidth // page.tilewidth)
        for row in range(max(0, top) // page.tilelength, -(-min(top + height, page.imagelength) // page.tilelength)):
            for column in range(max(0, left) // page.tilewidth, -(-min(left + width, page.imagewidth) // page.tilewidth)):
                paste(picture, self._tile(page, row * across + column), column * page.tilewidth - left, row * page.tilelength - top)
        return picture

    def _tile(self, page: Any, index: int) -> UInt8Image:
        """A tile, cut at the edge of its level."""
        with self._lock:
            self._file.filehandle.seek(page.dataoffsets[index])
            data = self._file.filehandle.read(page.databytecounts[index])
        if len(data) < page.databytecounts[index]:
            raise damaged(self.path, "a tile lies behind the end of the file")
        pixels, _, shape = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
        if pixels is None:  # left out by the writer: nothing was there
            return np.full((*shape[1:3], 3), 255, np.uint8)
        return np.asarray(pixels[0, : shape[1], : shape[2]], np.uint8)

    def close(self) -> None:
        self._file.close()


def _scale_of(metadata: dict[str, Any]) -> tuple[float | None, str]:
    """µm per pixel from the OME description, as `bcd_edge.readers.slide.Slide` has it."""
    image = metadata.get("OME", {}).get("Image", {})
    pixels = (image[0] if isinstance(image, list) else image).get("Pixels", {})
    try:
        across, down = (float(pixels[f"PhysicalSize{axis}"]) * UNITS_UM[pixels.get(f"PhysicalSize{axis}Unit", "µm")] for axis in "XY")
    except (KeyError, ValueError, TypeError):
        return None, ""
    return believed(across, down)
