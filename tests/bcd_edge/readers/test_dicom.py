"""DICOM images: every layout that is read beside what was saved and a second decoder; everything else a sentence."""

from __future__ import annotations

import importlib.util
import io
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bcd_edge.errors import InputError
from bcd_edge.readers import raster
from bcd_edge.readers.metadata import Metadata
from bcd_edge.synthetic import tissue

pytest.importorskip("benchmarks.dicom_files")

import imagecodecs
import pydicom

from benchmarks.dicom_files import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, JPEG, compressed, whole

PICTURE = tissue(5, height=46, width=60, glands=1, scattered=20)
GREY = PICTURE[..., 0].copy()

PLAIN = pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED], ids=["implicit", "explicit", "big endian", "deflated"])

Make = Callable[..., bytes]


@pytest.fixture
def made(dicom: Make) -> Make:
    """A file with PICTURE."""
    return lambda samples=PICTURE, *stream, **how: dicom(samples, *stream, **how)


@PLAIN
@pytest.mark.parametrize("planar", [0, 1])
def test_plain_rgb(made: Make, syntax: str, planar: int) -> None:
    decoded = raster.decode(made(syntax=syntax, PlanarConfiguration=planar))
    assert np.array_equal(decoded, PICTURE)
    assert decoded.flags.c_contiguous


@PLAIN
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_plain_grey(made: Make, syntax: str, photometric: str) -> None:
    stored = 255 - GREY if photometric == "MONOCHROME1" else GREY
    decoded = raster.decode(made(stored, syntax=syntax, PhotometricInterpretation=photometric))
    assert np.array_equal(decoded, np.repeat(GREY[..., np.newaxis], 3, axis=2))


@PLAIN
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
def test_the_declared_bits_say_where_white_is(made: Make, syntax: str, bits: int) -> None:
    deep = np.linspace(0, 2**bits - 1, 600).reshape(20, 30).round().astype(np.uint16)
    decoded = raster.decode(made(deep, syntax=syntax, BitsStored=bits, HighBit=bits - 1))
    assert np.abs(decoded[..., 0] - deep * (255 / (2**bits - 1))).max() <= 0.501


def test_sixteen_bits_of_which_fourteen_are_used_are_refused_as_in_other_files(made: Make) -> None:
    with pytest.raises(InputError, match="lower 12 bits"):
        raster.decode(made(GREY.astype(np.uint16) * 16))
    with pytest.raises(InputError, match="more than the 10 bits"):
        raster.decode(made(GREY.astype(np.uint16) * 16, BitsStored=10, HighBit=9))


def ybr(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).convert("YCbCr"), np.uint8)


@PLAIN
def test_ybr_full(made: Make, syntax: str) -> None:
    decoded = raster.decode(made(ybr(PICTURE), syntax=syntax, PhotometricInterpretation="YBR_FULL"))
    assert np.abs(decoded.astype(int) - np.asarray(Image.fromarray(ybr(PICTURE), "YCbCr").convert("RGB"))).max() <= 1


@PLAIN
def test_ybr_full_422(made: Make, syntax: str) -> None:
    whole = ybr(PICTURE).copy()
    whole[:, 1::2, 1:] = whole[:, ::2, 1:]
    pairs = np.stack([whole[:, ::2, 0], whole[:, 1::2, 0], whole[:, ::2, 1], whole[:, ::2, 2]], axis=2)
    data = made(whole, pairs.tobytes(), syntax=syntax, PhotometricInterpretation="YBR_FULL_422")
    assert np.abs(raster.decode(data).astype(int) - np.asarray(Image.fromarray(whole, "YCbCr").convert("RGB"))).max() <= 1


