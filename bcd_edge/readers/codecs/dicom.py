"""DICOM images of visible light (PS3.3, A.32): one frame, its samples mapped by what the header declares, not by what a library would guess.

| in the file | what happens |
|---|---|
| VL Microscopic, VL Slide-Coordinates Microscopic, VL Photographic | read; any other object is refused by its name |
| plain (implicit, explicit, big endian), deflated, JPEG of 8 bits, JPEG 2000, JPEG-LS, RLE | read; any other transfer syntax is refused by its name |
| MONOCHROME1 and 2, PALETTE COLOR, RGB, YBR_FULL, YBR_FULL_422, YBR_RCT, YBR_ICT, in either planar configuration | converted to RGB |
| Bits Stored below Bits Allocated | mapped linearly from 0..2^Bits Stored - 1 to 0..255: here the file says where its white is |
| 16 bits of 16 | as in all files: mapped linearly, refused where they use 14 bits or fewer |
| more than 44,739,242 pixels of JPEG 2000 | refused: its decoder takes twice the memory of others |
| windows, lookup tables other than the palette, ICC profiles | not applied |
| JPEG whose own markers contradict the Photometric Interpretation | its markers win, as in other readers |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bcd_edge.errors import InputError
from bcd_edge.readers import dicom, segments
from bcd_edge.readers.codecs import jpeg
from bcd_edge.readers.dicom import Dataset
from bcd_edge.readers.metadata import Metadata
from bcd_edge.readers.pixels import MAX_PIXELS, Samples, UInt8Image, check_size, damaged, in_parts, rgb

SUFFIXES: Final = (".dcm", ".dicom")
COLOURS: Final = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_RCT": 3,
    "YBR_ICT": 3,
}
# Says that the components of a JPEG are stored as they are.
ADOBE_RGB: Final = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
# PS3.3, C.7.6.3.1.2: Y, Cb - 128 and Cr - 128 to RGB.
YBR_TO_RGB: Final = np.array(((1, 0, 1.402), (1, -0.344136, -0.714136), (1, 1.772, 0)), np.float32)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the frame's samples are stored; `stored` of the `allocated` bits are used."""

    height: int
    width: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    is_planar: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.samples

    @property
    def bytes(self) -> int:
        """Of a frame that is not compressed."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.height * self.width * samples * self.allocated // 8


def matches(data: bytes) -> bool:
    return data[128:132] == b"DICM"


def metadata(data: bytes) -> Metadata:
    """See `bcd_edge.readers.dicom.metadata`."""
    return dicom.metadata(data)


def decode(data: bytes) -> UInt8Image:
    """Decodes the only frame.

    Raises:
        InputError: it is damaged, another object than an image of visible light, or stored in a way that is not read; or the extra
            `dicom` is not installed.
    """
    dataset = dicom.read(data)
    _check_object(dataset)
    return pixels(dataset)


def pixels(dataset: Dataset) -> UInt8Image:
    """The only frame of a parsed file, uint8 RGB, H x W x 3.

    Raises:
        InputError: it is damaged, or stored in a way that is not read.
    """
    stored = layout(dataset)
    return _colours(dataset, stored, _samples(dataset, stored))


def _check_object(dataset: Dataset) -> None:
    if dataset.sop_class == dicom.WHOLE_SLIDE:
        raise InputError(
            "The file is a whole slide (DICOM VL Whole Slide Microscopy), which is read by bcd-edge predict with the extra slide, not as one picture."
        )
    if dataset.sop_class not in dicom.CLASSES:
        known = ", ".join(dicom.CLASSES.values())
        raise InputError(f"The DICOM file holds {dicom.name(dataset.sop_class)}, which is not read; send objects of the classes {known}.")
    frames = dataset.decimals(dicom.FRAMES)
    if frames and frames[0] > 1:
        raise InputError(f"The file holds {frames[0]:.0f} frames or pages; export the one to be classified as a file of its own.")
    if dataset.pixels is None:
        raise InputError("The DICOM file holds no pixels, only a header; send the image itself.")


def layout(dataset: Dataset) -> Layout:
    """Reads and checks the Image Pixel module.

    Raises:
        InputError: the layout is not read; the sentence names it.
    """
    height, width = dataset.number(0x00280010), dataset.number(0x00280011)
    check_size(width, height)
    samples, photometric = dataset.number(0x00280002, 1), dataset.code(0x00280004)
    if photometric not in COLOURS:
        raise _not_read(f"stores its colours as {photometric or 'nothing that it names'}")
    if samples != COLOURS[photometric]:
        raise damaged(f"it has {samples} samples per pixel and says {photometric}")
    allocated = dataset.number(0x00280100)
    stored = dataset.number(0x00280101, allocated)
    if allocated not in (8, 16) or dataset.number(0x00280103):
        raise _not_read(f"has {'signed samples' if dataset.number(0x00280103) else f'{allocated} bits per sample'}")
    if not 1 <= stored <= allocated or dataset.number(0x00280102, stored - 1) != stored - 1:
        raise _not_read(f"keeps {stored} bits at an unusual place in {allocated}")
    return Layout(height, width, samples, photometric, allocated, stored, dataset.number(0x00280006) == 1)


def _not_read(reason: str) -> InputError:
    return InputError(f"The DICOM file {reason}, which is not read; export the image as RGB with 8 bits per channel.")


def _samples(dataset: Dataset, layout: Layout) -> Samples:
    """All samples, H x W x C, in the photometric interpretation that remains after decompression; see `_colours`."""
    assert dataset.pixels is not None
    if dataset.pixels.end is None and dataset.syntax in (dicom.IMPLICIT, dicom.EXPLICIT, dicom.BIG_ENDIAN, dicom.DEFLATED):
        raise damaged("its pixels are in fragments and not compressed")
    if dataset.pixels.end is not None:
        if dataset.syntax not in (dicom.IMPLICIT, dicom.EXPLICIT, dicom.BIG_ENDIAN, dicom.DEFLATED):
            raise damaged("its pixels are not in fragments")
        return _plain(dataset, layout)
    stream = dicom.codestream(dataset)
    if dataset.syntax == dicom.RLE:
        return _rle(stream, layout)
    if dataset.syntax in dicom.JPEG:
        return _jpeg(stream, layout)
    return _jpeg_ls(stream, layout) if dataset.syntax in dicom.JPEG_LS else _jpeg_2000(stream, layout)


def _plain(dataset: Dataset, layout: Layout) -> Samples:
    assert dataset.pixels is not None
    is_halved = layout.photometric == "YBR_FULL_422"
    count = layout.height * layout.width * (2 if is_halved else layout.samples)
    wanted, have = count * layout.allocated // 8, (dataset.pixels.end or 0) - dataset.pixels.start
    if have != wanted + wanted % 2:
        raise damaged(f"its pixels have {have:,} bytes instead of {wanted:,}")
    if dataset.order == ">" and dataset.pixels.vr == b"OW" and layout.allocated == 8:  # bytes lie in words of 16 bits
        values: Samples = np.frombuffer(dataset.data, "<u2", have // 2, dataset.pixels.start).byteswap().view(np.uint8)[:count]
    else:
        kind = f"{dataset.order}u{layout.allocated // 8}"
        stored: Samples = np.frombuffer(dataset.data, kind, count, dataset.pixels.start)
        values = stored.astype(kind.replace(">", "="), copy=False)
    if is_halved:
        return _whole_chroma(values, layout)
    if layout.is_planar:
        return np.asarray(values.reshape(layout.samples, layout.height, layout.width).transpose(1, 2, 0))
    return np.asarray(values.reshape(layout.shape))


def _whole_chroma(values: Samples, layout: Layout) -> Samples:
    """Y1 Y2 Cb Cr of two pixels each as Y Cb Cr of every pixel (PS3.3, C.7.6.3.1.2)."""
    if layout.width % 2:
        raise damaged("its chroma is halved and its width is odd")
    pairs = values.reshape(-1, 4)
    ybr = np.empty((len(pairs), 2, 3), values.dtype)
    ybr[..., 0], ybr[..., 1:] = pairs[:, :2], pairs[:, np.newaxis, 2:]
    return ybr.reshape(layout.shape)


def _rle(stream: bytes, layout: Layout) -> Samples:
    """A segment of PackBits for each byte of each sample, the highest byte first (PS3.5, annex G)."""
    header = np.frombuffer(stream[:64].ljust(64, b"\0"), "<u4")
    size = layout.allocated // 8
    count, area = layout.samples * size, layout.height * layout.width
    starts = [int(start) for start in header[1 : 1 + count]]
    if header[0] != count or starts[:1] != [64] or starts != sorted(starts):
        raise damaged(f"its RLE has {header[0]} segments instead of {count}, or they overlap")
    planes = np.empty((area, layout.samples, size), np.uint8)
    for index, (start, end) in enumerate(zip(starts, [*starts[1:], len(stream)], strict=True)):
        unpacked = segments.packbits(stream[start:end], area)
        if len(unpacked) != area:
            raise damaged(f"a segment of its RLE holds {len(unpacked):,} bytes instead of {area:,}")
        planes[:, index // size, index % size] = np.frombuffer(unpacked, np.uint8)
    return np.asarray(planes.view(f">u{size}").astype(f"u{size}", copy=False).reshape(layout.shape))


def _jpeg(stream: bytes, layout: Layout) -> Samples:
    """Grey or RGB of 8 bits: libjpeg undoes the colour transform that the JPEG's markers or the Photometric Interpretation tell."""
    header = jpeg.read_header(stream)
    jpeg.check(header)
    if (header.height, header.width, len(header.components)) != layout.shape or layout.stored != 8:
        raise _other_size("JPEG", header.height, header.width, len(header.components))
    is_unmarked = header.adobe is None and stream[6:10] != b"JFIF"
    if is_unmarked and layout.photometric == "RGB":
        stream = stream[:2] + ADOBE_RGB + stream[2:]
    return jpeg.pixels(stream, "GRAY" if layout.samples == 1 else "RGB").reshape(layout.shape)


