"""The written policy, row by row, and nothing but `InputError` for everything else."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from bcd_edge.bundle import Input
from bcd_edge.errors import InputError
from bcd_edge.readers import raster
from bcd_edge.synthetic import tissue

PICTURE = tissue(5, height=46, width=60, glands=1, scattered=20)
LOSSLESS = {"PNG": {}, "TIFF": {"compression": "tiff_lzw"}, "BMP": {}, "WEBP": {"lossless": True}}


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


FILES = {kind: encode(Image.fromarray(PICTURE), kind, **options) for kind, options in (LOSSLESS | {"JPEG": {"quality": 95}}).items()}

FILES["progressive JPEG"] = encode(Image.fromarray(PICTURE), "JPEG", quality=95, progressive=True)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_give_the_pixels_that_were_saved(kind: str) -> None:
    assert np.array_equal(raster.decode(FILES[kind]), PICTURE)


def test_jpeg_is_near_what_was_saved_and_rgb_not_bgr() -> None:
    decoded = raster.decode(FILES["JPEG"])
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    assert np.abs(decoded.astype(int) - PICTURE).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(PICTURE), kind, exif=exif)
    with Image.open(io.BytesIO(data)) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    assert np.array_equal(raster.decode(data), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation_of_sixteen_bits(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(PICTURE[..., 0].astype(np.uint16) * 257), kind, exif=exif)
    with Image.open(io.BytesIO(data)) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored)) // 257
    assert np.array_equal(raster.decode(data)[..., 0], expected)


def test_exif_orientation_of_a_jpeg_is_applied_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert raster.decode(encode(Image.fromarray(PICTURE), "JPEG", exif=exif)).shape == (60, 46, 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_over_their_whole_range(kind: str) -> None:
    deep = np.linspace(0, 65535, 600).reshape(20, 30).round().astype(np.uint16)
    decoded = raster.decode(encode(Image.fromarray(deep), kind))
    assert np.array_equal(decoded[..., 0], np.rint(deep / 257).astype(np.uint8))


def test_grey_palette_and_one_bit_become_rgb() -> None:
    grey = Image.fromarray(PICTURE).convert("L")
    for mode in ("L", "1", "P"):
        image = grey.convert(mode)
        assert np.array_equal(raster.decode(encode(image, "PNG")), np.asarray(image.convert("RGB"))), mode


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_shown_on_white(mode: str) -> None:
    image = Image.fromarray(PICTURE).convert(mode)
    image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 60).astype(np.uint8), (46, 1))))
    white = Image.new("RGBA", image.size, "white")
    expected = np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")).astype(int)
    decoded = raster.decode(encode(image, "PNG")).astype(int)
    assert np.abs(decoded - expected).max() <= 1
    assert (decoded[:, 0] == 255).all()


def test_cmyk_jpeg_becomes_rgb() -> None:
    decoded = raster.decode(encode(Image.fromarray(PICTURE).convert("CMYK"), "JPEG", quality=98))
    assert np.abs(decoded.astype(int) - PICTURE).mean() < 4


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "0 bytes"),
        (b"a letter, not a picture", "not an image"),
        (encode(Image.fromarray(PICTURE), "GIF"), "GIF is not read"),
        (encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "float32"),
        (encode(Image.fromarray(PICTURE), "WEBP", save_all=True, append_images=[Image.new("RGB", (60, 46))]), "2 frames"),
        (encode(Image.fromarray(PICTURE), "PNG", save_all=True, append_images=[Image.new("RGB", (60, 46))]), "2 frames"),
        (encode(Image.fromarray(PICTURE), "TIFF", save_all=True, append_images=[Image.new("RGB", (60, 46))]), "2 frames"),
    ],
)
def test_refused_with_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        raster.decode(data)
    assert str(caught.value).endswith(".")


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (10_000, 9_000), (2**31 - 1, 2**31 - 1)])
def test_a_huge_header_is_refused_before_memory_is_allocated(width: int, height: int, tmp_path: Path) -> None:
    file = tmp_path / "huge.png"
    file.write_bytes(png_header(width, height))
    script = f"""
