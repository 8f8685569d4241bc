"""Each codec: layouts that other decoders get wrong, metadata that must not stop a picture, damage, and the words of a refusal."""

from __future__ import annotations

import importlib.util
import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bcd_edge.errors import InputError
from bcd_edge.readers import raster, segments
from bcd_edge.readers.codecs import png
from bcd_edge.synthetic import tissue

tifffile = pytest.importorskip("tifffile")

PICTURE = tissue(5, height=46, width=60, glands=1, scattered=20)


def tiff(samples: npt.NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, metadata=None, **{"photometric": "rgb"} | options)
    return buffer.getvalue()


def saved(kind: str, picture: npt.NDArray[Any] = PICTURE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(whole: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    data = saved("PNG")
    return data[:33] + whole + data[33:]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"rowsperstrip": 7}])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_planar_tiff(order: str, layout: dict[str, Any], compression: str | None, depth: type[np.unsignedinteger[Any]]) -> None:
    samples = PICTURE if depth == np.uint8 else PICTURE.astype(np.uint16) * 257
    planes = np.ascontiguousarray(samples.transpose(2, 0, 1))
    data = tiff(planes, planarconfig="separate", byteorder=order, compression=compression, **layout)
    assert np.array_equal(raster.decode(data), PICTURE)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "raw"])
def test_compressions_that_lose_nothing(compression: str) -> None:
    assert np.array_equal(raster.decode(saved("TIFF", compression=compression)), PICTURE)


