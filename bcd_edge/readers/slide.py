"""Whole slides: levels, pixel size and regions of them, by OpenSlide, or by tifffile for OME-TIFF. Pixels are read where they are asked for."""

from __future__ import annotations

import builtins
import hashlib
import importlib.util
import math
import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from bcd_edge.errors import InputError
from bcd_edge.readers import dicom, raster
from bcd_edge.readers.codecs import tiff
from bcd_edge.readers.metadata import Metadata
from bcd_edge.readers.pixels import UInt8Image, rgb
from bcd_edge.system import machine

FIX: Final = 'pip install "bcd-edge[slide]"'
# Of files that are slides whatever is in them; of TIFF and DICOM the content tells.
SUFFIXES: Final = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".czi")
# OpenSlide's name for a tiled TIFF of no known scanner, which may be any picture.
GENERIC: Final = "generic-tiff"
# Bytes at the beginning of a DICOM file that hold its class and instance.
META_BYTES: Final = 1024
# Read at a time for a hash.
HASHED_BYTES: Final = 2**22
# µm per pixel of level 0 that a scanner can have: a tenth of the resolution of light, and a slide in a flat-bed scanner at 1,200 dpi.
FINEST_UM, COARSEST_UM = 0.02, 22.0
# µm per pixel times the objective's power: 10 by convention (0.25 at 40X), and scanners differ from it by less than this factor.
UM_TIMES_POWER, POWER_FACTOR = 10.0, 3.0
# Pixels of a level along the side of a block that is read at a time for a thumbnail: 4 MB.
BLOCK: Final = 1024


@dataclass(frozen=True, slots=True)
class Level:
    """A copy of the slide, reduced by `downsample`, with its size in pixels."""

    width: int
    height: int
    downsample: float


class Slide(ABC):
    """An open slide, for any number of threads; a context manager that closes the file.

    Attributes:
        path: its file.
        vendor: who made the scanner, or the format's name.
        levels: from full resolution down.
        um_per_pixel: width of a pixel of level 0 in µm; None where the file does not tell it, or cannot be believed.
        doubt: why the file's pixel size is not believed, as a clause; empty otherwise.
    """

    def __init__(self, path: Path, vendor: str, levels: tuple[Level, ...], scale: tuple[float | None, str]) -> None:
        self.path, self.vendor, self.levels = path, vendor, levels
        self.um_per_pixel, self.doubt = scale

    @property
    def width(self) -> int:
        return self.levels[0].width

    @property
    def height(self) -> int:
        return self.levels[0].height

    def read(self, level: int, x: int, y: int, width: int, height: int) -> UInt8Image:
        """A region, uint8 RGB, `height` x `width` x 3; white where there is nothing.

        Args:
            level: index into `levels`.
            x: left edge, in pixels of level 0.
            y: upper edge, in pixels of level 0.
            width: in pixels of the level.
            height: in pixels of the level.

        Raises:
            InputError: the file is damaged or was cut.
        """
        try:
            return self._read(level, x, y, width, height)
        except InputError:
            raise
        except Exception as error:  # the libraries have kinds of their own, and pass on those of their codecs
            raise damaged(self.path, error) from None

    @abstractmethod
    def _read(self, level: int, x: int, y: int, width: int, height: int) -> UInt8Image: ...

    @abstractmethod
    def close(self) -> None:
        """Closes the file."""

    def level_for(self, downsample: float) -> int:
        """The coarsest level that is not coarser than this; 0 if all are."""
        return max((index for index, level in enumerate(self.levels) if level.downsample <= downsample), default=0)

    def thumbnail(self, side: int) -> tuple[UInt8Image, float]:
        """All of the slide with at most `side` pixels along its longer side, uint8 RGB, and how many pixels of level 0 one of them is wide.

        Where the slide is larger, it has at least half of them. Read in blocks, so that memory does not grow with the slide.
        """
        scale = max(1.0, self.width / side, self.height / side)
        level = self.level_for(2 * scale if scale > 1 else 1.0)  # of a level that is a little coarser a sixteenth of the pixels are read
        factor = math.ceil(scale / self.levels[level].downsample)  # whole, which shrinks several times as fast
        scale = factor * self.levels[level].downsample
        picture = np.full((math.ceil(self.height / scale), math.ceil(self.width / scale), 3), 255, np.uint8)
        step = max(1, BLOCK // factor)

        def fill(corner: tuple[int, int]) -> None:
            top, left = corner
            target = picture[top : top + step, left : left + step]
            target[:] = self.reduced(level, left, top, factor, target.shape[1], target.shape[0])

        with ThreadPoolExecutor(machine.cores(), "bcd-edge thumbnail") as pool:
            corners = [(top, left) for top in range(0, picture.shape[0], step) for left in range(0, picture.shape[1], step)]
            list(pool.map(fill, corners))
        return picture, scale

    def reduced(self, level: int, x: int, y: int, factor: int, width: int, height: int) -> UInt8Image:
        """A region of a level shrunk by a whole factor, `height` x `width` pixels; `x` and `y` are in such pixels, too."""
        scale = factor * self.levels[level].downsample
        pixels = self.read(level, round(x * scale), round(y * scale), width * factor, height * factor)
        if factor == 1:
            return pixels
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _ByOpenSlide(Slide):
    def __init__(self, path: Path) -> None:
        import openslide

        self._handle = openslide.OpenSlide(path)
        properties = dict(self._handle.properties)
        sizes = zip(self._handle.level_dimensions, self._handle.level_downsamples, strict=True)
        levels = tuple(Level(width, height, downsample) for (width, height), downsample in sizes)
        self.instance = properties.get("dicom.MediaStorageSOPInstanceUID", "")
        super().__init__(path, properties.get("openslide.vendor", "unknown"), levels, _scale_of(properties))

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> UInt8Image:
        rgba = np.asarray(self._handle.read_region((x, y), level, (width, height)), np.uint8)
        if int(rgba[..., 3].min()) == 255:
            return np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), np.uint8)
        return rgb(rgba, "straight")

    def close(self) -> None:
        self._handle.close()