def _jpeg_ls(stream: bytes, layout: Layout) -> Samples:
    """The stored samples."""
    try:
        from jpeg_ls import decode_buffer
    except ImportError:
        raise dicom.not_installed() from None
    frame = next((body for marker, _, body in jpeg.markers(stream) if marker == 0xF7), b"").ljust(6, b"\0")
    size = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big"), frame[5]
    if size != layout.shape:  # from its header, before memory is allocated
        raise _other_size("JPEG-LS", *size)
    _check_end(stream)
    try:
        values, info = decode_buffer(stream)
    except RuntimeError as error:
        raise damaged(str(error)) from None
    if info["bits_per_sample"] != layout.stored:
        raise damaged(f"its JPEG-LS has {info['bits_per_sample']} bits per sample, and its header says {layout.stored}")
    samples = np.frombuffer(values, "<u2" if layout.stored > 8 else np.uint8)
    if layout.samples == 3 and info["interleave_mode"] == 0:
        samples = samples.reshape(3, layout.height, layout.width).transpose(1, 2, 0)
    return samples.reshape(layout.shape)


def _jpeg_2000(stream: bytes, layout: Layout) -> Samples:
    """The stored samples; OpenJPEG undoes the transform of YBR_RCT and YBR_ICT."""
    try:
        import openjpeg
    except ImportError:
        raise dicom.not_installed() from None
    try:
        header = openjpeg.get_parameters(stream)
        size = header["rows"], header["columns"], header["samples_per_pixel"]
        if size != layout.shape:
            raise _other_size("JPEG 2000", *size)
        if header["is_signed"] or header["precision"] != layout.stored:
            raise damaged(f"its JPEG 2000 has {header['precision']} bits per sample or a sign, and its header says {layout.stored}")
        if layout.height * layout.width > MAX_PIXELS // 2:  # OpenJPEG takes twice the memory of other decoders
            raise InputError(f"The JPEG 2000 has more than the {MAX_PIXELS // 2:,} pixels allowed; cut it into fields of view and classify those.")
        _check_end(stream)
        return np.asarray(openjpeg.decode(stream)).reshape(layout.shape)
    except InputError:
        raise
    except Exception as error:  # a few kinds for damaged input; none of it is our bug
        raise damaged(str(error) or type(error).__name__) from None