@PLAIN
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("first", [0, 20])
def test_palette(made: Make, syntax: str, bits: int, first: int) -> None:
    palette = np.random.default_rng(0).integers(0, 256, (200, 3)).astype(f"{'>' if syntax == BIG_ENDIAN else '<'}u{bits // 8}")
    how: dict[str, Any] = {}
    for channel, colour in enumerate(("Red", "Green", "Blue")):
        how[f"{colour}PaletteColorLookupTableDescriptor"] = [200, first, bits]
        how[f"{colour}PaletteColorLookupTableData"] = (palette[:, channel] * (257 if bits == 16 else 1)).tobytes()
    decoded = raster.decode(made(GREY, syntax=syntax, PhotometricInterpretation="PALETTE COLOR", **how))
    assert np.array_equal(decoded, palette[(GREY.astype(int) - first).clip(0, 199)])


# The largest difference that a codec makes.
LOSSES = {"JPEG": 20, "near JPEG-LS": 2}


@pytest.mark.parametrize("kind", ["JPEG", "JPEG-LS", "near JPEG-LS", "JPEG 2000", "RLE"])
@pytest.mark.parametrize("fragments", [1, 3])
def test_compressed_rgb_and_grey(made: Make, kind: str, fragments: int) -> None:
    for samples in (PICTURE, GREY):
        syntax, stream = compressed(kind, samples)
        photometric = {"JPEG": "YBR_FULL_422", "JPEG 2000": "YBR_RCT"}.get(kind, "RGB") if samples.ndim == 3 else "MONOCHROME2"
        decoded = raster.decode(made(samples, stream, syntax=syntax, fragments=fragments, PhotometricInterpretation=photometric))
        assert np.abs(decoded.astype(int) - samples.reshape(*samples.shape[:2], -1)).max() <= LOSSES.get(kind, 0)


@pytest.mark.parametrize("kind", ["JPEG-LS", "JPEG 2000", "RLE"])
def test_compressed_sixteen_bits(made: Make, kind: str) -> None:
    deep = PICTURE.astype(np.uint16) * 257
    syntax, stream = compressed(kind, deep)
    assert np.array_equal(raster.decode(made(deep, stream, syntax=syntax)), PICTURE)


@pytest.mark.parametrize("kind", ["JPEG-LS", "RLE"])
def test_compressed_ybr_is_converted_after_decompression(made: Make, kind: str) -> None:
    syntax, stream = compressed(kind, ybr(PICTURE))
    decoded = raster.decode(made(PICTURE, stream, syntax=syntax, PhotometricInterpretation="YBR_FULL"))
    assert np.abs(decoded.astype(int) - PICTURE).max() <= 3


@pytest.mark.parametrize("colours", ["RGB", "YCBCR"])
@pytest.mark.parametrize("is_marked", [True, False])
def test_the_colours_of_a_jpeg_are_those_of_its_markers_or_of_the_header(made: Make, colours: str, is_marked: bool) -> None:
    stream = imagecodecs.jpeg8_encode(PICTURE, level=98, subsampling="444", colorspace="RGB", outcolorspace=colours)
    if not is_marked:
        length = int.from_bytes(stream[4:6], "big")
        stream = stream[:2] + stream[4 + length :]
    declared = "RGB" if colours == "RGB" else "YBR_FULL"
    assert np.abs(raster.decode(made(PICTURE, stream, syntax=JPEG, PhotometricInterpretation=declared)).astype(int) - PICTURE).max() <= 12
    if is_marked:
        other = "YBR_FULL" if colours == "RGB" else "RGB"
        assert np.abs(raster.decode(made(PICTURE, stream, syntax=JPEG, PhotometricInterpretation=other)).astype(int) - PICTURE).max() <= 12