def test_lzw_with_the_predictor() -> None:
    assert np.array_equal(raster.decode(saved("TIFF", compression="tiff_lzw", tiffinfo={317: 2})), PICTURE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiles_are_put_together_before_they_are_turned(orientation: int) -> None:
    data = tiff(PICTURE, tile=(16, 16), extratags=[(274, "H", 1, orientation, False)])
    plain = tiff(PICTURE, extratags=[(274, "H", 1, orientation, False)])
    assert np.array_equal(raster.decode(data), raster.decode(plain))


@pytest.mark.parametrize("place", [2**31, 2**62, 2**63, 2**64 - 1])
def test_places_beyond_any_memory_are_damage(place: int) -> None:
    for data in (b"II+\0\x08\0\0\0" + struct.pack("<Q", place), b"II*\0" + struct.pack("<I", place & 0xFFFFFFFF)):
        with pytest.raises(InputError, match="damaged"):
            raster.decode(data + bytes(100))


def test_white_may_be_zero() -> None:
    grey = PICTURE[..., 0]
    assert np.array_equal(raster.decode(tiff(255 - grey, photometric="miniswhite"))[..., 0], grey)


def test_a_fourth_sample_hides_nothing_unless_it_is_declared_as_alpha() -> None:
    samples = np.dstack([PICTURE, np.zeros_like(PICTURE[..., 0])])
    assert np.array_equal(raster.decode(tiff(samples, extrasamples=["unspecified"])), PICTURE)
    assert (raster.decode(tiff(samples, extrasamples=["unassalpha"])) == 255).all()


def test_premultiplied_alpha_is_not_multiplied_again() -> None:
    alpha = np.full_like(PICTURE[..., :1], 128)
    samples = np.concatenate([PICTURE // 2, alpha], axis=2)
    expected = np.minimum(255, PICTURE // 2 + 127)
    assert np.abs(raster.decode(tiff(samples, extrasamples=["assocalpha"])).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 12, 14])
def test_few_bits_stored_in_sixteen_are_refused(kind: str, bits: int) -> None:
    grey = (PICTURE[..., 0].astype(np.uint16) << (bits - 8)) | 1
    with pytest.raises(InputError, match=f"lower {bits} bits"):
        raster.decode(saved(kind, grey))


def test_jpeg_in_tiff_has_the_colours_that_the_directory_names() -> None:
    image = Image.fromarray(PICTURE)
    for options in ({"quality": 95}, {"quality": 95, "tiffinfo": {278: 16}}):
        buffer = io.BytesIO()
        image.save(buffer, "TIFF", compression="jpeg", **options)
        with Image.open(io.BytesIO(buffer.getvalue())) as stored:
            expected = np.asarray(stored.convert("RGB")).astype(int)
        assert np.abs(raster.decode(buffer.getvalue()) - expected).max() <= 3


def test_a_reduced_copy_is_no_second_page() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(PICTURE, photometric="rgb")
        file.write(PICTURE[::4, ::4], photometric="rgb", subfiletype=1)
    assert np.array_equal(raster.decode(buffer.getvalue()), PICTURE)


def test_a_whole_slide_is_called_one() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(PICTURE, photometric="rgb", tile=(16, 16), description="Aperio Image Library v11.2.1", metadata=None)
        file.write(PICTURE[::4, ::4], photometric="rgb", metadata=None)
    with pytest.raises(InputError, match="whole slide"):
        raster.decode(buffer.getvalue())


@pytest.mark.parametrize(
    ("samples", "options", "words"),
    [
        (PICTURE.astype(np.float32), {}, "float32"),
        (PICTURE.astype(np.int16), {}, "signed"),
        (PICTURE.astype(np.uint32), {}, "32 bits"),
        (PICTURE, {"photometric": "cielab"}, "L\\*a\\*b\\*"),
    ],
)
def test_refused_for_its_true_reason(samples: npt.NDArray[Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        raster.decode(tiff(samples, **options))
    assert "copy" not in str(caught.value)


@pytest.mark.parametrize(
    ("scheme", "words"), [(50000, "Zstandard"), (33005, "JPEG 2000"), (34887, "LERC"), (4, "CCITT"), (6, "old-style JPEG"), (12345, "scheme 12345")]
)
def test_a_compression_that_is_not_read_is_named(scheme: int, words: str) -> None:
    data = bytearray(tiff(PICTURE))
    at = data.index(struct.pack("<HHI", 259, 3, 1)) + 8
    data[at : at + 2] = struct.pack("<H", scheme)
    with pytest.raises(InputError, match=words) as caught:
        raster.decode(bytes(data))
    assert "copy" not in str(caught.value)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"GIF89a", "GIF"),
        (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
        (b"\x30\x80\6\x09\x2a\x86\x48\x86\xf7\x0d\1\7\3", r"encrypted file \(CMS\)"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\3\4", "ZIP"),
    ],
)
def test_other_formats_are_named(head: bytes, words: str) -> None:
    with pytest.raises(InputError, match=f"{words} is not read"):
        raster.decode(head + bytes(200))


def heic(picture: npt.NDArray[Any], **options: Any) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(picture)).save(buffer, quality=95, **options)
    return buffer.getvalue()


def avif(picture: npt.NDArray[Any], **options: Any) -> bytes:
    pytest.importorskip("PIL._avif", reason="Pillow before 11.3 has none")
    return saved("AVIF", picture, quality=95, **options)


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_phones_formats_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = heic(PICTURE, exif=exif.tobytes()) if kind == "HEIC" else avif(PICTURE, exif=exif)
    expected = np.rot90(PICTURE, {1: 0, 6: -1, 8: 1}[orientation])
    image = raster.decode(data)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 5


def test_grey_heic_of_more_than_eight_bits() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    deep = PICTURE[..., 0].astype(np.uint16) * 257
    file = pillow_heif.HeifFile()
    file.add_frombytes("I;16", deep.shape[::-1], deep.tobytes())
    buffer = io.BytesIO()
    file.save(buffer, quality=95)
    assert np.abs(raster.decode(buffer.getvalue()).astype(int) - PICTURE[..., :1]).mean() < 5


def test_heic_without_its_plug_in_and_avif_without_its_decoder_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    files = heic(PICTURE), avif(PICTURE)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("pillow_heif", "PIL._avif") else find_spec(name))
    monkeypatch.setitem(sys.modules, "PIL.AvifImagePlugin", None)  # Pillow before 11.3 has none
    for data, words in zip(files, (r"HEIC .* install bcd-edge\[heic\]", "AVIF .* PNG or JPEG"), strict=True):
        with pytest.raises(InputError, match=words):
            raster.decode(data)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(body)) + body


@pytest.mark.parametrize(
    "stray",
    [
        segment(0xE2, b"ICC_PROFILE\0\7\3 no profile"),
        segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
        segment(0xFE, b"a comment"),
        segment(0xED, b"Photoshop 3.0") + bytes(16),
    ],
    ids=["profile", "EXIF", "comment", "wrong length"],
)
def test_metadata_cannot_stop_a_jpeg(stray: bytes) -> None:
    whole = saved("JPEG")
    assert np.array_equal(raster.decode(whole[:2] + stray + whole[2:]), raster.decode(whole))


def test_a_jpeg_with_a_hole_in_its_header_is_damaged() -> None:
    whole = saved("JPEG")
    tables = whole.index(b"\xff\xdb")
    for hole in (b"", bytes(200), whole[tables : tables + 4] + bytes(196)):
        with pytest.raises(InputError, match="damaged"):
            raster.decode(whole[:tables] + hole + whole[tables + 200 :])


def test_a_bmp_is_whole_whatever_length_its_header_gives() -> None:
    whole = saved("BMP")
    assert np.array_equal(raster.decode(whole[:2] + struct.pack("<I", 2**31) + whole[6:]), PICTURE)
    with pytest.raises(InputError, match="ends early"):
        raster.decode(whole[:-1])
    with pytest.raises(InputError, match="kind that is not read"):
        raster.decode(whole[:28] + struct.pack("<H", 2) + whole[30:])


@pytest.mark.parametrize(
    "whole",
    [
        chunk(b"iCCP", b"scanner\0\0" + zlib.compress(bytes(1_300_000))),
        chunk(b"eXIf", bytes.fromhex("0000110000010400")),
        chunk(b"tEXt", b"Comment\0damaged")[:-4] + bytes(4),
        chunk(b"zTXt", b"Raw profile type exif\0\0not compressed"),
        chunk(b"sBIT", b"\5\6\5"),
    ],
    ids=["large profile", "empty EXIF", "text with a wrong checksum", "damaged EXIF text", "significant bits"],
)
def test_metadata_cannot_stop_a_png(whole: bytes) -> None:
    assert np.array_equal(raster.decode(with_chunk(whole)), PICTURE)


@pytest.mark.parametrize("kind", [1, 3, 4])
def test_orientation_may_have_any_integer_type(kind: int) -> None:
    value = struct.pack({1: "<B3x", 3: "<H2x", 4: "<I"}[kind], 6)
    exif = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI", 274, kind, 1) + value + bytes(4)
    assert np.array_equal(raster.decode(with_chunk(chunk(b"eXIf", exif))), np.rot90(PICTURE, -1))
    assert raster.decode(saved("JPEG", exif=b"Exif\0\0" + exif)).shape == (60, 46, 3)


def test_orientation_in_xmp() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    assert np.array_equal(raster.decode(with_chunk(text)), np.rot90(PICTURE, -1))


def test_a_phones_jpeg_is_its_first_picture() -> None:
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, "MPO", save_all=True, append_images=[Image.fromarray(PICTURE[::-1])], quality=90)
    assert np.array_equal(raster.decode(buffer.getvalue()), raster.decode(saved("JPEG", quality=90)))


