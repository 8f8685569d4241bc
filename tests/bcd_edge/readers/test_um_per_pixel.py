"""The width of a pixel by the header of a file, in each way that a format or a program writes it; what cannot be a microscope's is not known."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bcd_edge.pictures import decode
from bcd_edge.readers import raster
from bcd_edge.synthetic import tissue

tifffile = pytest.importorskip("tifffile")

PICTURE = tissue(5, height=46, width=60, glands=1, scattered=20)


def tiff(**options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, PICTURE, **{"photometric": "rgb", "metadata": None} | options)
    return buffer.getvalue()


def png(across: int, down: int, unit: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, "PNG")
    data, body = buffer.getvalue(), b"pHYs" + struct.pack(">IIB", across, down, unit)
    return data[:33] + struct.pack(">I", 9) + body + struct.pack(">I", zlib.crc32(body)) + data[33:]


def jpeg(resolution: float, unit: int) -> bytes:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[282] = exif[283] = resolution
    exif[296] = unit
    Image.fromarray(PICTURE).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def ome(size: str) -> bytes:
    """With the escapes that tifffile leaves alone."""
    text = f'<?xml version="1.0"?><OME xmlns="x"><Image><Pixels ID="a" {size} SizeX="60"></Pixels></Image></OME>'
    return tiff(description=text.encode())


@given(st.floats(0.0501, 4.99), st.sampled_from(["<", ">"]), st.booleans())
def test_any_microscopes_pixel_comes_back_from_tiff_and_png(um: float, order: str, is_big: bool) -> None:
    per_cm = (round(1e8 / um), 10_000)
    written = tiff(resolution=(per_cm, per_cm), resolutionunit="CENTIMETER", byteorder=order, bigtiff=is_big)
    assert raster.metadata(written).um_per_pixel == pytest.approx(um, abs=6e-5)
    assert raster.metadata(png(round(1e6 / um), round(1e6 / um), 1)).um_per_pixel == pytest.approx(um, rel=1e-5, abs=6e-5)


@pytest.mark.parametrize(
    ("data", "um"),
    [
        (tiff(resolution=(50800, 50800), resolutionunit="INCH"), 0.5),
        (tiff(resolution=(72, 72), resolutionunit="INCH"), None),
        (tiff(resolution=(5080, 5080), resolutionunit="INCH"), None),
        (tiff(resolution=(20408, 20408), resolutionunit="NONE"), None),
        (tiff(resolution=(20000, 10000), resolutionunit="CENTIMETER"), None),
        (tiff(), None),
        (tiff(imagej=True, metadata={"unit": "micron"}, resolution=(4, 4)), 0.25),
        (tiff(imagej=True, metadata={"unit": "um"}, resolution=(4, 4)), 0.25),
        (tiff(imagej=True, metadata={"unit": r"\u00B5m"}, resolution=(4, 4)), 0.25),
        (tiff(imagej=True, metadata={"unit": "nm"}, resolution=(0.004, 0.004)), 0.25),
        (tiff(imagej=True, metadata={"unit": "pixel"}, resolution=(1, 1)), None),
        (tiff(imagej=True, metadata={}, resolution=(20000, 20000), resolutionunit="CENTIMETER"), 0.5),
        (ome('PhysicalSizeX="0.2528"'), 0.2528),
        (ome('PhysicalSizeXUnit="µm" PhysicalSizeX="0.2528"'), 0.2528),
        (ome("PhysicalSizeX='252.8' PhysicalSizeXUnit='nm'"), 0.2528),
        (ome('PhysicalSizeX="0.25" PhysicalSizeXUnit="furlong"'), None),
        (ome('PhysicalSizeX="1e"'), None),
        (ome(""), None),
        (png(2_040_816, 2_040_816, 1), 0.49),
        (png(2_040_816, 2_040_816, 0), None),
        (png(2834, 2834, 1), None),
        (png(2_000_000, 1_000_000, 1), None),
        (png(0, 0, 1), None),
        (jpeg(20408, 3), 0.49),
        (jpeg(50800, 2), 0.5),
        (jpeg(300, 2), None),
        (jpeg(20408, 1), None),
    ],
)
def test_what_headers_say(data: bytes, um: float | None) -> None:
    image = decode(data)
    assert image.um_per_pixel == (None if um is None else pytest.approx(um, abs=1e-4))
    assert image.pixels_hwc_u8.shape == PICTURE.shape


@pytest.mark.parametrize("whole", [tiff(resolution=(50800, 50800), resolutionunit="INCH"), png(2_000_000, 2_000_000, 1), jpeg(50800, 2)])
def test_a_header_that_ends_anywhere_stops_nothing(whole: bytes) -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        damaged = bytearray(whole[: rng.integers(8, len(whole))])
        damaged[rng.integers(4, len(damaged))] = rng.integers(256)
        assert (raster.metadata(bytes(damaged)).um_per_pixel or 1.0) > 0


def test_formats_without_one_are_not_known() -> None:
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, "WEBP")
    assert raster.metadata(buffer.getvalue()).um_per_pixel is None
    assert raster.metadata(b"no image").um_per_pixel is None
