"""JPEG (ITU-T T.81): the markers are checked here, the pixels come from libjpeg-turbo by simplejpeg, whose warnings are errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import simplejpeg

from bcd_edge.errors import InputError
from bcd_edge.readers.ifd import exif_orientation, exif_pixel_width, xmp_orientation
from bcd_edge.readers.metadata import Metadata
from bcd_edge.readers.pixels import UInt8Image, check_size, cmyk_to_rgb, damaged, upright
from bcd_edge.triage.scale import plausible

SUFFIXES: Final = (".jpg", ".jpeg", ".jfif", ".jpe")
# A marker inside entropy-coded data: 0xFF is followed there by a stuffed 0x00, a restart marker, or another 0xFF as filling.
MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# Progressive encoders write about ten scans; hundreds of them are a way to keep a decoder busy.
MAX_SCANS: Final = 100
# Bytes between segments of the header that are skipped: some writers give a segment a wrong length. A hole is longer.
MAX_STRAY: Final = 64
# Start-of-frame markers that libjpeg-turbo decodes to 8 bits: baseline, extended, progressive, and the last two with arithmetic coding.
FRAMES: Final = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
OTHER_FRAMES: Final = {0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical", 0xCB: "lossless"}


@dataclass
class Header:
    """What the markers of a JPEG say.

    Attributes:
        frame: marker of the start of frame, 0 if there is none.
        components: identifiers, in their order.
        adobe: the colour transform of Adobe's marker, None without that marker.
        missing_bits: component and coefficient to the bits that no scan has brought yet.
        is_complete: whether the end marker was reached.
    """

    frame: int = 0
    precision: int = 8
    width: int = 0
    height: int = 0
    components: bytes = b""
    adobe: int | None = None
    orientation: int = 1
    scans: int = 0
    missing_bits: dict[tuple[int, int], int] = field(default_factory=dict)
    is_complete: bool = False


def matches(data: bytes) -> bool:
    return data.startswith(b"\xff\xd8\xff")


def decode(data: bytes) -> UInt8Image:
    """Decodes the first picture: what follows its end marker, as in the MPO files of phones, is ignored.

    Raises:
        InputError: it is damaged, truncated, too large, or of a kind that is not read.
    """
    header = read_header(data)
    check(header)
    plain = _without_metadata(data)
    if len(header.components) == 4:
        ink = pixels(plain, "CMYK")
        return upright(cmyk_to_rgb(255 - ink if header.adobe is not None else ink), header.orientation)
    return upright(pixels(plain, "RGB"), header.orientation)


def metadata(data: bytes) -> Metadata:
    return Metadata(plausible(_um_per_pixel(data)))


def _um_per_pixel(data: bytes) -> float:
    """Width of a pixel in µm by the resolution in EXIF; 0 if it does not tell."""
    for marker, _, body in markers(data):
        if marker == 0xE1 and body.startswith(b"Exif\0"):
            return exif_pixel_width(body[6:])
        if marker == 0xDA:
            break
    return 0.0


def check(header: Header) -> None:
    """Refuses what is not decoded right, or is not whole.

    Raises:
        InputError: with the reason.
    """
    if header.frame in OTHER_FRAMES:
        raise InputError(f"The JPEG is {OTHER_FRAMES[header.frame]}, which is not read; export it as a baseline JPEG or PNG.")
    if header.frame not in FRAMES:
        raise damaged("the JPEG has no header of its picture")
    if header.precision != 8:
        raise InputError(f"The JPEG has {header.precision} bits per sample, and only 8 are read; export it with 8.")
    check_size(header.width, header.height)
    if len(header.components) not in (1, 3, 4):
        raise InputError(f"The JPEG has {len(header.components)} components, neither grey nor colour; export the image as RGB.")
    if not header.is_complete:
        raise damaged("the JPEG ends before its end marker, so a part is missing")
    if header.scans > MAX_SCANS:
        raise damaged(f"the JPEG has more than {MAX_SCANS} scans")
    if any(header.missing_bits.values()):
        raise damaged("scans of the JPEG are missing")


def pixels(data: bytes, colours: str) -> UInt8Image:
    """The pixels, H x W x C, in the colours that simplejpeg names.

    Raises:
        InputError: libjpeg-turbo reports an error or a warning.
    """
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, colours, strict=True), np.uint8)
    except (ValueError, MemoryError) as error:
        if "subsampling" in str(error):
            raise InputError("The JPEG's colours are subsampled in a way that is not read; export it with 4:4:4 or 4:2:0, or as PNG.") from None
        raise damaged(str(error) or type(error).__name__) from None


def read_header(data: bytes) -> Header:
    """Reads the markers up to the end of the first picture.

    Raises:
        InputError: a segment is damaged.
    """
    header = Header()
    exif = xmp = b""
    for marker, _, body in markers(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            _start_of_frame(header, marker, body)
        elif marker == 0xDA:
            _start_of_scan(header, body)
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            header.adobe = body[11]
        elif marker == 0xE1 and body.startswith(b"Exif\0") and not exif:
            exif = body[6:]
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/"):
            xmp = body
        elif marker == 0xD9:
            header.is_complete = True
    header.orientation = exif_orientation(exif) if exif else xmp_orientation(xmp)
    return header


def _without_metadata(data: bytes) -> bytes:
    """The same JPEG with only those segments before its first scan that the pixels need, so that no profile or EXIF can stop it."""
    parts, end = [data[:2]], 2
    for marker, start, body in markers(data):
        if start - end > MAX_STRAY:
            break
        if marker == 0xDA:
            return b"".join([*parts, data[start:]])
        end = start + 4 + len(body)
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_metadata or body.startswith((b"JFIF\0", b"Adobe")):  # these two say which colours the components are
            parts.append(data[start:end])
    return data


def markers(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Marker, place and body of each segment, to the end of the first picture or of the data; thumbnails lie inside segments."""
    at = 2
    while (match := MARKER.search(data, at)) is not None:
        marker, at = data[match.start() + 1], match.end()
        if marker == 0xD9:
            yield marker, match.start(), b""
            return
        if marker in (0x01, 0xD8):
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            return
        yield marker, match.start(), data[at + 2 : at + length]
        at += length


def _start_of_frame(header: Header, marker: int, body: bytes) -> None:
    if header.frame:
        raise damaged("the JPEG has two headers of its picture")
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise damaged("the header of the JPEG is too short")
    header.frame, header.precision = marker, body[0]
    header.height, header.width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    header.components = body[6 : 6 + 3 * body[5] : 3]
    coefficients = range(64) if marker in (0xC2, 0xCA) else range(1)
    header.missing_bits = {(component, index): 14 for component in header.components for index in coefficients}


def _start_of_scan(header: Header, body: bytes) -> None:
    """Notes what a scan brings: a picture whose later scans were lost would be shown blurred."""
    header.scans += 1
    if not body or len(body) < 4 + 2 * body[0]:
        raise damaged("a scan of the JPEG is too short")
    first, last, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
    for component in body[1 : 1 + 2 * body[0] : 2]:
        for index in range(first, last + 1) if header.frame in (0xC2, 0xCA) else range(1):
            header.missing_bits[component, index] = bits & 15
