"""The memory that decoding takes, beside the samples of the picture: whole files of every format, each in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final

import cv2
import numpy as np

from bcd_edge.readers import raster
from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.synthetic import tissue
from benchmarks import dicom_files
from benchmarks.fuzz import FACTOR, peak, reset_peak
from benchmarks.layouts import by_pillow, heic, tiff_file
from benchmarks.tables import Row

PICTURE: Final = tissue(5, height=200, width=300, glands=1, scattered=40)
TILES: Final = 10


def row() -> Row:
    """The peak for each format as a multiple of its samples: width x height x channels x bytes."""
    factors = {name: factor(name, TILES) for name in kinds(PICTURE)}
    detail = ", ".join(f"{name} {value:.1f}" for name, value in factors.items())
    work = f"peak memory of decoding {TILES * 300} x {TILES * 200} pixels beside their samples"
    return Row(work, f"at most {FACTOR} times", f"{max(factors.values()):.1f} times", detail)


def kinds(rgb: UInt8Image) -> dict[str, tuple[Callable[[], bytes], int]]:
    """By kind of file a call that writes the picture so, and the bytes of its samples."""
    rgba = np.dstack([rgb, rgb[..., 0]])
    deep: Any = rgba.astype(np.uint16) * 257
    return {
        "JPEG": (lambda: by_pillow(rgb, "JPEG"), rgb.nbytes),
        "progressive JPEG": (lambda: by_pillow(rgb, "JPEG", progressive=True), rgb.nbytes),
        "CMYK JPEG": (lambda: by_pillow(rgb, "JPEG", "CMYK"), rgba.nbytes),
        "PNG": (lambda: by_pillow(rgb, "PNG"), rgb.nbytes),
        "PNG RGBA": (lambda: by_pillow(rgba, "PNG"), rgba.nbytes),
        "PNG RGBA16": (lambda: cv2.imencode(".png", deep)[1].tobytes(), deep.nbytes),
        "TIFF": (lambda: tiff_file(rgb, compression="lzw"), rgb.nbytes),
        "TIFF RGBA16": (lambda: tiff_file(deep, compression="deflate", extrasamples=["unassalpha"], rowsperstrip=16), deep.nbytes),
        "BMP": (lambda: by_pillow(rgb, "BMP"), rgb.nbytes),
        "WebP": (lambda: by_pillow(rgb, "WEBP", quality=80), rgb.nbytes),
        "WebP RGBA": (lambda: by_pillow(rgba, "WEBP", quality=80), rgba.nbytes),
        "AVIF": (lambda: by_pillow(rgb, "AVIF", quality=80), rgb.nbytes),
        "HEIC": (lambda: heic(rgb), rgb.nbytes),
        "DICOM": (lambda: dicom_files.whole("plain", rgb), rgb.nbytes),
        "DICOM deflated": (lambda: dicom_files.whole("deflated", rgb), rgb.nbytes),
        "DICOM RLE": (lambda: dicom_files.whole("RLE", rgb), rgb.nbytes),
        "DICOM JPEG-LS": (lambda: dicom_files.whole("JPEG-LS", rgb), rgb.nbytes),
    }


def factor(name: str, tiles: int) -> float:
    """The peak of decoding a kind of file as a multiple of its samples, for a picture of `tiles` x `tiles` times 300 x 200 pixels."""
    small, large = (kinds(np.tile(PICTURE, (count, count, 1)))[name] for count in (1, tiles))
    return peak_bytes(small[0](), large[0]()) / large[1]


def peak_bytes(warm_up: bytes, data: bytes) -> int:
    """The most memory that decoding `data` takes beyond what the process has after `warm_up`."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_decode, args=(sender, warm_up, data))
    process.start()
    taken: int = receiver.recv()
    process.join()
    return taken


def _decode(sender: Connection, warm_up: bytes, data: bytes) -> None:
    raster.decode(warm_up)
    before = reset_peak()
    raster.decode(data)
    sender.send(peak() - before)
