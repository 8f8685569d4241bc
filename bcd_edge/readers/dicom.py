"""DICOM files (PS3.10) to the elements that matter here: what it is, whose, how its pixels are stored, and where they lie.

pydicom splits the bytes into elements; values are taken from them directly, because pydicom's conversions warn about sloppy text in
attributes that nobody reads. Nested and per-frame attributes are passed over, so a header of any size needs no memory of its own.
"""

from __future__ import annotations

import importlib.util
import io
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from bcd_edge.errors import InputError
from bcd_edge.readers.metadata import Metadata
from bcd_edge.readers.pixels import damaged

# Transfer syntaxes that are read (PS3.5, annex A).
IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
JPEG: Final = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
JPEG_LS: Final = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
JPEG_2000: Final = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
RLE: Final = "1.2.840.10008.1.2.5"
SYNTAXES: Final = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, *JPEG, *JPEG_LS, *JPEG_2000, RLE)

CLASSES: Final = {
    "1.2.840.10008.5.1.4.1.1.77.1.2": "VL Microscopic",
    "1.2.840.10008.5.1.4.1.1.77.1.3": "VL Slide-Coordinates Microscopic",
    "1.2.840.10008.5.1.4.1.1.77.1.4": "VL Photographic",
}
WHOLE_SLIDE: Final = "1.2.840.10008.5.1.4.1.1.77.1.6"

# Elements with 4 bytes of length in explicit VR that pixels can have.
LONG: Final = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN")
UNDEFINED: Final = 0xFFFFFFFF
CHARACTER_SET, SOP_CLASS = 0x00080005, 0x00080016
FRAMES, PIXELS = 0x00280008, 0x7FE00010
# Above all elements that are read and below the functional groups of frames.
LAST: Final = 0x00500000
# What is inflated of a deflated file before the size of its picture is known, and what may follow the pixels.
HEADER_BYTES: Final = 2**24
TRAILER_BYTES: Final = 2**16


@dataclass(frozen=True, slots=True)
class Pixels:
    """The value of the Pixel Data element: `start` and `end` in the file's bytes; `end` is None where it is in fragments."""

    start: int
    end: int | None
    vr: bytes


@dataclass(frozen=True, slots=True)
class Dataset:
    """A parsed file.

    Attributes:
        syntax: UID of the transfer syntax.
        data: the file, or the data set alone where that was deflated.
        elements: tag to raw value, of the elements below `LAST` that are no sequences.
        pixels: None where there are none.
    """

    syntax: str
    data: bytes
    elements: dict[int, bytes]
    pixels: Pixels | None

    @property
    def order(self) -> str:
        """Of bytes, as in `struct`."""
        return ">" if self.syntax == BIG_ENDIAN else "<"

    @property
    def sop_class(self) -> str:
        return self.code(SOP_CLASS)

    def number(self, tag: int, default: int = 0) -> int:
        """The first value of an element of VR US."""
        value = self.elements.get(tag, b"")
        return int(struct.unpack_from(f"{self.order}H", value)[0]) if len(value) >= 2 else default

    def long(self, tag: int) -> int:
        """The first value of an element of VR UL; 0 where there is none."""
        value = self.elements.get(tag, b"")
        return int(struct.unpack_from(f"{self.order}I", value)[0]) if len(value) >= 4 else 0

    def code(self, tag: int) -> str:
        """The value of an element of VR UI or CS, without padding."""
        return self.elements.get(tag, b"").decode("ascii", "replace").strip(" \0")

    def text(self, tag: int) -> str:
        """The value of an element of text in the file's character set, without padding."""
        from pydicom.charset import convert_encodings, decode_bytes, python_encoding

        value = self.elements.get(tag, b"")
        names = [name.strip() for name in self.code(CHARACTER_SET).split("\\")]
        if value.isascii() or not set(names) <= set(python_encoding):
            return value.decode("latin-1").strip(" \0")
        return str(decode_bytes(value, convert_encodings(names), set())).strip(" \0")

    def decimals(self, tag: int) -> list[float]:
        """The values of an element of VR DS or IS; an empty list where one is no number."""
        try:
            return [float(value) for value in self.elements.get(tag, b"").decode("ascii").strip(" \0").split("\\")]
        except ValueError:
            return []


def is_installed() -> bool:
    """Whether pydicom is."""
    return importlib.util.find_spec("pydicom") is not None


def not_installed() -> InputError:
    """The error of a file where the extra `dicom`, or a part of it, is missing."""
    return InputError(
        'This is a DICOM file, and what reads it is not installed; type: pip install "bcd-edge[dicom]", or export the image as PNG or TIFF.'
    )


def read(data: bytes) -> Dataset:
    """Parses a file.

    Raises:
        InputError: pydicom is not installed, the file is damaged, or it is in a transfer syntax that is not read.
    """
    if not is_installed():
        raise not_installed()
    try:
        syntax, start = _meta(data)
        if syntax not in SYNTAXES:
            raise InputError(f"The DICOM file is in the transfer syntax {name(syntax)}, which is not read; send it as Explicit VR Little Endian.")
        return _inflated(data[start:]) if syntax == DEFLATED else _parsed(syntax, data, start)
    except InputError:
        raise
    except Exception as error:  # pydicom raises nearly anything on damaged input; none of it is our bug
        raise damaged(f"its DICOM header cannot be read: {error or type(error).__name__}") from None


def name(uid: str) -> str:
    """The name of a transfer syntax or SOP class, or its UID in quotes."""
    from pydicom.uid import UID_dictionary

    return str(UID_dictionary[uid][0]) if uid in UID_dictionary else repr(uid)


