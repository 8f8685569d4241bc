"""TIFF 6.0 and BigTIFF: layout and meaning of the samples are read here, so that no library guesses them; segments are unpacked by libraries."""

from __future__ import annotations

import contextlib
import mmap
import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bcd_edge.errors import InputError
from bcd_edge.readers import segments
from bcd_edge.readers.codecs import jpeg, webp
from bcd_edge.readers.ifd import Directory, DirectoryError, directories, pixel_width
from bcd_edge.readers.metadata import Metadata
from bcd_edge.readers.pixels import MAX_PIXELS, Alpha, Samples, UInt8Image, check_size, cmyk_to_rgb, damaged, rgb, upright
from bcd_edge.triage.scale import plausible

SUFFIXES: Final = (".tif", ".tiff")
JPEG: Final = 7
WEBP: Final = (34927, 50001)
# Photometric interpretations that are read: number of colour samples.
COLOURS: Final = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
PHOTOMETRICS: Final = {
    4: "a mask",
    8: "CIE L*a*b*",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32803: "a camera's raw pattern",
    32844: "Log L",
    32845: "Log Luv",
}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
# First bytes of the description or the maker in files of slide scanners.
SCANNERS: Final = {
    b"Aperio": "Aperio",
    b"Hamamatsu": "Hamamatsu",
    b"Ventana": "Ventana",
    b'<?xml version="1.0" encoding="UTF-8" ?>\n<DataObject': "Philips",
}
# µm by the units of OME-XML and ImageJ; both letters for micro, ImageJ's escape of it, and what is left of Latin-1 in UTF-8.
MICRO: Final = ("\xb5m", "\u03bcm", r"\u00B5m", "\ufffdm", "um", "micron", "microns")
UNITS_UM: Final = {"nm": 1e-3, **dict.fromkeys(MICRO, 1.0), "mm": 1e3, "cm": 1e4, "inch": 25_400.0}
OME_SIZE: Final = re.compile(r"""<Pixels\b[^>]*?\bPhysicalSizeX=["']([0-9.eE+-]+)["']""")
OME_UNIT: Final = re.compile(r"""<Pixels\b[^>]*?\bPhysicalSizeXUnit=["']([^"']+)["']""")
IMAGEJ_UNIT: Final = re.compile(r"^unit=(.+?)\s*$", re.MULTILINE)
MAX_SAMPLES: Final = 8
# Pixels of a tiled picture with reduced copies; a larger one is a slide.
LARGEST_PICTURE: Final = 2**26
# Pixels; a picture may be smaller than its tile, but a few pixels must not cost much memory.
LARGEST_TILE: Final = 2**22
REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class Layout:
    """How a page stores its samples.

    Attributes:
        bits: per sample.
        samples: per pixel, stored.
        columns: of a segment: a strip or a tile.
        rows: of a segment.
        is_planar: each sample has segments of its own.
    """

    width: int
    height: int
    bits: int
    samples: int
    photometric: int
    compression: int
    columns: int
    rows: int
    is_tiled: bool
    is_planar: bool
    is_reversed: bool
    predictor: int
    order: str

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16 if self.bits == 16 else np.uint8)


def matches(data: bytes) -> bool:
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def decode(data: bytes) -> UInt8Image:
    """Decodes the only page, or the only one that is no reduced copy.

    Raises:
        InputError: it is damaged, a whole slide, or of a kind that is not read; the sentence names the kind.
    """
    try:
        page = _page(data)
        layout = _layout(page)
        samples = _samples(page, layout)
        return upright(_colours(page, layout, samples), page.first(274, 1))
    except DirectoryError as error:
        raise damaged(str(error)) from None


def metadata(data: bytes) -> Metadata:
    return Metadata(plausible(_um_per_pixel(data)))


def _um_per_pixel(data: bytes) -> float:
    """Width of a pixel in µm by OME-XML, ImageJ's description or the resolution, in this order; 0 if none of them tells."""
    try:
        page = _page(data)
        text = page.raw(270).decode("utf-8", "replace")
        if "<OME" in text and (size := OME_SIZE.search(text)):
            unit = OME_UNIT.search(text)
            return float(size[1]) * UNITS_UM.get(unit[1] if unit else "um", 0.0)
        if text.startswith("ImageJ=") and (unit := IMAGEJ_UNIT.search(text)):
            return pixel_width(page, UNITS_UM.get(unit[1], 0.0))
        return pixel_width(page)
    except (DirectoryError, InputError, ValueError):
        return 0.0


def _page(data: bytes) -> Directory:
    """The page to be classified."""
    pages = list(directories(data))
    if not pages:
        raise damaged("the TIFF holds no page")
    whole = [page for page in pages if not page.first(254, 0) & 5 and page.first(255, 1) != 2]  # neither reduced copy nor mask
    if reason := _slide_reason(pages):
        raise InputError(f"The file is a whole slide ({reason}), which is read by bcd-edge predict with the extra slide, not as one picture.")
    if len(whole) != 1:
        raise InputError(f"The file holds {len(whole) or len(pages)} frames or pages; export the one to be classified as a file of its own.")
    return whole[0]