def test_cmyk_with_and_without_adobes_marker() -> None:
    ink = np.dstack([255 - PICTURE, np.zeros_like(PICTURE[..., 0])])
    buffer = io.BytesIO()
    Image.fromarray(ink, "CMYK").save(buffer, "JPEG", quality=98)
    data = buffer.getvalue()
    assert np.abs(raster.decode(data).astype(int) - PICTURE).mean() < 4
    at = data.index(b"\xff\xee")
    without = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    assert np.abs(255 - raster.decode(without).astype(int) - PICTURE).mean() > 20


def big(kind: str) -> bytes:
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 95},
        "progressive JPEG": {"quality": 95, "progressive": True},
        "LZW": {"compression": "tiff_lzw"},
        "deflate": {"compression": "tiff_deflate"},
        "packbits": {"compression": "packbits"},
        "WebP": {"lossless": True},
        "PNG": {},
    }
    formats = {"WebP": "WEBP", "PNG": "PNG", "JPEG": "JPEG", "progressive JPEG": "JPEG"}
    return saved(formats.get(kind, "TIFF"), tissue(3, height=230, width=350), **options[kind])


@pytest.mark.parametrize("kind", ["JPEG", "progressive JPEG", "LZW", "deflate", "packbits", "WebP", "PNG"])
@pytest.mark.parametrize("hole", ["zeros", "missing"])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_hole_is_damage(kind: str, hole: str, share: float) -> None:
    data = big(kind)
    at = int(len(data) * share)
    with pytest.raises(InputError, match="damaged"):
        raster.decode(data[:at] + bytes(2048 if hole == "zeros" else 0) + data[at + 2048 :])


