"""PNG (ISO/IEC 15948): chunks are checked here; what is not needed for the pixels never reaches a decoder.

8-bit RGB, which cameras and viewers write, is decoded by libspng (BSD-2-Clause) in about half of OpenCV's time. The package `pyspng` ships
it, but holds Python's lock while it decodes and ignores checksums; so its library is called directly. Where it is missing, and
for other sample formats, OpenCV gives the same pixels.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from bcd_edge.errors import InputError
from bcd_edge.readers.ifd import exif_orientation, xmp_orientation
from bcd_edge.readers.pixels import UInt8Image, check_size, damaged, rgb, upright

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
# Channels by colour type: grey, RGB, palette, grey with alpha, RGBA.
CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PIXEL_CHUNKS: Final = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
GREY, RGB = 0, 2
# Adam7: first column and row, and the steps to the next ones.
PASSES: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
SPNG_FMT_RGB8: Final = 4


def matches(data: bytes) -> bool:
    return data.startswith(SIGNATURE)


def decode(data: bytes) -> UInt8Image:
    """Decodes one picture.

    Raises:
        InputError: it is damaged, truncated, animated or too large.
    """
    chunks = list(_chunks(data))
    kinds = {kind for kind, _ in chunks}
    if b"IEND" not in kinds or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 25:
        raise damaged("the PNG is incomplete")
    width, height, bits, colour, _, _, interlace = struct.unpack_from(">IIBBBBB", chunks[0][1], 8)
    check_size(width, height)
    if colour not in CHANNELS or bits not in (1, 2, 4, 8, 16):
        raise damaged("the PNG has a header that the standard does not know")
    for kind, chunk in chunks:
        if kind == b"acTL" and (frames := int.from_bytes(chunk[8:12], "big")) > 1:
            raise InputError(f"The file holds {frames} frames or pages; export the one to be classified as a file of its own.")
    plain = b"".join((SIGNATURE, *(chunk for kind, chunk in chunks if kind in PIXEL_CHUNKS)))
    if colour == RGB and bits == 8 and b"tRNS" not in kinds and (library := spng()) is not None:
        image = _by_spng(library, plain, width, height)
    else:
        _check_length([chunk[8:-4] for kind, chunk in chunks if kind == b"IDAT"], width, height, bits * CHANNELS[colour], bool(interlace))
        key = next((int.from_bytes(chunk[8:10], "big") for kind, chunk in chunks if kind == b"tRNS" and colour == GREY), None)
        image = _by_opencv(plain, None if key is None else key * max(1, 255 // (2**bits - 1)))
    return upright(image, _orientation(chunks))


@functools.cache
def spng() -> Any:
    """The library libspng as `pyspng` ships it, None where that is not installed or does not export it."""
    package = importlib.util.find_spec("pyspng")
    if package is None or package.origin is None:
        return None
    for file in sorted(Path(package.origin).parent.glob("_pyspng_c*")):
        try:
            library = ctypes.CDLL(str(file))
            library.spng_ctx_new.restype = ctypes.c_void_p
            library.spng_ctx_new.argtypes = [ctypes.c_int]
            library.spng_ctx_free.argtypes = [ctypes.c_void_p]
            library.spng_set_png_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
            library.spng_decode_image.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int]
            library.spng_strerror.restype = ctypes.c_char_p
        except (OSError, AttributeError):
            continue
        return library
    return None


def _by_spng(library: Any, data: bytes, width: int, height: int) -> UInt8Image:
    image = np.empty((height, width, 3), np.uint8)
    context = library.spng_ctx_new(0)
    try:
        library.spng_set_png_buffer(context, data, len(data))
        error = library.spng_decode_image(context, image.ctypes.data, image.nbytes, SPNG_FMT_RGB8, 0)
    finally:
        library.spng_ctx_free(context)
    if error:
        raise damaged(library.spng_strerror(error).decode())
    return image


def _by_opencv(data: bytes, transparent: int | None) -> UInt8Image:
    """Decodes by OpenCV, which heeds a transparent colour except in grey pictures; `transparent` is theirs."""
    try:
        samples: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, MemoryError) as error:
        raise damaged(str(error)[-80:]) from None
    if samples is None:
        raise damaged("the PNG could not be decoded")
    samples = samples.reshape(*samples.shape[:2], -1)
    if transparent is not None and samples.shape[2] == 1:
        opaque = np.where(samples == transparent, 0, np.iinfo(samples.dtype).max).astype(samples.dtype)
        return rgb(np.concatenate([samples, opaque], axis=2), "straight")
    if samples.shape[2] == 4:
        return rgb(samples[..., (2, 1, 0, 3)], "straight")
    return rgb(samples[..., ::-1])


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and the whole of each chunk (length, kind, body, checksum); a checksum counts where the chunk is needed for the pixels.

    Raises:
        InputError: such a chunk does not match its checksum, or the file ends inside it.
    """
    view, at = memoryview(data), len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise damaged("the PNG ends inside a chunk")
        if kind in PIXEL_CHUNKS and zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise damaged(f"the checksum of the PNG's chunk {kind.decode()} is wrong")
        yield kind, view[at:end]
        if kind == b"IEND":
            return
        at = end


def _check_length(parts: list[memoryview], width: int, height: int, bits: int, interlaced: bool) -> None:
    """OpenCV leaves rows black that the compressed data does not reach."""
    passes = PASSES if interlaced else ((0, 0, 1, 1),)
    sizes = ((-(-(width - x) // step_x), -(-(height - y) // step_y)) for x, y, step_x, step_y in passes)
    expected = sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)
    inflater = zlib.decompressobj()
    length = 0
    try:
        for part in map(bytes, parts):
            while part and length <= expected:
                length += len(inflater.decompress(part, 2**20))
                part = inflater.unconsumed_tail
    except zlib.error as error:
        raise damaged(str(error)) from None
    if length < expected:
        raise damaged("the PNG's pixels end early")


def _orientation(chunks: list[tuple[bytes, memoryview]]) -> int:
    """From the PNG's own EXIF chunk, ImageMagick's text, or Adobe's XMP; metadata that cannot be read turns nothing."""
    for kind, chunk in chunks:
        if kind in PIXEL_CHUNKS:
            continue
        body = bytes(chunk[8:-4])
        if kind == b"eXIf":
            return exif_orientation(body.removeprefix(b"Exif\0\0"))
        if kind in (b"tEXt", b"zTXt") and body.startswith(b"Raw profile type exif\0"):
            return exif_orientation(_raw_profile(body.partition(b"\0")[2], kind == b"zTXt"))
        if kind == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\0"):
            return xmp_orientation(body)
    return 1


def _raw_profile(text: bytes, is_compressed: bool) -> bytes:
    """ImageMagick's hexadecimal text: an empty line, the name, the length, then the digits."""
    try:
        if is_compressed:
            text = zlib.decompressobj().decompress(text[1:], 2**20)
        return bytes.fromhex(re.sub(r"\s", "", text.decode("latin-1").split("\n", 3)[3])).removeprefix(b"Exif\0\0")
    except (zlib.error, ValueError, IndexError):
        return b""
