"""Strips and tiles of a TIFF: compressed bytes to samples, one compression scheme each; damage is an error where the scheme can show it."""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bcd_edge.readers.pixels import damaged

# Names of the schemes by the number in the TIFF's tag 259, read or not.
NAMES: Final = {
    2: "CCITT (black and white fax)",
    3: "CCITT (black and white fax)",
    4: "CCITT (black and white fax)",
    6: "old-style JPEG",
    9: "JBIG",
    10: "JBIG",
    32766: "NeXT",
    32771: "CCITT (black and white fax)",
    32809: "ThunderScan",
    32895: "IT8",
    32908: "PIXARFILM",
    32909: "PixarLog",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34676: "SGI Log",
    34677: "SGI Log",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG of DNG",
    34927: "WebP",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
CLEAR, END, FIRST = 256, 257, 258
# Bit position of each code after a clear code: codes grow to 10, 11 and 12 bits as the table fills (TIFF 6.0, section 13).
LZW_WIDTHS: Final = np.repeat((9, 10, 11, 12), (254, 512, 1024, 2306)).astype(np.int64)
LZW_STARTS: Final = np.concatenate(([0], np.cumsum(LZW_WIDTHS)[:-1]))
# Bytes that writers leave after the end code.
LZW_FILLING: Final = 4


def unpacker(scheme: int) -> Callable[[bytes, int], bytes] | None:
    """The function that turns the bytes of a segment and the length wanted into that many bytes; None for a scheme that is not read."""
    schemes: dict[int, Callable[[bytes, int], bytes]] = {
        1: lambda data, length: data,
        5: lzw,
        8: deflate,
        32773: packbits,
        32946: deflate,
        34925: xz,
    }
    return schemes.get(scheme)


def deflate(data: bytes, length: int) -> bytes:
    """The format of zlib, with its checksum."""
    inflater = zlib.decompressobj()
    try:
        # a byte more than is wanted: a stream that stops exactly at its end has its checksum compared only then
        unpacked = inflater.decompress(data, length + 1)
    except zlib.error as error:
        raise damaged(str(error)) from None
    if not inflater.eof:
        raise damaged("a compressed part ends early or is too long")
    return unpacked


def xz(data: bytes, length: int) -> bytes:
    """LZMA, with its checksum."""
    inflater = lzma.LZMADecompressor()
    try:
        unpacked = inflater.decompress(data, length + 1)
    except lzma.LZMAError as error:
        raise damaged(str(error)) from None
    if not inflater.eof:
        raise damaged("a compressed part ends early or is too long")
    return unpacked


def packbits(data: bytes, length: int) -> bytes:
    """Apple's run lengths (TIFF 6.0, section 9)."""
    unpacked, at = bytearray(), 0
    while at < len(data) and len(unpacked) < length:
        count = data[at]
        if count < 128:
            unpacked += data[at + 1 : at + 2 + count]
            at += 2 + count
        else:
            unpacked += data[at + 1 : at + 2] * (257 - count if count > 128 else 0)
            at += 2 if count > 128 else 1
    if len(data) - at > 1:  # one byte fills up to a word
        raise damaged("a compressed part is longer than its pixels")
    return bytes(unpacked)


def lzw(data: bytes, length: int) -> bytes:
    """LZW: libtiff decodes; here every code is checked first, because libtiff shows whatever a damaged part turns into."""
    if data[:1] == b"\0" and data[1:2] and data[1] & 1:
        raise damaged("its LZW is of the kind from before TIFF 6.0")
    unpacked = lzw_length(data)
    if unpacked != length:
        raise damaged(f"a compressed part holds {unpacked:,} bytes instead of {length:,}")
    return _by_libtiff(data, length)


def lzw_length(data: bytes) -> int:
    """Checks every code of an LZW stream; the length of what it unpacks to.

    A code's string is one longer than the string before it in the table, so lengths come from the codes alone: no byte is unpacked.

    Raises:
        InputError: a code is not in the table yet, the table overflows, or data follows the end.
    """
    padded = np.frombuffer(data + b"\0\0\0\0", np.uint8).astype(np.int64)
    at, total, end = 0, 0, 8 * len(data)
    while True:
        places = at + LZW_STARTS
        fits = int(np.searchsorted(places + LZW_WIDTHS, end, side="right"))
        places, widths = places[:fits], LZW_WIDTHS[:fits]
        byte = places >> 3
        window = (padded[byte] << 24) | (padded[byte + 1] << 16) | (padded[byte + 2] << 8) | padded[byte + 3]
        codes = (window >> (32 - widths - (places & 7))) & ((1 << widths) - 1)
        stops = np.flatnonzero((codes == CLEAR) | (codes == END))
        count = int(stops[0]) if len(stops) else fits
        total += _string_lengths(codes[:count])
        if not len(stops):
            if fits == len(LZW_WIDTHS):
                raise damaged("the table of a compressed part overflows")
            return total
        at = int(places[count] + widths[count])
        if codes[count] == END:
            if end - at >= 8 * (LZW_FILLING + 1):
                raise damaged("a compressed part ends before its data")
            return total


def _string_lengths(codes: npt.NDArray[np.int64]) -> int:
    """The summed lengths of the strings of the codes between two clear codes; entry i of the table is string i and one byte more."""
    place = np.arange(len(codes))
    entry = codes - FIRST
    if len(codes) and (codes[0] > 255 or (entry >= place).any()):
        raise damaged("a compressed part holds a code that is not in its table")
    at = np.maximum(entry, -1)
    steps = (at >= 0).astype(np.int64)
    while (jumps := at >= 0).any():  # each round doubles the distance walked towards the literal that a string begins with
        steps, at = steps + np.where(jumps, steps[at], 0), np.where(jumps, at[at], -1)
    return len(codes) + int(steps.sum())


def _by_libtiff(data: bytes, length: int) -> bytes:
    """LZW by Pillow's libtiff: the segment is wrapped into a file of its own as one row of grey."""
    from PIL import TiffImagePlugin

    tags = ((256, length), (257, 1), (258, 8), (259, 5), (262, 1), (273, 8 + 2 + 9 * 12 + 4), (277, 1), (278, 1), (279, len(data)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    file = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + b"\0\0\0\0" + data
    try:
        with TiffImagePlugin.TiffImageFile(io.BytesIO(file)) as image:  # `Image.open` would warn of a long row
            return bytes(image.tobytes())
    except Exception as error:  # Pillow's plug-ins raise nearly anything
        raise damaged(str(error) or type(error).__name__) from None


def unpack_bits(rows: npt.NDArray[np.uint8], bits: int, count: int) -> npt.NDArray[np.uint8]:
    """Samples of 1, 2 or 4 bits, R x bytes, as R x `count` of uint8; the first sample is in the highest bits."""
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    samples = (rows[:, :, np.newaxis] >> shifts) & np.uint8(2**bits - 1)
    return np.asarray(samples.reshape(len(rows), -1)[:, :count], np.uint8)


def undo_differences(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The horizontal predictor (TIFF 6.0, section 14): along axis 1, modulo the range of the type."""
    return np.cumsum(samples, axis=1, dtype=samples.dtype)
