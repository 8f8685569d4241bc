"""DICOM files of every layout that is read, of tissue texture, each with a second decoder's pixels."""

from __future__ import annotations

import hashlib
import io
import itertools
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
from jpeg_ls import encode_buffer
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import pixel_array

from bcd_edge.readers.pixels import UInt8Image
from benchmarks.layouts import PICTURE, Cell

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
JPEG, JPEG_LS, JPEG_LS_NEAR, JPEG_2000 = (f"1.2.840.10008.1.2.4.{number}" for number in (50, 80, 81, 90))
PLAIN: Final = {"implicit": IMPLICIT, "explicit": EXPLICIT, "big endian": BIG_ENDIAN, "deflated": DEFLATED}


def made(
    samples: npt.NDArray[Any],
    stream: bytes | None = None,
    *,
    syntax: str = EXPLICIT,
    fragments: int = 1,
    table: bytes = b"",
    **other: Any,
) -> bytes:
    """A VL Microscopic Image of uint8 or uint16 samples, H x W or H x W x 3, stored plainly unless there is a compressed stream for them.

    Args:
        samples: what Rows, Columns, samples and bits describe.
        stream: the value of Pixel Data, or the only frame if the transfer syntax is a compressed one.
        syntax: UID of the transfer syntax.
        fragments: how many the frame is cut into.
        table: the Basic Offset Table.
        other: attributes by keyword, instead of the usual ones; None leaves one out.
    """
    is_big, is_plain = syntax == BIG_ENDIAN, syntax in PLAIN.values()
    uid = f"2.25.{int.from_bytes(hashlib.sha256(samples.tobytes() + repr(other).encode()).digest()[:15], 'big')}"
    dataset, bits = Dataset(), 8 * samples.itemsize
    usual = {
        **{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.2", "SOPInstanceUID": uid, "StudyInstanceUID": f"{uid[:50]}.1"},
        **{"SeriesInstanceUID": f"{uid[:50]}.2", "PatientID": "P7", "PatientName": "Rao^Asha", "Modality": "GM", "StudyID": "", "StudyDate": ""},
        **{"Rows": samples.shape[0], "Columns": samples.shape[1], "SamplesPerPixel": 1 if samples.ndim == 2 else 3, "InstanceNumber": 1},
        **{"PhotometricInterpretation": "MONOCHROME2" if samples.ndim == 2 else "RGB", "PixelRepresentation": 0, "SeriesNumber": 1},
        **{"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1, "PlanarConfiguration": 0 if samples.ndim == 3 else None},
        **{"StudyTime": "", "AccessionNumber": "", "ReferringPhysicianName": "", "PatientBirthDate": "", "PatientSex": "", "PixelData": b""},
    } | other
    for name, value in usual.items():
        if value is not None:
            setattr(dataset, name, value)
    if usual["PixelData"] is not None:
        value = stream if stream is not None else _plain(samples, planar=usual["PlanarConfiguration"] == 1, is_big=is_big)
        dataset.PixelData = value + bytes(len(value) % 2) if is_plain else _encapsulated(value, fragments, table)
        dataset["PixelData"].VR = "OW" if bits == 16 and is_plain else "OB"
        dataset["PixelData"].is_undefined_length = not is_plain
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True, implicit_vr=syntax == IMPLICIT, little_endian=not is_big)
    return buffer.getvalue()


def _plain(samples: npt.NDArray[Any], *, planar: bool, is_big: bool) -> bytes:
    stored = samples.transpose(2, 0, 1) if planar else samples
    return bytes(stored.astype(f"{'>' if is_big else '<'}u{samples.itemsize}").tobytes())


def _encapsulated(frame: bytes, fragments: int, table: bytes) -> bytes:
    size = -(-len(frame) // fragments // 2) * 2
    parts = [table, *(frame[start : start + size] for start in range(0, len(frame), size))]
    items = (b"\xfe\xff\x00\xe0" + (len(part) + len(part) % 2).to_bytes(4, "little") + part + bytes(len(part) % 2) for part in parts)
    return b"".join(items)  # pydicom adds the delimiter


def compressed(kind: str, samples: npt.NDArray[Any]) -> tuple[str, bytes]:
    """Transfer syntax and codestream of uint8 or uint16 samples, H x W or H x W x 3."""
    is_colour = samples.ndim == 3
    encode: dict[str, tuple[str, Callable[[], bytes]]] = {
        "JPEG": (JPEG, lambda: imagecodecs.jpeg8_encode(samples, level=95, subsampling="444" if is_colour else None)),
        "JPEG-LS": (JPEG_LS, lambda: imagecodecs.jpegls_encode(samples)),
        "near JPEG-LS": (JPEG_LS_NEAR, lambda: imagecodecs.jpegls_encode(samples, level=2)),
        "JPEG 2000": (JPEG_2000, lambda: imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat="j2k")),
        "RLE": (RLE, lambda: rle(samples)),
    }
    syntax, stream = encode[kind]
    return syntax, bytes(stream())


def rle(samples: npt.NDArray[Any]) -> bytes:
    """PackBits for each byte of each sample, the highest first (PS3.5, annex G)."""
    planes = samples.reshape(*samples.shape[:2], -1).astype(f">u{samples.itemsize}").view(np.uint8)
    parts = [imagecodecs.packbits_encode(np.ascontiguousarray(planes[..., plane])) for plane in range(planes.shape[2])]
    parts = [part + bytes(len(part) % 2) for part in parts]
    starts = np.cumsum([64, *map(len, parts[:-1])])
    return struct.pack("<16I", len(parts), *(int(start) for start in starts), *(0,) * (15 - len(parts))) + b"".join(parts)


def whole(kind: str, picture: UInt8Image) -> bytes:
    """One file of RGB: `plain`, `deflated`, or a kind of `compressed`."""
    if kind in ("plain", "deflated"):
        return made(picture, syntax=EXPLICIT if kind == "plain" else DEFLATED)
    syntax, stream = compressed(kind, picture)
    return made(picture, stream, syntax=syntax, PhotometricInterpretation="YBR_FULL_422" if kind == "JPEG" else "RGB")


def cells() -> Iterator[Cell]:
    """What is read, in every combination of transfer syntax, colour model and depth that exists."""
    grey = np.ascontiguousarray(PICTURE[..., 0])
    as_rgb = np.dstack([grey] * 3)
    for (name, syntax), bits in itertools.product(PLAIN.items(), (8, 10, 12, 16)):
        for kind, samples, saved in (("RGB", PICTURE, PICTURE), ("MONOCHROME1", 255 - grey, as_rgb), ("MONOCHROME2", grey, as_rgb)):
            for planar in (0, 1) if kind == "RGB" else (None,):
                how = {"PhotometricInterpretation": kind, "BitsStored": bits, "HighBit": bits - 1, "PlanarConfiguration": planar}
                data = made(_deep(samples, bits), syntax=syntax, **how)
                yield Cell("DICOM", f"{name}, {kind}, {bits} bits{', planar' * bool(planar)}", data, saved, _by_pydicom(data))
    for kind, samples in itertools.product(("JPEG", "JPEG-LS", "near JPEG-LS", "JPEG 2000", "RLE"), (PICTURE, grey)):
        for bits in (8, 12, 16) if kind in ("JPEG-LS", "JPEG 2000", "RLE") else (8,):
            yield _compressed_cell(kind, samples, bits)


def _compressed_cell(kind: str, samples: UInt8Image, bits: int) -> Cell:
    deep, is_colour, is_lossy = _deep(samples, bits), samples.ndim == 3, kind in ("JPEG", "near JPEG-LS")
    syntax, stream = _twelve(kind, deep) if bits == 12 and kind != "RLE" else compressed(kind, deep)
    colours = {"JPEG": "YBR_FULL_422", "JPEG 2000": "YBR_RCT"}.get(kind, "RGB") if is_colour else "MONOCHROME2"
    data = made(deep, stream, syntax=syntax, PhotometricInterpretation=colours, BitsStored=bits, HighBit=bits - 1)
    saved = None if is_lossy else PICTURE if is_colour else np.dstack([samples] * 3)
    return Cell("DICOM", f"{kind}, {'RGB' if is_colour else 'grey'}, {bits} bits", data, saved, _by_pydicom(data), is_lossy=is_lossy)


def _deep(samples: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[Any]:
    """The same light in more bits."""
    return samples if bits == 8 else np.asarray(np.rint(samples * ((2**bits - 1) / 255)), np.uint16)


def _twelve(kind: str, samples: npt.NDArray[np.uint16]) -> tuple[str, bytes]:
    """Codestreams that say that they have 12 bits."""
    if kind == "JPEG 2000":
        return JPEG_2000, bytes(imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat="j2k", bitspersample=12))
    height, width = samples.shape[:2]
    return JPEG_LS, bytes(encode_buffer(samples.tobytes(), height, width, samples.size // (height * width), 12, 0, 2 if samples.ndim == 3 else 0))


def _by_pydicom(data: bytes) -> Callable[[], npt.NDArray[Any] | None]:
    """Pixels by pydicom's own decoders, as RGB."""

    def second() -> npt.NDArray[Any] | None:
        dataset = pydicom.dcmread(io.BytesIO(data))
        try:
            samples = np.asarray(pixel_array(dataset), np.float64)  # YBR becomes RGB there
        except RuntimeError:  # JPEG 2000 in colour of more than 8 bits
            return None
        light = samples / (2 ** int(dataset.BitsStored) - 1)
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            light = 1 - light
        return np.asarray(np.rint(255 * (light if samples.ndim == 3 else np.dstack([light] * 3))), np.uint8)

    return second