def is_installed() -> bool:
    """Whether the packages of the extra `slide` are."""
    return all(importlib.util.find_spec(name) for name in ("openslide", "tifffile"))


def open(path: str | Path) -> Slide:
    """Opens a slide by its content.

    Raises:
        InputError: it does not exist, is no slide, is damaged, or lacks the files beside it; the sentence says which. Or the extra
            `slide` is not installed.
    """
    if not is_installed():
        raise InputError(f"{Path(path).name} is a whole slide, and what reads them is not installed; fix: {FIX}")
    from openslide import OpenSlideError, OpenSlideUnsupportedFormatError

    from bcd_edge.readers import dicom_slide, ome

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist, or is no file; give the path of a slide.")
    try:
        return ome.OmeSlide(path) if ome.recognises(path) else _ByOpenSlide(path)
    except OpenSlideUnsupportedFormatError:
        raise InputError(_unsupported(path)) from None
    except OpenSlideError as error:
        if dicom.is_installed() and _vendor(str(path)) == "dicom":
            return dicom_slide.DicomSlide(path)
        raise damaged(path, error) from None


def recognises(path: str | Path) -> bool:
    """Whether a file is a whole slide: by its suffix where that says it, by its first bytes otherwise; False for what cannot be read."""
    name = os.fspath(path)  # text: pathlib would keep every name of a watched folder for good
    if name.lower().endswith(SUFFIXES):
        return os.path.isfile(name)
    try:
        with builtins.open(name, "rb") as file:
            head = file.read(raster.HEAD_BYTES)
            if tiff.matches(head):
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    return tiff.slide_reason(data) != ""
    except (OSError, ValueError):
        return False
    return head[128:132] == b"DICM" and _vendor(name) == "dicom"


def recognises_bytes(data: bytes) -> bool:
    """`recognises` for a file in memory, whose name says nothing."""
    if tiff.matches(data[: raster.HEAD_BYTES]):
        return tiff.slide_reason(data) != ""
    return data[128:132] == b"DICM" and dicom.WHOLE_SLIDE.encode() in data[:META_BYTES]


def is_secondary(path: str | Path) -> bool:
    """Whether a DICOM file is a reduced level, label or overview of a slide that another file of its series stands for."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(META_BYTES)
        if head[128:132] != b"DICM" or dicom.WHOLE_SLIDE.encode() not in head:
            return False
        with closing(_ByOpenSlide(Path(path))) as opened:
            return opened.instance.encode() not in head
    except Exception:  # it cannot be read, or OpenSlide is not installed: who classifies it says so
        return False


def is_of_several_files(path: str | Path) -> bool:
    """Whether a slide may consist of more than its file: MRXS has a folder, and DICOM a file for each level."""
    return os.fspath(path).lower().endswith(".mrxs") or _vendor(os.fspath(path)) == "dicom"


def _vendor(path: str) -> str | None:
    """OpenSlide's name of the format; None where there is none, and without OpenSlide."""
    try:
        import openslide
    except ImportError:
        return None
    vendor: str | None = openslide.OpenSlide.detect_format(path)
    return vendor