def _check_end(stream: bytes) -> None:
    if not stream.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise damaged("its compressed pixels have no end marker, so a part is missing")


def _other_size(kind: str, height: int, width: int, samples: int) -> InputError:
    return damaged(f"its {kind} has {width} x {height} pixels of {samples} samples, and its header says otherwise")


def _colours(dataset: Dataset, layout: Layout, samples: Samples) -> UInt8Image:
    """Samples to RGB by the photometric interpretation."""
    white = 2**layout.stored - 1
    if layout.stored < layout.allocated and int(samples.max()) > white:
        raise damaged(f"its samples use more than the {layout.stored} bits that it declares")
    if layout.photometric == "PALETTE COLOR":
        return _palette(dataset, samples)
    if layout.photometric == "MONOCHROME1":
        samples = np.asarray(white - samples, samples.dtype)
    image = rgb(samples, white=white if layout.stored < layout.allocated else None)
    is_transformed = dataset.syntax in dicom.JPEG or layout.photometric in ("YBR_RCT", "YBR_ICT")
    return image if layout.samples == 1 or layout.photometric == "RGB" or is_transformed else in_parts(_from_ybr, image)


def _from_ybr(ybr: Samples) -> npt.NDArray[np.float32]:
    """N x 3 of YBR_FULL to RGB."""
    centred = ybr.astype(np.float32) - np.array((0, 128, 128), np.float32)
    return np.asarray(np.rint((centred @ YBR_TO_RGB.T).clip(0, 255)), np.float32)


