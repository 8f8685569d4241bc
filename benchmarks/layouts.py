"""Files of every layout that PNG, JPEG, TIFF, BMP, WebP, AVIF and HEIC allow, of tissue texture, each with a second decoder's pixels."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
import pillow_heif
import tifffile
from PIL import Image

from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.synthetic import tissue

HEIGHT, WIDTH = 45, 61
PICTURE: Final = tissue(5, height=HEIGHT, width=WIDTH, glands=1, scattered=20)
GREY: Final = np.asarray(np.rint(PICTURE.mean(axis=2)), np.uint8)
ALPHA: Final = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
# Compressions of TIFF that are read and lose nothing.
READ: Final = ("none", "lzw", "deflate", "packbits", "lzma")
REFUSED: Final = {"zstd": "Zstandard", "jpeg2000": "JPEG 2000", "lerc": "LERC", "jpegxl": "JPEG XL"}
SAMPLES: Final = ("white is zero", "grey", "palette", "RGB", "premultiplied", "straight", "unspecified", "CMYK")
ORIENTATIONS: Final = range(1, 9)


@dataclass(frozen=True)
class Cell:
    """One layout.

    Attributes:
        saved: the pixels expected, from the picture that was saved; None where the format loses some.
        second: gives the pixels by another decoder, None where there is none that reads it right.
        refusal: words that the refusal must hold, None where it must be decoded.
    """

    format: str
    name: str
    data: bytes
    saved: UInt8Image | None
    second: Callable[[], npt.NDArray[Any] | None]
    refusal: str | None = None
    is_lossy: bool = False


def cells() -> Iterator[Cell]:
    """All of them."""
    yield from tiffs()
    yield from jpegs_in_tiff()
    yield from refused_tiffs()
    yield from pngs()
    yield from jpegs()
    yield from others()


def tiffs(bits: tuple[int, ...] = (1, 8, 12, 16), compressions: tuple[str, ...] = READ, orientations: range = ORIENTATIONS) -> Iterator[Cell]:
    """Bits x samples x compression x planar x strips or tiles x predictor x byte order x orientation, without those that cannot be."""
    for depth, kind, compression, planar, tiled, predictor, order, orientation in itertools.product(
        bits, SAMPLES, compressions, (False, True), (False, True), (False, True), "<>", orientations
    ):
        if (depth == 1 and kind not in ("white is zero", "grey")) or (depth > 8 and kind == "palette"):
            continue
        if (planar and kind in ("white is zero", "grey", "palette")) or (predictor and (compression in ("none", "packbits") or depth == 1)):
            continue
        stored, options, saved = _stored(kind, depth)
        if planar:
            stored = np.ascontiguousarray(stored.transpose(2, 0, 1))
            options["planarconfig"] = "separate"
        options |= {"tile": (16, 16)} if tiled else {"rowsperstrip": 16}
        options["extratags"] = [(274, "H", 1, orientation, False)]
        data = tiff_file(stored, compression=compression, predictor=predictor, byteorder=order, **options)
        words = (
            f"{depth} bits",
            kind,
            compression,
            "planar" * planar,
            "tiles" if tiled else "strips",
            "predictor" * predictor,
            order,
            f"turned {orientation}",
        )
        refusal = "lower 12 bits" if depth == 12 and kind != "CMYK" else None
        if depth == 12 and kind in ("CMYK", "white is zero"):
            continue  # inks and inverted grey of 12 bits in 16 are light, not dark: triage sees those
        second = _by_tifffile(data, kind, orientation)
        yield Cell("TIFF", ", ".join(filter(None, words)), data, turned(saved, orientation), second, refusal)


def _stored(kind: str, bits: int) -> tuple[npt.NDArray[Any], dict[str, Any], UInt8Image]:
    """Samples as they are saved, tifffile's options for them, and the RGB that they mean."""
    grey = np.where(GREY > 170, np.uint8(255), np.uint8(0)) if bits == 1 else GREY
    photometrics = {"white is zero": "miniswhite", "grey": "minisblack", "palette": "palette", "CMYK": "separated"}
    options: dict[str, Any] = {"photometric": photometrics.get(kind, "rgb")}
    colours, saved = PICTURE, PICTURE
    if kind in ("white is zero", "grey"):
        colours, saved = (255 - grey if kind == "white is zero" else grey), np.dstack([grey] * 3)
    elif kind == "palette":
        table = np.stack([np.arange(256), np.arange(256)[::-1], np.arange(256) // 2]).astype(np.uint16)
        options["colormap"], colours, saved = table * 257, GREY, np.asarray(table.T[GREY], np.uint8)
    elif kind == "CMYK":
        colours = np.dstack([255 - PICTURE, ALPHA // 2])
        saved = np.asarray(np.rint(PICTURE * (1 - (ALPHA // 2)[..., None] / 255)), np.uint8)
    elif kind != "RGB":
        codes: dict[str, int | str] = {"premultiplied": "assocalpha", "straight": "unassalpha", "unspecified": "unspecified"}
        options["extrasamples"] = [codes[kind]]
        share = ALPHA[..., None] / 255
        premultiplied = np.asarray(np.rint(PICTURE * share), np.uint8)
        colours = np.dstack([premultiplied if kind == "premultiplied" else PICTURE, ALPHA])
        if kind == "premultiplied":
            saved = np.asarray(np.minimum(255, np.rint(premultiplied + 255 * (1 - share))), np.uint8)
        elif kind == "straight":
            saved = np.asarray(np.rint(PICTURE * share + 255 * (1 - share)), np.uint8)
    if bits == 1:
        return colours > 0, options, saved
    return {8: colours, 12: colours.astype(np.uint16) * 16, 16: colours.astype(np.uint16) * 257}[bits], options, saved


def _by_tifffile(data: bytes, kind: str, orientation: int) -> Callable[[], npt.NDArray[Any] | None]:
    """Samples by tifffile and imagecodecs, their meaning in floating point."""

    def second() -> npt.NDArray[Any]:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            samples = page.asarray()
            if page.planarconfig == 2 and samples.ndim == 3:
                samples = samples.transpose(1, 2, 0)
            if kind == "palette":
                light = page.colormap.T[samples] / 65535
            else:
                light = samples.astype(np.float64) / (1 if samples.dtype == bool else np.iinfo(samples.dtype).max)
        if kind in ("white is zero", "grey"):
            light = np.dstack([1 - light if kind == "white is zero" else light] * 3)
        elif kind == "CMYK":
            light = (1 - light[..., :3]) * (1 - light[..., 3:])
        elif kind in ("premultiplied", "straight"):
            light = light[..., :3] * (1 if kind == "premultiplied" else light[..., 3:]) + 1 - light[..., 3:]
        return turned(np.clip(np.rint(255 * light[..., :3]), 0, 255).astype(np.uint8), orientation)

    return second


def jpegs_in_tiff() -> Iterator[Cell]:
    """JPEG and WebP inside TIFF: grey, RGB and YCbCr, strips and tiles."""
    for compression, kind, tiled, subsampling in itertools.product(("jpeg", "webp"), ("grey", "RGB", "YCbCr"), (False, True), ((1, 1), (2, 2))):
        if (compression == "webp" and (kind != "RGB" or subsampling != (1, 1))) or (kind != "YCbCr" and subsampling != (1, 1)):
            continue
        options: dict[str, Any] = {"tile": (32, 32)} if tiled else {"rowsperstrip": 16}
        options["photometric"] = {"grey": "minisblack", "RGB": "rgb", "YCbCr": "ycbcr"}[kind]
        if kind == "YCbCr":
            options["subsampling"] = subsampling
        data = tiff_file(GREY if kind == "grey" else PICTURE, compression=compression, **options)
        words = f"{compression}, {kind}, {'tiles' if tiled else 'strips'}, subsampling {subsampling[0]}"
        yield Cell("JPEG and WebP in TIFF", words, data, None, _by_tifffile(data, kind, 1), is_lossy=True)


def refused_tiffs() -> Iterator[Cell]:
    """What must be refused by name."""
    samples: list[tuple[str, str, dict[str, Any], npt.NDArray[Any]]] = [
        (words, words, {"compression": scheme, "photometric": "rgb"}, PICTURE) for scheme, words in REFUSED.items()
    ]
    samples.append(("float", "float32", {"photometric": "rgb"}, PICTURE.astype(np.float32) / 255))
    samples.append(("signed", "signed", {"photometric": "minisblack"}, GREY.astype(np.int16)))
    samples.append(("32 bits", "32 bits", {"photometric": "minisblack"}, GREY.astype(np.uint32)))
    samples.append(("12 bits packed", "12 bits", {"photometric": "minisblack", "bitspersample": 12}, GREY.astype(np.uint16) * 16))
    samples.append(("two pages", "2 frames", {"photometric": "rgb"}, np.stack([PICTURE, PICTURE])))
    for name, refusal, options, picture in samples:
        yield Cell("TIFF", name, tiff_file(picture, **options), None, lambda: None, refusal)


def pngs() -> Iterator[Cell]:
    """Colour type x bits x interlace x transparent colour, with every row filter."""
    kinds = (
        [(0, bits) for bits in (1, 2, 4, 8, 16)] + [(3, bits) for bits in (1, 2, 4, 8)] + [(colour, bits) for colour in (2, 4, 6) for bits in (8, 16)]
    )
    for (colour, bits), interlaced, keyed in itertools.product(kinds, (False, True), (False, True)):
        if keyed and colour in (4, 6):
            continue
        data = png_file(colour, bits, interlaced=interlaced, keyed=keyed)
        name = f"colour type {colour}, {bits} bits{', interlaced' * interlaced}{', transparent colour' * keyed}"
        if colour == 0 and keyed:  # Pillow compares the colour before and the samples after scaling
            yield Cell("PNG", name, data, _grey_keyed(bits), lambda: None)
        else:
            yield Cell("PNG", name, data, None, _by_pillow(data))
    for picture, orientation in itertools.product((PICTURE, PICTURE[..., 0]), ORIENTATIONS):
        exif = Image.Exif()
        exif[274] = orientation
        data = by_pillow(picture, "PNG", exif=exif)
        yield Cell(
            "PNG",
            f"turned {orientation}",
            data,
            turned(np.asarray(np.broadcast_to(picture.reshape(HEIGHT, WIDTH, -1), PICTURE.shape)), orientation),
            _by_pillow(data),
        )


def jpegs() -> Iterator[Cell]:
    """Subsampling x scans x colours x orientation."""
    for subsampling, progressive, mode, restart, orientation in itertools.product(
        (0, 1, 2), (False, True), ("L", "RGB", "CMYK"), (0, 1), ORIENTATIONS
    ):
        exif = Image.Exif()
        exif[274] = orientation
        options: dict[str, Any] = {"restart_marker_rows": 1} if restart else {}
        data = by_pillow(PICTURE, "JPEG", mode, quality=92, subsampling=subsampling, progressive=progressive, exif=exif, **options)
        name = f"{mode}, subsampling {subsampling}{', progressive' * progressive}{', restart markers' * restart}, turned {orientation}"
        refusal = "subsampled" if mode == "CMYK" and subsampling else None
        yield Cell("JPEG", name, data, None, _by_pillow(data), refusal, is_lossy=True)
    rgb = by_pillow(PICTURE, "JPEG", quality=92, keep_rgb=True)
    yield Cell("JPEG", "RGB without a transform", rgb, None, _by_pillow(rgb), is_lossy=True)
    deep = GREY.astype(np.uint16) * 16
    yield Cell("JPEG", "12 bits", imagecodecs.jpeg8_encode(deep, bitspersample=12), None, lambda: None, "12 bits")
    yield Cell("JPEG", "lossless", imagecodecs.ljpeg_encode(GREY, bitspersample=8), None, lambda: None, "lossless")


def others() -> Iterator[Cell]:
    """BMP, WebP, AVIF and HEIC."""
    for mode in ("1", "L", "P", "RGB"):
        data = by_pillow(PICTURE, "BMP", mode)
        yield Cell("BMP", mode, data, None, lambda data=data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])  # type: ignore[misc]
    for mode, lossless in itertools.product(("RGB", "RGBA"), (False, True)):
        picture = PICTURE if mode == "RGB" else np.dstack([PICTURE, ALPHA])
        data = by_pillow(picture, "WEBP", lossless=lossless, exact=True, quality=90)
        name = f"{mode}{', lossless' * lossless}"
        yield Cell("WebP", name, data, None, lambda data=data: on_white(imagecodecs.webp_decode(data)), is_lossy=not lossless)  # type: ignore[misc]
    data = by_pillow(PICTURE, "AVIF", quality=90)
    yield Cell("AVIF", "RGB", data, None, lambda: imagecodecs.avif_decode(data), is_lossy=True)
    # one libheif for both: what is compared is the way from its pixels to ours
    whole = heic(PICTURE)
    yield Cell("HEIC", "RGB", whole, None, lambda: np.asarray(pillow_heif.read_heif(whole)), is_lossy=True)


def tiff_file(samples: npt.NDArray[Any], *, compression: str = "none", byteorder: str = "<", predictor: bool = False, **options: Any) -> bytes:
    """One TIFF by tifffile."""
    buffer = io.BytesIO()
    options = {"photometric": "rgb"} | options
    names = {"deflate": "zlib", "jpeg2000": "jpeg2000", "jpegxl": "jpegxl"}
    scheme = None if compression == "none" else names.get(compression, compression)
    tifffile.imwrite(buffer, samples, byteorder=byteorder, compression=scheme, predictor=predictor, metadata=None, **options)
    return buffer.getvalue()


def by_pillow(picture: npt.NDArray[Any], kind: str, mode: str | None = None, **options: Any) -> bytes:
    """One file by Pillow."""
    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def heic(picture: npt.NDArray[Any], **options: Any) -> bytes:
    """One file by libheif."""
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(picture)).save(buffer, quality=90, **options)
    return buffer.getvalue()


def png_file(colour: int, bits: int, *, interlaced: bool, keyed: bool) -> bytes:
    """A PNG written chunk by chunk, because no library writes all of them: the row filters take turns."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    planes = np.dstack([PICTURE, ALPHA])[..., {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]].astype(np.uint16)
    samples = planes * 257 if bits == 16 else planes >> (8 - bits)
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)) if interlaced else ((0, 0, 1, 1),)
    raw = b"".join(_filtered(samples[y::down, x::across], bits) for x, y, across, down in passes)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour, 0, 0, interlaced))]
    if colour == 3:
        ramp = np.linspace(0, 255, 2**bits).astype(np.uint8)
        chunks.append((b"PLTE", np.stack([ramp, ramp[::-1], ramp // 2], axis=1).tobytes()))
    if keyed:
        key = samples[HEIGHT // 2, WIDTH // 2]
        chunks.append((b"tRNS", bytes([0, 128, 200][: 2**bits]) if colour == 3 else b"".join(struct.pack(">H", int(value)) for value in key)))
    chunks += [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _grey_keyed(bits: int) -> UInt8Image:
    """What `png_file` means in grey: white where the sample in the middle is met."""
    grey = PICTURE[..., 0].astype(np.uint16)
    samples = grey * 257 if bits == 16 else grey >> (8 - bits)
    light = np.rint(255 * np.where(samples == samples[HEIGHT // 2, WIDTH // 2], 1, samples / (2**bits - 1)))
    return np.dstack([np.asarray(light, np.uint8)] * 3)


def _filtered(samples: npt.NDArray[np.uint16], bits: int) -> bytes:
    """Rows of one pass, filtered in turn by none, sub, up, average and Paeth."""
    rows, columns, channels = samples.shape
    if not rows or not columns:
        return b""
    if bits == 16:
        packed = samples.astype(">u2").reshape(rows, -1).view(np.uint8)
    elif bits == 8:
        packed = samples.astype(np.uint8).reshape(rows, -1)
    else:
        planes = (samples.reshape(rows, -1, 1) >> np.arange(bits - 1, -1, -1)) & 1
        packed = np.packbits(planes.reshape(rows, -1).astype(np.uint8), axis=1)
    step = max(1, bits * channels // 8)
    above = np.zeros(packed.shape[1] + step, int)
    lines = []
    for index, row in enumerate(packed):
        current = np.concatenate([np.zeros(step, int), row])
        left, corner = current[:-step], above[:-step]
        up, estimate = above[step:], current[:-step] + above[step:] - above[:-step]
        distances = np.abs(np.stack([estimate - left, estimate - up, estimate - corner]))
        paeth = np.choose(distances.argmin(axis=0), [left, up, corner])
        prediction = (0, left, up, (left + up) // 2, paeth)[index % 5]
        lines.append(bytes([index % 5]) + ((row.astype(int) - prediction) % 256).astype(np.uint8).tobytes())
        above = current
    return b"".join(lines)


def _by_pillow(data: bytes) -> Callable[[], npt.NDArray[Any] | None]:
    """Pixels by Pillow, upright, on white."""

    def second() -> npt.NDArray[Any]:
        with Image.open(io.BytesIO(data)) as image:
            orientation = image.getexif().get(274, 1)
            if image.mode.startswith("I"):
                grey = np.asarray(image).astype(np.float64)
                key = image.info.get("transparency")
                light = np.where(grey == key, 65535.0, grey) if key is not None else grey
                return np.dstack([np.asarray(np.rint(light / 257), np.uint8)] * 3)
            has_alpha = "A" in image.mode or "transparency" in image.info
            return turned(on_white(np.asarray(image.convert("RGBA" if has_alpha else "RGB"))), orientation)

    return second


def on_white(image: npt.NDArray[Any]) -> UInt8Image:
    """RGBA on white, in floating point."""
    if image.shape[2] == 3:
        return np.asarray(image, np.uint8)
    share = image[..., 3:] / 255
    return np.asarray(np.rint(image[..., :3] * share + 255 * (1 - share)), np.uint8)


def turned(image: UInt8Image, orientation: int) -> UInt8Image:
    """Undoes an EXIF orientation by Pillow."""
    steps = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}
    step = steps.get(orientation)
    return np.asarray(Image.fromarray(image).transpose(Image.Transpose[step])) if step else image