def paste(picture: UInt8Image, tile: UInt8Image, left: int, top: int) -> None:
    """Copies the part of a tile that lies in the picture."""
    height, width = picture.shape[:2]
    y, x = max(0, top), max(0, left)
    bottom, right = min(height, top + tile.shape[0]), min(width, left + tile.shape[1])
    picture[y:bottom, x:right] = tile[y - top : bottom - top, x - left : right - left]


def damaged(path: Path, error: object) -> InputError:
    """The error of a slide whose levels cannot be read."""
    return InputError(f"The slide {path.name} is damaged or was cut ({str(error).strip().rstrip('.')}); copy it again, with all of its files.")


def _unsupported(path: Path) -> str:
    folder = path.with_suffix("")
    if path.suffix.lower() == ".mrxs" and not folder.is_dir():
        return f"The slide {path.name} lacks its folder {folder.name} with the pixels; copy the folder, too, and lay it beside the file."
    if path.suffix.lower() in (*SUFFIXES, ".tif", ".tiff", ".dcm"):
        return (
            f"The slide {path.name} has no level of tissue that can be read (only its label or macro picture, another kind of file, or cut); "
            "export or copy it again."
        )
    return f"{path.name} is not a slide in a known format; export it as SVS, pyramidal TIFF or DICOM."


def _scale_of(properties: dict[str, str]) -> tuple[float | None, str]:
    """µm per pixel of level 0, or None and why the file is not believed; nothing where it does not say."""
    try:
        across, down = (float(properties[f"openslide.mpp-{axis}"]) for axis in "xy")
    except (KeyError, ValueError):
        return None, ""
    power = properties.get("openslide.objective-power", "")
    return believed(across, down, float(power) if power.replace(".", "", 1).isdigit() else None)


def believed(across_um: float, down_um: float, power: float | None = None) -> tuple[float | None, str]:
    """A pixel size that a scanner can have, in µm, or None and why it cannot be one."""
    um = math.sqrt(across_um * down_um) if across_um > 0 and down_um > 0 else math.nan
    if not FINEST_UM <= um <= COARSEST_UM:
        return None, f"the file gives {across_um:g} µm, which no scanner has"
    if max(across_um, down_um) > 1.1 * min(across_um, down_um):
        return None, f"the file gives pixels of {across_um:g} x {down_um:g} µm, which are not square"
    if power and not 1 / POWER_FACTOR <= um * power / UM_TIMES_POWER <= POWER_FACTOR:
        return None, f"the file gives {um:g} µm with an objective of {power:g}X, and both cannot be right"
    return um, ""


def um_per_pixel(slide: Slide, given_um: float | None) -> float:
    """Width of a pixel of level 0 in µm: the file's, or what was given for files that do not tell it.

    Raises:
        InputError: the file does not tell it, or cannot be believed, and nothing was given.
    """
    um = slide.um_per_pixel or given_um
    if um is None:
        reason = slide.doubt or "the file does not tell it"
        raise InputError(
            f"The width of a pixel of the slide {slide.path.name} is not known ({reason}); give it with --um-per-pixel, for example 0.25 at 40X."
        )
    return um


def files(path: Path) -> Iterator[Path]:
    """The files that a slide consists of: its own, and for MRXS those in the folder beside it."""
    yield path
    folder = path.with_suffix("")
    if path.suffix.lower() == ".mrxs" and folder.is_dir():
        yield from sorted(entry for entry in folder.iterdir() if entry.is_file())


def sha256(path: str | Path) -> str:
    """Of a file's bytes, read in parts.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with builtins.open(path, "rb") as file:
        while part := file.read(HASHED_BYTES):
            digest.update(part)
    return digest.hexdigest()


def metadata(path: str | Path) -> Metadata:
    """Patient, slide and study of a DICOM slide, from the beginning of its file; nothing for other formats.

    Raises:
        OSError: it cannot be read.
    """
    with builtins.open(path, "rb") as file:
        head = file.read(raster.HEAD_BYTES)
        return dicom.metadata(head + file.read(dicom.HEADER_BYTES)) if head[128:132] == b"DICM" else Metadata()


def fingerprint(path: Path) -> str:
    """Sizes and times of a slide's files: another where the slide changed, known at once."""
    return " ".join(f"{file.name}:{status.st_size}:{status.st_mtime_ns}" for file in files(path) for status in [os.stat(file)])