def slide_reason(data: bytes | mmap.mmap) -> str:
    """What makes a TIFF a whole slide rather than a picture, such as its scanner; empty for a picture, and for what cannot be told."""
    pages: list[Directory] = []
    with contextlib.suppress(DirectoryError):  # a slide that was cut is one still; a scanner's own way to store large offsets is, too
        pages.extend(directories(data))
    try:
        return _slide_reason(pages) if pages else ""
    except DirectoryError:
        return ""


def _slide_reason(pages: list[Directory]) -> str:
    scanner = _scanner(pages[0])
    if scanner and (len(pages) > 1 or 330 in pages[0]):
        return f"{scanner}, {len(pages)} pages"
    levels = len(pages) - 1 + (len(pages[0].values(330)) if 330 in pages[0] else 0)
    width, height = pages[0].first(256, 0), pages[0].first(257, 0)
    is_large = width * height > (LARGEST_PICTURE if levels else MAX_PIXELS)
    return f"{width} x {height} pixels in {levels + 1} levels" if 322 in pages[0] and is_large else ""


def _scanner(page: Directory) -> str:
    texts = (page.raw(270), page.raw(271), page.raw(305))
    return next((name for mark, name in SCANNERS.items() if any(text.startswith(mark) for text in texts)), "")


def _layout(page: Directory) -> Layout:
    """Reads and checks the tags that say where samples are and what they mean.

    Raises:
        InputError: the layout is not read; the sentence names it.
    """
    width, height = page.first(256, 0), page.first(257, 0)
    check_size(width, height)
    samples, depths = page.first(277, 1), sorted(set(page.values(258)) or {1})
    if len(depths) > 1:
        raise _not_read(f"has samples of {' and '.join(map(str, depths))} bits")
    _check_format(page, depths[0])
    photometric = page.first(262, -1)
    if photometric not in COLOURS:
        raise _not_read(f"stores {PHOTOMETRICS.get(photometric, f'colours in an unknown way ({photometric})')}")
    if not COLOURS[photometric] <= samples <= MAX_SAMPLES:
        raise _not_read(f"has {samples} samples per pixel")
    compression = page.first(259, 1)
    tiled = 322 in page
    columns, rows = (page.first(322, 0), page.first(323, 0)) if tiled else (width, min(page.first(278, height), height))
    if columns < 1 or rows < 1 or columns * rows > max(LARGEST_TILE, 4 * width * height):
        raise damaged(f"its parts have {columns} x {rows} pixels")
    layout = Layout(
        *(width, height, depths[0], samples, photometric, compression, columns, rows, tiled),
        page.first(284, 1) == 2 and samples > 1,
        page.first(266, 1) == 2,
        page.first(317, 1),
        page.order,
    )
    _check_scheme(page, layout)
    return layout


def _check_format(page: Directory, bits: int) -> None:
    kinds = set(page.values(339)) or {1}
    if kinds & {3, 6}:
        raise InputError(f"Samples of type float{bits} have no known white; export the image with 8 bits per channel.")
    if kinds - {1, 4}:
        raise _not_read("has signed samples")
    if bits not in (1, 2, 4, 8, 16):
        raise _not_read(f"has {bits} bits per sample")


def _check_scheme(page: Directory, layout: Layout) -> None:
    """Refuses combinations of compression and layout that are not read."""
    scheme = layout.compression
    if scheme not in (JPEG, *WEBP) and segments.unpacker(scheme) is None:
        raise InputError(
            f"The TIFF is compressed with {segments.NAMES.get(scheme, f'scheme {scheme}')}, which is not read; export it with LZW or as PNG."
        )
    if scheme in (JPEG, *WEBP) and layout.bits != 8:
        raise _not_read(f"has JPEG or WebP of {layout.bits} bits per sample")
    if scheme in WEBP and (layout.is_planar or layout.photometric not in (RGB, YCBCR)):
        raise _not_read("has WebP in an unusual layout")
    if layout.photometric == YCBCR and scheme not in (JPEG, *WEBP):
        raise _not_read("stores YCbCr without JPEG")
    if layout.photometric == PALETTE and layout.bits > 8:
        raise _not_read("has a palette of more than 8 bits")
    if layout.bits < 8 and layout.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE):
        raise _not_read(f"has {layout.bits} bits per colour")
    if layout.photometric == CMYK and page.first(332, 1) != 1:
        raise _not_read("stores inks other than CMYK")
    if layout.predictor not in (1, 2) or (layout.predictor == 2 and layout.bits < 8):
        raise _not_read(f"uses the predictor {layout.predictor} with {layout.bits} bits")


def _not_read(reason: str) -> InputError:
    return InputError(f"The TIFF {reason}, which is not read; export the image as RGB with 8 bits per channel.")