def metadata(data: bytes) -> Metadata:
    """Patient, slide, study and scale from the header; nothing where it cannot be read."""
    try:
        dataset = read(data)
    except InputError:
        return Metadata()
    patient, slide = (dataset.text(tag) or None for tag in (0x00100020, 0x00400512))
    return Metadata(_um_per_pixel(dataset), patient, slide, dataset.code(0x0020000D) or None)


def _um_per_pixel(dataset: Dataset) -> float | None:
    """Pixel Spacing, unless it only repeats Imager Pixel Spacing: that is on the camera's sensor, and how much the optics magnify is not known."""
    spacing, at_sensor = dataset.decimals(0x00280030), dataset.decimals(0x00181164)
    is_positive = len(spacing) == 2 and all(math.isfinite(side) and side > 0 for side in spacing)
    if not is_positive or spacing == at_sensor or abs(spacing[0] / spacing[1] - 1) > 0.01:
        return None
    return 1000 * spacing[1]


def _meta(data: bytes) -> tuple[str, int]:
    """The transfer syntax, and where the data set begins, which follows the file's meta information."""
    file = io.BytesIO(data)
    file.seek(132)
    elements = dict(_elements(file, implicit=False, little=True, before=0x00030000))
    return elements.get(0x00020010, b"").decode("ascii").strip(" \0"), file.tell()


def _elements(file: io.BytesIO, *, implicit: bool, little: bool, before: int) -> Iterator[tuple[int, bytes]]:
    """Tag and value of the elements up to a tag, where the file is left; sequences are passed over."""
    from pydicom.filereader import data_element_generator

    for element in data_element_generator(file, implicit, little, stop_when=lambda tag, vr, length: tag >= before):
        if element.is_raw:
            value = element.value or b""
            if element.length != UNDEFINED and len(value) < element.length:
                raise damaged("it ends within its header")
            yield int(element.tag), value


def _parsed(syntax: str, data: bytes, start: int = 0) -> Dataset:
    file, implicit, little = io.BytesIO(data), syntax == IMPLICIT, syntax != BIG_ENDIAN
    file.seek(start)
    elements = dict(_elements(file, implicit=implicit, little=little, before=LAST))
    dataset = Dataset(syntax, data, elements, None)
    frames = dataset.decimals(FRAMES)
    if dataset.sop_class not in CLASSES or (frames and frames[0] > 1):
        return dataset  # refused by what is known; a header of a million frames is not read for it
    for _ in _elements(file, implicit=implicit, little=little, before=PIXELS):
        pass
    return Dataset(syntax, data, elements, pixels(file, len(data), implicit=implicit, order=dataset.order))


def pixels(file: BinaryIO, size: int, *, implicit: bool, order: str) -> Pixels | None:
    """Where the value of the Pixel Data element lies, which the file of `size` bytes is at; None where another one begins there.

    Raises:
        InputError: the file ends before the element does.
    """
    head = file.read(8)
    if len(head) < 8 or struct.unpack(f"{order}HH", head[:4]) != (0x7FE0, 0x0010):
        return None
    vr = b"" if implicit else head[4:6]
    length = struct.unpack(f"{order}I", file.read(4) if vr in LONG else head[4:])[0]
    start = file.tell()
    if length == UNDEFINED:
        return Pixels(start, None, vr)
    if start + length > size:
        raise damaged("it ends within its pixels")
    file.seek(start + length)
    check_trailer(file.read())
    return Pixels(start, start + length, vr)


def check_trailer(data: bytes) -> None:
    """What may follow the pixels: padding and signatures, in groups FFFA and FFFC.

    Raises:
        InputError: anything else does.
    """
    if data.strip(b"\0") and data[:2] not in (b"\xfa\xff", b"\xfc\xff", b"\xff\xfa", b"\xff\xfc"):
        raise damaged("something else follows its pixels")


def _inflated(body: bytes) -> Dataset:
    """A deflated data set: its header first, and no more than the picture that it declares, so that a small file cannot fill the memory."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    head = inflater.decompress(body, HEADER_BYTES)
    header = dict(_elements(io.BytesIO(head), implicit=False, little=True, before=LAST))
    declared = Dataset(DEFLATED, head, header, None)
    size = math.prod(declared.number(tag) for tag in (0x00280002, 0x00280010, 0x00280011)) * max(1, declared.number(0x00280100) // 8)
    rest = b"" if inflater.eof else inflater.decompress(inflater.unconsumed_tail, size + TRAILER_BYTES)
    if not inflater.eof:
        raise damaged("its deflated data ends early or is longer than its picture")
    return _parsed(DEFLATED, head + rest)


def codestream(dataset: Dataset) -> bytes:
    """The fragments of the only frame, joined (PS3.5, annex A.4).

    Raises:
        InputError: an item or the offset table is broken, or the end is missing.
    """
    assert dataset.pixels is not None
    items = list(_items(dataset.data, dataset.pixels.start))
    if not items:
        raise damaged("its compressed pixels have no offset table")
    offsets, fragments = items[0], items[1:]
    if offsets not in (b"", bytes(4)):  # of one frame, which begins at the first fragment
        raise damaged(f"its offset table has {len(offsets) // 4} entries for one frame, or points beyond it")
    return b"".join(fragments)


def _items(data: bytes, at: int) -> Iterator[bytes]:
    while True:
        if at + 8 > len(data):
            raise damaged("it ends within its compressed pixels")
        group, element, length = struct.unpack_from("<HHI", data, at)
        if (group, element) == (0xFFFE, 0xE0DD):
            check_trailer(data[at + 8 :])
            return
        if (group, element) != (0xFFFE, 0xE000) or at + 8 + length > len(data):
            raise damaged("a fragment of its compressed pixels is broken")
        yield data[at + 8 : at + 8 + length]
        at += 8 + length
