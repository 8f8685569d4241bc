"""PNG (ISO/IEC 15948): chunks are checked here; what is not needed for the pixels never reaches a decoder.

libdeflate (MIT, package `deflate`) inflates in half of zlib's time, and libspng (BSD-2-Clause) makes pixels of the rows and never writes to
standard error. The package `pyspng` ships it, but holds Python's lock while it decodes and ignores checksums; so its library is called
directly. Where one is missing, zlib and OpenCV give the same pixels.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from bcd_edge.errors import InputError
from bcd_edge.readers.ifd import exif_orientation, width_in_um, xmp_orientation
from bcd_edge.readers.metadata import Metadata
from bcd_edge.readers.pixels import Samples, UInt8Image, check_size, damaged, rgb, upright
from bcd_edge.triage.scale import plausible

try:
    import deflate
except ImportError:
    deflate = None

SUFFIXES: Final = (".png",)
SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
# Channels by colour type: grey, RGB, palette, grey with alpha, RGBA.
CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PIXEL_CHUNKS: Final = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
GREY, RGB, PALETTE = 0, 2, 3
MAX_FILTER: Final = 4
# Adam7: first column and row, and the steps to the next ones.
PASSES: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
# How libspng gives pixels: expanded to RGBA or RGB of 8 bits, or as they are stored; and whether it heeds a transparent colour.
SPNG_FMT_RGBA8, SPNG_FMT_RGB8, SPNG_FMT_PNG = 1, 4, 256
SPNG_DECODE_TRNS: Final = 1
# Checksums are not compared again: those of chunks have been, and where rows are stored anew that of the rows, too.
SPNG_CTX_IGNORE_ADLER32, SPNG_CRC_USE = 1, 2
NO_CHECKSUM: Final = bytes(4)
ZLIB_HEADER: Final = b"\x78\x01"
# Pixels of a picture whose rows are inflated at once, which takes twice its memory; libspng inflates larger ones row by row, in twice the time.
MOST_INFLATED: Final = 4 * 2**20
# Bytes in a block of data that is not compressed (RFC 1951).
BLOCK: Final = 65_535
DEPTHS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


@dataclass(frozen=True)
class Header:
    """What a PNG says of its pixels.

    Attributes:
        colour: colour type: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGBA.
        key: the colour that is transparent, one number for each channel, None where there is none or for palettes.
        has_transparency: whether a colour or a part of the palette is transparent.
    """

    width: int
    height: int
    bits: int
    colour: int
    interlaced: bool
    key: tuple[int, ...] | None
    has_transparency: bool


def matches(data: bytes) -> bool:
    return data.startswith(SIGNATURE)


def decode(data: bytes) -> UInt8Image:
    """Decodes one picture.

    Raises:
        InputError: it is damaged, truncated, animated or too large.
    """
    chunks = list(_chunks(data))
    header = _header(chunks)
    parts = [chunk[8:-4] for kind, chunk in chunks if kind == b"IDAT"]
    whole: list[bytes | memoryview] = [SIGNATURE, *(chunk for kind, chunk in chunks if kind in PIXEL_CHUNKS)]
    if (library := spng()) is None:
        _inflate(parts, header)
        image = _by_opencv(b"".join(whole), header)
    elif header.width * header.height > MOST_INFLATED:
        image = _by_spng(library, b"".join(whole), header)
    else:
        before = (chunk for kind, chunk in chunks if kind in (b"IHDR", b"PLTE", b"tRNS"))
        image = _by_spng(library, b"".join((SIGNATURE, *before, *_stored(_inflate(parts, header)), whole[-1])), header, SPNG_CTX_IGNORE_ADLER32)
    return upright(image, _orientation(chunks))


def metadata(data: bytes) -> Metadata:
    return Metadata(plausible(_um_per_pixel(data)))


def _um_per_pixel(data: bytes) -> float:
    """Width of a pixel in µm by the chunk pHYs, which stands before the pixels; 0 if it does not tell."""
    at = len(SIGNATURE)
    while at + 21 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"pHYs" and length == 9:
            across, down, unit = struct.unpack_from(">IIB", data, at + 8)
            return width_in_um(1e6 if unit == 1 else 0.0, across, down)
        if kind == b"IDAT":
            break
        at += 12 + length
    return 0.0


def _header(chunks: list[tuple[bytes, memoryview]]) -> Header:
    """Reads and checks the chunks that say what the pixels are.

    Raises:
        InputError: the picture is incomplete, animated, too large, or not as the standard has it.
    """
    kinds = [kind for kind, _ in chunks if kind in PIXEL_CHUNKS]
    if kinds[:1] != [b"IHDR"] or kinds[-1] != b"IEND" or b"IDAT" not in kinds or len(chunks[0][1]) != 25:
        raise damaged("the PNG is incomplete")
    width, height, bits, colour, *methods, interlace = struct.unpack_from(">IIBBBBB", chunks[0][1], 8)
    check_size(width, height)
    before = kinds[: kinds.index(b"IDAT")]
    is_ordered = kinds == sorted(kinds, key=PIXEL_CHUNKS.index) and all(kinds.count(kind) <= 1 for kind in PIXEL_CHUNKS if kind != b"IDAT")
    if bits not in DEPTHS.get(colour, ()) or any(methods) or interlace > 1 or not is_ordered or (colour == PALETTE and b"PLTE" not in before):
        raise damaged("the PNG has a header that the standard does not know")
    for kind, chunk in chunks:
        if kind == b"acTL" and (frames := int.from_bytes(chunk[8:12], "big")) > 1:
            raise InputError(f"The file holds {frames} frames or pages; export the one to be classified as a file of its own.")
    transparency = next((bytes(chunk[8:-4]) for kind, chunk in chunks if kind == b"tRNS"), b"")
    channels = CHANNELS[colour]
    key = struct.unpack(f">{channels}H", transparency) if colour in (GREY, RGB) and len(transparency) == 2 * channels else None
    return Header(width, height, bits, colour, bool(interlace), key, bool(transparency))


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
            library.spng_set_crc_action.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
            library.spng_set_png_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
            library.spng_decode_image.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int]
            library.spng_strerror.restype = ctypes.c_char_p
        except (OSError, AttributeError):
            continue
        return library
    return None


def _by_spng(library: Any, data: bytes, header: Header, flags: int = 0) -> UInt8Image:
    as_stored = header.bits >= 8 and header.colour != PALETTE
    form = SPNG_FMT_PNG if as_stored else SPNG_FMT_RGBA8 if header.has_transparency else SPNG_FMT_RGB8
    channels = CHANNELS[header.colour] if as_stored else 4 if header.has_transparency else 3
    samples = np.empty((header.height, header.width, channels), np.uint16 if header.bits == 16 else np.uint8)
    context = library.spng_ctx_new(flags)
    try:
        library.spng_set_crc_action(context, SPNG_CRC_USE, SPNG_CRC_USE)
        library.spng_set_png_buffer(context, data, len(data))
        error = library.spng_decode_image(context, samples.ctypes.data, samples.nbytes, form, 0 if as_stored else SPNG_DECODE_TRNS)
    finally:
        library.spng_ctx_free(context)
    if error:
        raise damaged(library.spng_strerror(error).decode())
    return _on_white(samples, header.key if as_stored else None)


def _by_opencv(data: bytes, header: Header) -> UInt8Image:
    """Decodes by OpenCV, which heeds a transparent colour except in grey pictures."""
    try:
        samples: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, MemoryError) as error:
        raise damaged(str(error)[-80:]) from None
    if samples is None:
        raise damaged("the PNG could not be decoded")
    samples = samples.reshape(*samples.shape[:2], -1)
    if samples.shape[2] == 1:
        return _on_white(samples, header.key and (header.key[0] * max(1, 255 // (2**header.bits - 1)),))
    return _on_white(samples[..., (2, 1, 0, 3)] if samples.shape[2] == 4 else samples[..., ::-1], None)


def _on_white(samples: Samples, key: tuple[int, ...] | None) -> UInt8Image:
    """Samples with an alpha channel or a transparent colour, or without, as RGB."""
    if key is not None:
        opaque = np.where((samples == key).all(axis=2, keepdims=True), 0, np.iinfo(samples.dtype).max).astype(samples.dtype)
        samples = np.concatenate([samples, opaque], axis=2)
    return rgb(samples, "straight" if samples.shape[2] in (2, 4) else "none")


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


def _inflate(parts: list[memoryview], header: Header) -> bytes | bytearray:
    """The rows of a picture, each with its filter before it: with as many bytes as its header says, and with filters that exist.

    OpenCV would leave rows black that the compressed data does not reach, and libpng write of unknown filters to standard error.

    Raises:
        InputError: the compressed data is damaged or too short, or there is no such filter.
    """
    passes = PASSES if header.interlaced else ((0, 0, 1, 1),)
    sizes = ((-(-(header.width - x) // step_x), -(-(header.height - y) // step_y)) for x, y, step_x, step_y in passes)
    bits = header.bits * CHANNELS[header.colour]
    layout = [(1 + (columns * bits + 7) // 8, rows) for columns, rows in sizes if columns > 0 and rows > 0]
    expected = sum(length * rows for length, rows in layout)
    rows_u8 = _decompress(b"".join(parts), expected)
    if len(rows_u8) < expected:
        raise damaged("the PNG's pixels end early")
    at = 0
    for length, rows in layout:
        if max(rows_u8[at : at + length * rows : length]) > MAX_FILTER:
            raise damaged("a row of the PNG has a filter that the standard does not know")
        at += length * rows
    return rows_u8


def _decompress(data: bytes, size: int) -> bytes | bytearray:
    """At least the first `size` bytes of what was compressed, or fewer if there are no more."""
    if deflate is not None:
        with contextlib.suppress(deflate.DeflateError):  # zlib says what is wrong with it, or allows more bytes than are wanted
            inflated: bytearray = deflate.zlib_decompress(data, size)
            return inflated
    try:
        # a byte more than is wanted: a stream that stops exactly at its end has its checksum compared only then
        return zlib.decompressobj().decompress(data, size + 1)
    except zlib.error as error:
        raise damaged(str(error)) from None


def _stored(rows_u8: bytes | bytearray) -> Iterator[bytes | memoryview]:
    """Rows as a chunk of pixels that is not compressed, without checksums."""
    view = memoryview(rows_u8)
    blocks = [view[start : start + BLOCK] for start in range(0, len(view), BLOCK)]
    yield struct.pack(">I4s", len(ZLIB_HEADER) + len(view) + 5 * len(blocks) + len(NO_CHECKSUM), b"IDAT") + ZLIB_HEADER
    for block in blocks:
        yield struct.pack("<BHH", block is blocks[-1], len(block), BLOCK - len(block))
        yield block
    yield NO_CHECKSUM + NO_CHECKSUM


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