def test_a_jpeg_that_was_cut_and_closed_is_damaged() -> None:
    data = big("JPEG")
    with pytest.raises(InputError, match="damaged"):
        raster.decode(data[: len(data) // 2] + b"\xff\xd9")


def test_a_progressive_jpeg_without_its_last_scans_is_damaged() -> None:
    data = big("progressive JPEG")
    scans = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    for at in scans[1:]:
        start = data.rfind(b"\xff\xc4", 0, at)  # with the table that the scan brought
        with pytest.raises(InputError, match="damaged"):
            raster.decode(data[:start] + b"\xff\xd9")


@given(data=st.binary(max_size=3000), seed=st.integers(0, 3))
@settings(max_examples=50)
def test_lzw_length_is_what_libtiff_unpacks(data: bytes, seed: int) -> None:
    samples = np.frombuffer(data * (1 + 5 * seed), np.uint8)
    if not len(samples):
        return
    packed = saved("TIFF", samples.reshape(1, -1), compression="tiff_lzw")
    with Image.open(io.BytesIO(packed)) as image:
        offset, count = image.tag_v2[273][0], image.tag_v2[279][0]
    part = packed[offset : offset + count]
    assert segments.lzw_length(part) == len(samples)
    assert segments.lzw(part, len(samples)) == samples.tobytes()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1", "I;16"])
def test_the_same_png_without_libspng_and_libdeflate(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = PICTURE[..., 0].astype(np.uint16) * 257
    buffer = io.BytesIO()
    (Image.fromarray(deep) if mode == "I;16" else Image.fromarray(PICTURE).convert(mode)).save(buffer, "PNG")
    data = buffer.getvalue()
    expected = raster.decode(data)
    damaged = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(0, len(data), 97)]
    outcomes = [outcome(raster.decode, file) for file in damaged]
    for name, value in (("MOST_INFLATED", 0), ("deflate", None), ("MOST_INFLATED", 2**22), ("spng", lambda: None)):
        monkeypatch.setattr(png, name, value)
        assert np.array_equal(raster.decode(data), expected)
        assert [outcome(raster.decode, file) for file in damaged] == outcomes


def outcome(decode: Callable[[bytes], npt.NDArray[np.uint8]], data: bytes) -> bytes | None:
    try:
        return decode(data).tobytes()
    except InputError:
        return None


@pytest.mark.parametrize("with_libspng", [True, False])
@pytest.mark.parametrize(
    ("place", "value"), [(26, 1), (27, 1), (28, 2), (25, 5), (24, 3)], ids=["compression", "filter", "interlace", "colour", "bits"]
)
def test_a_header_that_no_png_has_is_damage_without_a_word_of_libpng(
    with_libspng: bool, place: int, value: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if not with_libspng:
        monkeypatch.setattr(png, "spng", lambda: None)
    whole = saved("PNG")
    header = bytearray(whole[12:29])
    header[place - 12] = value
    with pytest.raises(InputError, match="damaged"):
        raster.decode(whole[:12] + bytes(header) + struct.pack(">I", zlib.crc32(header)) + whole[33:])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("with_libspng", [True, False])
@pytest.mark.parametrize("rows", [b"\5" + bytes(9), b"\0" + bytes(3)], ids=["unknown row filter", "rows missing"])
def test_damaged_rows_of_a_png(rows: bytes, with_libspng: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    if not with_libspng:
        monkeypatch.setattr(png, "spng", lambda: None)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 1, 8, 2, 0, 0, 0))
    with pytest.raises(InputError, match="damaged"):
        raster.decode(png.SIGNATURE + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("surplus", [0, 1, 5000])
def test_rows_beyond_the_picture_are_ignored_with_and_without_libdeflate(surplus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 1, 8, 2, 0, 0, 0))
    data = png.SIGNATURE + header + chunk(b"IDAT", zlib.compress(b"\0" + bytes(range(9)) + bytes(surplus))) + chunk(b"IEND", b"")
    for inflater in (png.deflate, None):
        monkeypatch.setattr(png, "deflate", inflater)
        assert raster.decode(data).tobytes() == bytes(range(9))


def test_libspng_is_found_here() -> None:
    pytest.importorskip("pyspng")
    assert sys.platform == "win32" or png.spng() is not None


def test_decoding_leaves_the_filters_of_warnings_alone(tmp_path: Path) -> None:
    files = [saved("PNG"), saved("JPEG"), saved("BMP"), saved("WEBP"), tiff(PICTURE)]
    for index, data in enumerate(files):
        (tmp_path / str(index)).write_bytes(data)
    script = f"""
import warnings
import numpy  # adds its own
before = list(warnings.filters)
from bcd_edge.readers import raster
for index in range({len(files)}):
    raster.decode({str(tmp_path)!r} + "/" + str(index))
assert warnings.filters == before
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_content_tells_an_image_without_a_suffix(tmp_path: Path) -> None:
    (tmp_path / "IMG0001").write_bytes(saved("JPEG"))
    (tmp_path / "notes").write_text("no image")
    assert raster.has_image(str(tmp_path / "IMG0001"))
    assert not raster.has_image(str(tmp_path / "notes"))
    os.mkfifo(tmp_path / "pipe")
    assert not raster.has_image(str(tmp_path / "pipe")), "a pipe is not waited for"
    assert raster.has_image("only/by/its/NAME.PNG")
    assert not raster.has_image("only/by/its/name.txt")
    with pytest.raises(OSError):
        raster.has_image(str(tmp_path / "missing"))


def test_every_codec_tells_its_files_by_their_first_bytes_and_no_text() -> None:
    heads = [data[: raster.HEAD_BYTES] for data in (saved("JPEG"), saved("PNG"), saved("TIFF"), saved("BMP"), saved("WEBP"))]
    assert all(map(raster.is_image, heads))
    assert not any(map(raster.is_image, (b"", b"BM", b"BMI of patients\n" * 20, b"RIFF....WAVE", b"II", b"\xff\xd8")))