def _palette(dataset: Dataset, samples: Samples) -> UInt8Image:
    """The Palette Color Lookup Tables (PS3.3, C.7.9): values below the first mapped one get the first entry, those above the last."""
    tables = [_table(dataset, channel) for channel in range(3)]
    first, length = tables[0][0], len(tables[0][1])
    if any((start, len(table)) != (first, length) for start, table in tables):
        raise damaged("its palettes have different lengths")
    table = np.stack([values for _, values in tables], axis=1)
    index = (samples[..., 0].astype(np.int32) - first).clip(0, length - 1)
    return np.asarray(table[index], np.uint8)


def _table(dataset: Dataset, channel: int) -> tuple[int, npt.NDArray[Any]]:
    """The first mapped value and the entries of 8 bits of one channel: 0 red, 1 green, 2 blue."""
    descriptor = np.frombuffer(dataset.elements.get(0x00281101 + channel, b""), f"{dataset.order}u2")
    data = dataset.elements.get(0x00281201 + channel)
    if data is None:
        raise _not_read("has no palette, or one in segments")
    length, bits = (int(descriptor[0]) or 65536, int(descriptor[2])) if len(descriptor) == 3 else (0, 0)
    is_packed = bits == 8 and len(data) == length + length % 2
    if bits not in (8, 16) or not (is_packed or len(data) == 2 * length):
        raise damaged("its palette has the wrong length")
    if is_packed:
        return int(descriptor[1]), np.frombuffer(data, np.uint8, length)
    values = np.frombuffer(data, f"{dataset.order}u2", length)
    top = 65535 if bits == 16 else 255
    return int(descriptor[1]), np.asarray(np.rint(values.astype(np.float32) * (255 / top)).clip(0, 255), np.uint8)