def _samples(page: Directory, layout: Layout) -> Samples:
    """All samples, H x W x C."""
    data = page.data
    offsets = page.values(324 if layout.is_tiled else 273)
    counts = page.values(325 if layout.is_tiled else 279)
    across, down = -(-layout.width // layout.columns), -(-layout.height // layout.rows)
    planes = layout.samples if layout.is_planar else 1
    if not counts and len(offsets) == 1 and layout.compression == 1:
        counts = (len(data) - offsets[0],)
    if not len(offsets) == len(counts) == across * down * planes:
        raise damaged(f"{len(offsets)} parts where there should be {across * down * planes}")
    image = np.empty((layout.height, layout.width, layout.samples), layout.dtype)
    for index, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
        if count == 0 or offset + count > len(data):
            raise damaged("a part lies outside the file, which may have been cut")
        plane, place = divmod(index, across * down)
        top, left = place // across * layout.rows, place % across * layout.columns
        rows = layout.rows if layout.is_tiled else min(layout.rows, layout.height - top)
        segment = _segment(page, layout, data[offset : offset + count], rows)
        target = image[top : top + rows, left : left + layout.columns, plane : plane + segment.shape[2]]
        target[:] = segment[: target.shape[0], : target.shape[1]]
    return image


def _segment(page: Directory, layout: Layout, data: bytes, rows: int) -> Samples:
    """One strip or tile, `rows` x columns x C."""
    samples = 1 if layout.is_planar else layout.samples
    if layout.compression == JPEG:
        return _jpeg(page, layout, data, (rows, layout.columns, samples))
    if layout.compression in WEBP:
        return _of_shape(webp.pixels(data)[..., :samples], (rows, layout.columns, samples))
    unpack = segments.unpacker(layout.compression)
    assert unpack is not None
    row_bytes = -(-layout.columns * samples * layout.bits // 8)
    unpacked = unpack(data.translate(REVERSED) if layout.is_reversed else data, rows * row_bytes)
    if len(unpacked) < rows * row_bytes:
        raise damaged(f"a part holds {len(unpacked):,} bytes of {rows * row_bytes:,}")
    bytes_hw = np.frombuffer(unpacked, np.uint8, rows * row_bytes).reshape(rows, row_bytes)
    values: npt.NDArray[Any]
    if layout.bits < 8:
        values = segments.unpack_bits(bytes_hw, layout.bits, layout.columns * samples)
    else:
        values = bytes_hw.view(f"{layout.order}u{layout.bits // 8}").astype(layout.dtype)
    values = values.reshape(rows, layout.columns, samples)
    return segments.undo_differences(values) if layout.predictor == 2 else values


def _jpeg(page: Directory, layout: Layout, data: bytes, shape: tuple[int, int, int]) -> Samples:
    """A JPEG whose tables are in the directory, and whose colours are what the directory says, not what libjpeg would guess."""
    tables = page.raw(347)
    if not jpeg.matches(data) or (tables and not jpeg.matches(tables)):
        raise damaged("a part is not the JPEG that it should be")
    transform = {1: -1, 3: int(layout.photometric == YCBCR), 4: 0}.get(shape[2])
    if transform is None:
        raise _not_read(f"has JPEG of {shape[2]} samples")
    adobe = b"" if transform < 0 else b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])
    whole = b"\xff\xd8" + adobe + tables[2:].removesuffix(b"\xff\xd9") + data[2:]
    jpeg.check(jpeg.read_header(whole))
    return _of_shape(jpeg.pixels(whole, {1: "GRAY", 3: "RGB", 4: "CMYK"}[shape[2]]), shape)


def _of_shape(segment: UInt8Image, shape: tuple[int, int, int]) -> UInt8Image:
    """Refuses a compressed part of other than the declared size; the last strip may be stored with all its rows."""
    rows, columns, samples = shape
    if segment.shape[0] < rows or segment.shape[1:] != (columns, samples):
        raise damaged(f"a part has {segment.shape[1]} x {segment.shape[0]} pixels instead of {columns} x {rows}")
    return segment[:rows]


def _colours(page: Directory, layout: Layout, samples: Samples) -> UInt8Image:
    """Samples to RGB by the photometric interpretation; a fourth sample is transparency only where the file says so."""
    count = COLOURS[layout.photometric]
    top = 2**layout.bits - 1
    if layout.photometric == PALETTE:
        return rgb(_palette(page, layout)[samples[..., 0]])
    if layout.photometric == CMYK:
        return cmyk_to_rgb(samples[..., :4])
    alpha = _alpha(page) if samples.shape[2] > count else "none"
    kept = samples[..., : count + (alpha != "none")]
    if layout.photometric == WHITE_IS_ZERO:
        kept = np.concatenate([np.asarray(top - kept[..., :1], kept.dtype), kept[..., 1:]], axis=2)
    if layout.bits < 8:
        kept = np.asarray(kept * (255 // top), np.uint8)
    return rgb(kept, alpha)


def _alpha(page: Directory) -> Alpha:
    kinds: dict[int, Alpha] = {1: "premultiplied", 2: "straight"}
    return kinds.get(page.first(338, 0), "none")


def _palette(page: Directory, layout: Layout) -> npt.NDArray[np.uint8]:
    values = np.array(page.values(320), np.float32)
    if len(values) != 3 * 2**layout.bits:
        raise damaged("the palette has the wrong length")
    scale = 257 if values.max() > 255 else 1  # some writers fill 8 of the 16 bits
    return np.asarray(np.rint(values.reshape(3, -1).T / scale), np.uint8)