@pytest.mark.parametrize("kind", ["plain", "JPEG", "JPEG-LS", "RLE", "palette"])
def test_the_same_pixels_as_dcmtk(made: Make, kind: str, tmp_path: Path) -> None:
    program = {"JPEG": "dcmj2pnm", "JPEG-LS": "dcml2pnm"}.get(kind, "dcm2pnm")
    if shutil.which(program) is None:
        pytest.skip(f"needs {program} of DCMTK: apt-get install dcmtk")
    if kind == "palette":
        grey = {"PhotometricInterpretation": "PALETTE COLOR"}
        for colour, power in (("Red", 1), ("Green", 2), ("Blue", 3)):
            grey[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]  # type: ignore[assignment]
            grey[f"{colour}PaletteColorLookupTableData"] = ((np.arange(256) / 255) ** power * 255).astype("<u2") * 257  # type: ignore[assignment]
            grey[f"{colour}PaletteColorLookupTableData"] = grey[f"{colour}PaletteColorLookupTableData"].tobytes()  # type: ignore[attr-defined]
        data = made(GREY, **grey)
    elif kind == "plain":
        data = made(PlanarConfiguration=1)
    else:
        syntax, stream = compressed(kind, PICTURE)
        data = made(PICTURE, stream, syntax=syntax, PhotometricInterpretation="YBR_FULL_422" if kind == "JPEG" else "RGB")
    (tmp_path / "in.dcm").write_bytes(data)
    subprocess.run([program, "+op", tmp_path / "in.dcm", tmp_path / "out.ppm"], check=True, capture_output=True)
    with Image.open(tmp_path / "out.ppm") as image:
        assert np.abs(raster.decode(data).astype(int) - np.asarray(image.convert("RGB"))).max() <= (3 if kind == "JPEG" else 0)


def test_metadata_is_patient_slide_study_and_scale_and_nothing_else(made: Make) -> None:
    data = made(PatientID="P 7 ", PatientName="Rao^Asha", ContainerIdentifier="S1", StudyInstanceUID="1.2.3", PixelSpacing=["0.00025", "0.00025"])
    assert raster.metadata(data) == Metadata(0.25, "P 7", "S1", "1.2.3")
    assert raster.metadata(made(PatientID="Ж1", SpecificCharacterSet="ISO_IR 144")).patient == "Ж1"
    assert raster.metadata(data[:200]) == Metadata()
    assert raster.metadata(b"\x89PNG") == Metadata()


