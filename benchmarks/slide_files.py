"""Slides of any size from a periodic texture: each tile is compressed once, so that a slide of eight thousand million pixels takes seconds."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.synthetic import tissue

TILE: Final = 256
PERIOD: Final = 1024
DOWNSAMPLES: Final = (1, 4, 16)
GLASS: Final = (243, 242, 244)
# (left, top, right, bottom) of what has tissue, as shares of width and height
Areas = tuple[tuple[float, float, float, float], ...]
BIOPSY: Final[Areas] = ((0.1, 0.1, 0.6, 0.5), (0.3, 0.55, 0.9, 0.9))


@functools.cache
def texture() -> UInt8Image:
    """Drawn tissue, uint8 RGB, `PERIOD` x `PERIOD` x 3, that continues over its edges."""
    return periodic(tissue(3, height=PERIOD // 2, width=PERIOD // 2, glands=2, scattered=420, irregular=0.5))


def periodic(quarter: UInt8Image) -> UInt8Image:
    """A picture with its mirror images, which continues over its edges."""
    half = np.concatenate([quarter, quarter[:, ::-1]], axis=1)
    return np.ascontiguousarray(np.concatenate([half, half[::-1]]))


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is drawn on a slide: `areas` of texture on glass; their edges lie on the tiles of the coarsest level."""

    width: int
    height: int
    areas: Areas = BIOPSY
    picture: UInt8Image | None = None
    downsamples: tuple[int, ...] = DOWNSAMPLES

    def has_tissue(self, x: float, y: float) -> bool:
        """At a point of level 0."""
        cell = TILE * self.downsamples[-1]
        x, y = (x // cell + 0.5) * cell / self.width, (y // cell + 0.5) * cell / self.height
        return any(left <= x < right and top <= y < bottom for left, top, right, bottom in self.areas)

    def size(self, downsample: int) -> tuple[int, int]:
        """Height and width of a level."""
        return -(-self.height // downsample), -(-self.width // downsample)

    def tiles(self, downsample: int, encode: Callable[[UInt8Image], bytes]) -> Iterator[bytes]:
        """The compressed tiles of a level, row by row."""
        side = max(TILE, PERIOD // downsample)
        small = np.asarray(cv2.resize(self._picture(), (PERIOD // downsample,) * 2, interpolation=cv2.INTER_AREA), np.uint8)
        level = np.tile(small, (side // small.shape[0], side // small.shape[1], 1))
        count = side // TILE
        parts = {
            (row, column): encode(np.ascontiguousarray(level[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]))
            for row, column in itertools.product(range(count), repeat=2)
        }
        glass = encode(np.full((TILE, TILE, 3), GLASS, np.uint8))
        height, width = self.size(downsample)
        for row, column in itertools.product(range(-(-height // TILE)), range(-(-width // TILE))):
            middle = ((column + 0.5) * TILE * downsample, (row + 0.5) * TILE * downsample)
            yield parts[row % count, column % count] if self.has_tissue(*middle) else glass

    def _picture(self) -> UInt8Image:
        return texture() if self.picture is None else self.picture


def write_svs(path: Path, drawn: Drawn, um_per_pixel: float | None = 0.25, **properties: str) -> Path:
    """A slide as Aperio's scanners write it: a pyramid of JPEG tiles in a BigTIFF, without thumbnail and label."""
    import tifffile

    scale = {} if um_per_pixel is None else {"MPP": f"{um_per_pixel:.4f}"}
    fields = "|".join(f"{name} = {value}" for name, value in ({"AppMag": "40"} | scale | properties).items())
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for downsample in drawn.downsamples:
            height, width = drawn.size(downsample)
            description = f"Aperio Image Library v12.0.15\r\n{width}x{height} ({TILE}x{TILE}) JPEG/YCC Q=80|{fields}"
            file.write(drawn.tiles(downsample, _jpeg), description=description, metadata=None, **_layout(height, width))
    return path


def write_ome(path: Path, drawn: Drawn, um_per_pixel: float | None = 0.25) -> Path:
    """The same as OME-TIFF: the reduced levels lie below the first."""
    import tifffile

    size: dict[str, Any] = {} if um_per_pixel is None else {f"PhysicalSize{axis}": um_per_pixel for axis in "XY"}
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as file:
        for index, downsample in enumerate(drawn.downsamples):
            more: dict[str, Any] = {"subfiletype": 1} if index else {"subifds": len(drawn.downsamples) - 1, "metadata": {"axes": "YXS"} | size}
            file.write(drawn.tiles(downsample, _jpeg), **_layout(*drawn.size(downsample)), **more)
    return path


def write_dicom(folder: Path, drawn: Drawn, um_per_pixel: float = 0.25) -> Path:
    """The same as a DICOM slide, a file for each level with the same compressed tiles; returns the first level's."""
    from pydicom.uid import generate_uid

    folder.mkdir()
    series = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    for number, downsample in enumerate(drawn.downsamples):
        height, width = drawn.size(downsample)
        level = _dicom_level(list(drawn.tiles(downsample, _jpeg)), (height, width), um_per_pixel * downsample, number, series)
        level.save_as(folder / f"level{number}.dcm", enforce_file_format=True)
    return folder / "level0.dcm"


def _dicom_level(frames: list[bytes], size: tuple[int, int], um_per_pixel: float, number: int, series: dict[str, str]) -> Any:
    """A VL Whole Slide Microscopy image with full tiling (DICOM PS3.3, A.32.8)."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid

    measures, functional, path, origin = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [um_per_pixel / 1000] * 2, 0.001
    functional.PixelMeasuresSequence = [measures]
    path.OpticalPathIdentifier, path.IlluminationTypeCodeSequence = "1", []
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = 0, 0
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    values = series | {
        **{"SOPClassUID": VLWholeSlideMicroscopyImageStorage, "SOPInstanceUID": generate_uid(), "Modality": "SM", "InstanceNumber": number + 1},
        **{"ImageType": ["ORIGINAL" if number == 0 else "DERIVED", "PRIMARY", "VOLUME", "NONE" if number == 0 else "RESAMPLED"]},
        **{"PatientName": "", "PatientID": "", "SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": 0},
        **{"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, "Rows": TILE, "Columns": TILE},
        **{"NumberOfFrames": len(frames), "TotalPixelMatrixRows": size[0], "TotalPixelMatrixColumns": size[1]},
        **{"TotalPixelMatrixFocalPlanes": 1, "NumberOfOpticalPaths": 1, "DimensionOrganizationType": "TILED_FULL"},
        **{"ImagedVolumeWidth": size[1] * um_per_pixel / 1000, "ImagedVolumeHeight": size[0] * um_per_pixel / 1000, "ImagedVolumeDepth": 0.001},
        **{"LossyImageCompression": "01", "LossyImageCompressionMethod": "ISO_10918_1", "ImageOrientationSlide": [0, -1, 0, -1, 0, 0]},
        **{"SharedFunctionalGroupsSequence": [functional], "OpticalPathSequence": [path], "TotalPixelMatrixOriginSequence": [origin]},
    }
    for name, value in values.items():
        setattr(image, name, value)
    image.PixelData = encapsulate(frames)
    return image


def _layout(height: int, width: int) -> dict[str, Any]:
    return {
        "shape": (height, width, 3),
        "dtype": np.uint8,
        "tile": (TILE, TILE),
        "photometric": "ycbcr",
        "subsampling": (2, 2),
        "compression": "jpeg",
    }


def _jpeg(pixels: UInt8Image) -> bytes:
    import simplejpeg

    return bytes(simplejpeg.encode_jpeg(pixels, quality=80, colorspace="RGB", colorsubsampling="420"))