import resource
from bcd_edge.readers import raster
from bcd_edge.errors import InputError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    raster.decode({str(file)!r})
except InputError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 100_000)
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pixels" in process.stdout
    assert process.stdout.endswith("True\n")
    assert process.stderr == ""


@given(kind=st.sampled_from(sorted(FILES)), share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=300)
def test_no_truncated_file_passes_for_a_picture(kind: str, share: float) -> None:
    cut = FILES[kind][: int(share * len(FILES[kind]))]
    try:
        decoded = raster.decode(cut)
    except InputError:
        return
    assert np.array_equal(decoded, raster.decode(FILES[kind])), f"{kind} cut to {len(cut)} of {len(FILES[kind])} bytes gave other pixels"


@given(
    kind=st.sampled_from(sorted(FILES)), changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=8)
)
@settings(max_examples=300)
def test_damage_raises_nothing_but_input_error(kind: str, changes: list[tuple[float, int]]) -> None:
    damaged = bytearray(FILES[kind])
    for share, flip in changes:
        damaged[int(share * len(damaged))] ^= flip
    try:
        assert raster.decode(bytes(damaged)).dtype == np.uint8
    except InputError as error:
        assert str(error).endswith(".")


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        raster.decode(data)


def test_damage_in_a_png_is_never_shown_as_a_picture() -> None:
    data = bytearray(FILES["PNG"])
    data[len(data) // 2] ^= 1
    with pytest.raises(InputError):
        raster.decode(bytes(data))


def test_a_jpeg_with_a_thumbnail_is_not_complete_because_the_thumbnail_is() -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 40 + "\xff\xd9"
    data = encode(Image.fromarray(PICTURE), "JPEG", exif=exif, comment=b"\xff\xd9 inside a comment")
    raster.decode(data)
    with pytest.raises(InputError):
        raster.decode(data[:-200])


def test_bytes_after_the_end_of_a_jpeg_are_ignored() -> None:
    assert np.array_equal(raster.decode(FILES["JPEG"] + b"camera trailer"), raster.decode(FILES["JPEG"]))


def test_paths_that_are_no_readable_file(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        raster.read(tmp_path / "no.png")
    assert str(raised.value) == f"{tmp_path / 'no.png'} does not exist; give the path of an image."
    for path, sentence in ((tmp_path / "no.png", "does not exist"), (tmp_path, "folder"), (Path("/dev/zero"), "device"), (Path("a\0b"), "a")):
        with pytest.raises(InputError, match=sentence):
            raster.decode(path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="drops root's right to read everything, so it needs root")
def test_a_file_without_permission(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    file.write_bytes(FILES["PNG"])
    file.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(InputError, match="permission"):
            raster.decode(file)
    finally:
        os.seteuid(0)


def test_fit_averages_areas_when_it_shrinks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    expected = image.reshape(20, 3, 30, 3, 3).mean(axis=(1, 3))
    assert np.abs(raster.resize(image, Input(20, 30)) - expected).max() <= 0.5 + 1e-6


@given(height=st.integers(1, 400), width=st.integers(1, 400), value=st.integers(0, 255))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_fit_of_any_size_keeps_a_flat_colour(height: int, width: int, value: int) -> None:
    resized = raster.resize(np.full((height, width, 3), value, np.uint8), Input(150, 140))
    assert resized.shape == (150, 140, 3)
    assert (resized == value).all()


def test_fit_sees_the_edges() -> None:
    image = np.zeros((300, 500, 3), np.uint8)
    image[:, -20:] = 255
    assert raster.resize(image, Input(150, 150))[:, -1].min() == 255


@pytest.mark.parametrize("kind", FILES)
def test_no_part_of_a_file_passes_for_the_whole(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    whole = encode(Image.fromarray(pixels), kind.split()[-1], **({"progressive": True} if "progressive" in kind else LOSSLESS.get(kind, {})))
    raster.decode(whole)
    for length in range(len(whole)):
        with pytest.raises(InputError):
            raster.decode(whole[:length])