@pytest.mark.parametrize(
    ("spacing", "at_sensor", "um_per_pixel"),
    [
        ([0.0005, 0.0005], None, 0.5),
        ([0.0005, 0.0005], [0.00345, 0.00345], 0.5),
        (None, [0.00345, 0.00345], None),
        ([0.00345, 0.00345], [0.00345, 0.00345], None),
        ([0.0005, 0.001], None, None),
        ([0, 0], None, None),
    ],
)
def test_the_scale_is_that_of_the_slide_and_not_of_the_camera(
    made: Make, spacing: list[float] | None, at_sensor: list[float] | None, um_per_pixel: float | None
) -> None:
    given = {"PixelSpacing": spacing, "ImagerPixelSpacing": at_sensor}
    assert raster.metadata(made(**{name: value for name, value in given.items() if value})).um_per_pixel == um_per_pixel


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "holds CT Image Storage, which is not read"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2"}, "holds Digital Mammography"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.1"}, "holds VL Endoscopic"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.6"}, "whole slide"),
        ({"NumberOfFrames": 10**6}, "1000000 frames"),
        ({"PixelRepresentation": 1}, "signed"),
        ({"BitsAllocated": 32}, "32 bits per sample"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_420"}, "YBR_PARTIAL_420"),
        ({"PhotometricInterpretation": "MONOCHROME2"}, "3 samples per pixel"),
        ({"Rows": 60_000, "Columns": 60_000}, "60000 x 60000 pixels"),
        ({"Rows": 0}, "60 x 0 pixels"),
        ({"Rows": 45}, "instead of"),
        ({"syntax": "1.2.840.10008.1.2.4.70"}, "JPEG Lossless.*not read"),
        ({"syntax": "1.2.3.4"}, "'1.2.3.4', which is not read"),
        ({"PixelData": None}, "no pixels"),
    ],
)
def test_refused_with_a_sentence(made: Make, how: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        raster.decode(made(**how))
    assert str(caught.value).endswith(".")


def test_a_header_of_a_million_frames_is_not_read(made: Make) -> None:
    frames = pydicom.Sequence([pydicom.Dataset() for _ in range(1000)])
    with pytest.raises(InputError, match="frames"):
        raster.decode(made(NumberOfFrames=10**6, PerFrameFunctionalGroupsSequence=frames))


@pytest.mark.parametrize("table", [b"\4\0\0\0", bytes(8), b"\xff\xff\xff\xff", b"\0"])
def test_a_broken_offset_table(made: Make, table: bytes) -> None:
    syntax, stream = compressed("JPEG", PICTURE)
    with pytest.raises(InputError, match="damaged"):
        raster.decode(made(PICTURE, stream, syntax=syntax, table=table, PhotometricInterpretation="YBR_FULL_422"))


@pytest.mark.parametrize("kind", ["plain", "deflated", "JPEG", "JPEG-LS", "JPEG 2000", "RLE"])
def test_no_part_of_a_file_passes_for_the_whole(kind: str) -> None:
    small = PICTURE[:9, :8].copy()
    data = whole(kind, small)
    raster.decode(data)
    for length in range(len(data)):
        with pytest.raises(InputError):
            raster.decode(data[:length])


@pytest.mark.parametrize("kind", ["plain", "deflated", "JPEG", "JPEG-LS", "JPEG 2000", "RLE"])
def test_damage_raises_nothing_but_input_error(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = whole(kind, PICTURE)
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        for place in random.integers(132, len(data), random.integers(1, 20)):
            damaged[place] ^= int(random.integers(1, 256))
        try:
            assert raster.decode(bytes(damaged)).dtype == np.uint8
        except InputError as error:
            assert str(error).endswith(".")
    assert capfd.readouterr() == ("", "")


def test_a_deflated_file_does_not_fill_the_memory(made: Make) -> None:
    whole = made(syntax=DEFLATED)
    meta = whole[: whole.index(b"1.2.840.10008.1.2.1.99") + 22]
    body = made(syntax=EXPLICIT)
    start = body.index(b"1.2.840.10008.1.2.1\0") + 20
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = deflater.compress(body[start:]) + b"".join(deflater.compress(bytes(2**20)) for _ in range(64)) + deflater.flush()
    with pytest.raises(InputError, match="longer than its picture"):
        raster.decode(meta + bomb)


def test_without_the_extra_a_sentence_names_it(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data, find_spec = made(), importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pydicom" else find_spec(name))
    with pytest.raises(InputError, match=r'pip install "bcd-edge\[dicom\]"'):
        raster.decode(data)
    assert raster.metadata(data) == Metadata()


@pytest.mark.parametrize(("kind", "package"), [("JPEG-LS", "jpeg_ls"), ("JPEG 2000", "openjpeg")])
def test_without_a_part_of_the_extra_a_sentence_names_it(kind: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r'pip install "bcd-edge\[dicom\]"'):
        raster.decode(whole(kind, PICTURE))


@pytest.mark.data
@pytest.mark.parametrize("name", ["sm_image.dcm", "sm_image_control.dcm", "sm_image_jpegls.dcm", "small_dicom.dcm"])
def test_whole_slides_are_known_as_such(name: str) -> None:
    file = Path(__file__).parents[4] / "shared" / "data" / "slides" / name
    if not file.exists():
        pytest.skip("needs ../shared/data")
    with pytest.raises(InputError, match="whole slide"):
        raster.decode(file)


def test_content_tells_a_dicom_file_without_a_suffix(made: Make, tmp_path: Path) -> None:
    (tmp_path / "IM000001").write_bytes(made())
    assert raster.has_image(str(tmp_path / "IM000001"))
    assert io.BytesIO(made()).read(132).endswith(b"DICM")
