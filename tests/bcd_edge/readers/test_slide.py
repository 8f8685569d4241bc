"""Slides as scanners write them, beside the pixels that were drawn on them, and files that are no slides."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate

from bcd_edge.errors import InputError
from bcd_edge.readers import raster, slide
from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.synthetic import tissue
from benchmarks.slide_files import Drawn, texture, write_dicom, write_ome, write_svs

DRAWN = Drawn(2048, 1024, ((0.0, 0.0, 0.5, 1.0),), downsamples=(1, 4))
REAL = Path(__file__).parents[4] / "shared" / "data" / "slides"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("slides")
    return {"svs": write_svs(folder / "a.svs", DRAWN), "ome": write_ome(folder / "a.ome.tif", DRAWN)}


def difference(first: UInt8Image, other: UInt8Image) -> float:
    """Mean difference of brightness: colour is stored with half of the resolution."""
    return float(np.abs(first.mean(axis=2) - other.mean(axis=2)).mean())


@pytest.mark.parametrize("kind", ["svs", "ome"])
def test_levels_pixel_size_and_regions(files: dict[str, Path], kind: str) -> None:
    with slide.open(files[kind]) as opened:
        assert (opened.width, opened.height, opened.um_per_pixel) == (2048, 1024, 0.25)
        assert [(level.width, level.height, level.downsample) for level in opened.levels] == [(2048, 1024, 1.0), (512, 256, 4.0)]
        assert opened.vendor == {"svs": "aperio", "ome": "ome-tiff"}[kind]
        region = opened.read(0, 100, 50, 300, 200)
        small = opened.read(1, 400, 400, 50, 40)
    assert region.shape == (200, 300, 3)
    assert difference(region, texture()[50:250, 100:400]) < 0.5 * difference(region, texture()[51:251, 101:401])
    reduced = np.asarray(cv2.resize(texture(), (256, 256), interpolation=cv2.INTER_AREA), np.uint8)
    assert difference(small, reduced[100:140, 100:150]) < 0.6 * difference(small, reduced[101:141, 101:151])


@pytest.mark.parametrize("kind", ["svs", "ome"])
def test_outside_the_slide_is_white(files: dict[str, Path], kind: str) -> None:
    with slide.open(files[kind]) as opened:
        corner = opened.read(0, 2000, 1000, 100, 100)
        far = opened.read(0, 9000, 0, 8, 8)
    assert (corner[40:] == 255).all()
    assert (far == 255).all()
    assert (corner[:20, :40] < 255).any()


@pytest.mark.parametrize("kind", ["svs", "ome"])
def test_a_thumbnail_shows_all_of_it(files: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide, "BLOCK", 100)  # several blocks, as a large slide has
    with slide.open(files[kind]) as opened:
        picture, scale = opened.thumbnail(300)
    assert scale == 8.0
    assert picture.shape == (128, 256, 3)
    expected = np.asarray(cv2.resize(texture(), (128, 128), interpolation=cv2.INTER_AREA), np.uint8)
    assert difference(picture[:, :128], expected) < 0.3 * difference(picture[:, :128], np.roll(expected, 1, axis=1))
    assert (picture[:, 130:] > 230).all()


@pytest.mark.parametrize(("downsample", "level"), [(0.5, 0), (1.0, 0), (3.9, 0), (4.0, 1), (100.0, 1)])
def test_the_level_is_the_coarsest_that_is_fine_enough(files: dict[str, Path], downsample: float, level: int) -> None:
    with slide.open(files["svs"]) as opened:
        assert opened.level_for(downsample) == level


@pytest.mark.parametrize(
    ("um", "properties", "known", "doubt"),
    [
        (None, {}, None, ""),
        (0.2501, {}, 0.2501, ""),
        (352.8, {}, None, "no scanner has"),
        (0.0025, {"AppMag": "20"}, None, "no scanner has"),
        (0.08, {"AppMag": "20"}, None, "both cannot be right"),
    ],
)
def test_a_pixel_size_that_cannot_be_is_not_believed(
    tmp_path: Path, um: float | None, properties: dict[str, str], known: float | None, doubt: str
) -> None:
    path = write_svs(tmp_path / "a.svs", Drawn(512, 512, downsamples=(1,)), um, **properties)
    with slide.open(path) as opened:
        assert (opened.um_per_pixel, doubt in opened.doubt) == (known, True)
        if known is None:
            with pytest.raises(InputError, match=r"pixel of the slide a.svs is not known .* --um-per-pixel"):
                slide.um_per_pixel(opened, None)
        assert slide.um_per_pixel(opened, 0.5) == (known or 0.5)


def test_pixels_must_be_square() -> None:
    assert slide.believed(0.25, 0.26)[0] == pytest.approx(0.255, abs=0.001)
    assert "not square" in slide.believed(0.25, 0.5)[1]


def test_slides_are_told_from_pictures(files: dict[str, Path], tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(cv2.imencode(".png", tissue(1))[1].tobytes())
    tiff = tmp_path / "a.tif"
    tiff.write_bytes(cv2.imencode(".tif", tissue(1))[1].tobytes())
    renamed = tmp_path / "slide.tif"
    shutil.copy(files["svs"], renamed)
    assert [slide.recognises(path) for path in (picture, tiff, tmp_path / "none.svs", tmp_path)] == [False] * 4
    assert slide.recognises(files["svs"])
    assert slide.recognises(renamed)
    with pytest.raises(InputError, match=r"whole slide \(Aperio"):
        raster.decode(renamed)


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def test_a_slide_that_was_cut_says_so(files: dict[str, Path], tmp_path: Path) -> None:
    for kind, share in (("svs", 0.98), ("svs", 0.5), ("ome", 0.5), ("svs", 0.0)):
        path = tmp_path / files[kind].name
        shutil.copy(files[kind], path)
        cut(path, share)
        with pytest.raises(InputError, match=r"copy it again"), slide.open(path) as opened:
            opened.thumbnail(100)


def test_a_damaged_tile_says_so(files: dict[str, Path], tmp_path: Path) -> None:
    for kind in ("svs", "ome"):
        content = bytearray(files[kind].read_bytes())
        at = content.index(b"\xff\xd8\xff", len(content) // 8)
        content[at : at + 700] = bytes(700)
        path = tmp_path / files[kind].name
        path.write_bytes(content)
        with slide.open(path) as opened, pytest.raises(InputError, match=rf"slide {path.name} is damaged or was cut .* copy it again"):
            opened.read(0, 0, 0, 2048, 1024)


def write_planes(path: Path) -> None:
    import tifffile

    tifffile.imwrite(path, np.zeros((3, 512, 512), np.uint16), ome=True, tile=(256, 256), metadata={"axes": "CYX"})


def write_strips(path: Path) -> None:
    import tifffile

    tifffile.imwrite(path, np.zeros((512, 512, 3), np.uint8), ome=True, photometric="rgb", metadata={"axes": "YXS"})


@pytest.mark.parametrize(
    ("name", "write", "sentence"),
    [
        ("a.mrxs", lambda path: path.write_bytes(b"\xff\xd8\xff\xe0 a preview"), r"lacks its folder a with the pixels; copy the folder"),
        ("a.svs", lambda path: path.write_bytes(b"text"), r"no level of tissue that can be read"),
        (
            "a.svs",
            lambda path: cv2.imwrite(str(path.with_suffix(".tif")), tissue(1)) and path.with_suffix(".tif").rename(path),
            r"only its label or macro",
        ),
        ("a.ome.tif", write_planes, r"holds .*YX of uint16, where one plane of 8-bit RGB is read"),
        ("a.ome.tif", write_strips, r"is not tiled"),
        ("a.bin", lambda path: path.write_bytes(b"\0" * 300), r"not a slide in a known format"),
    ],
)
def test_what_cannot_be_read_has_a_sentence(tmp_path: Path, name: str, write: Any, sentence: str) -> None:
    write(tmp_path / name)
    with pytest.raises(InputError, match=sentence):
        slide.open(tmp_path / name)


def test_a_missing_file_has_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.svs does not exist, or is no file; give the path of a slide"):
        slide.open(tmp_path / "none.svs")


def without(path: Path, keyword: str) -> Path:
    """A DICOM file with an element less."""
    dataset = pydicom.dcmread(path)
    delattr(dataset, keyword)
    dataset.save_as(path)
    return path


def test_dicom_that_openslide_refuses_is_read_nevertheless(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "dicom", DRAWN)
    with slide.open(path) as opened:
        expected = opened.read(0, 900, 100, 400, 300)
    for kept in (tmp_path / "dicom").glob("level1*"):
        kept.unlink()
    with slide.open(without(path, "ImageType")) as opened:
        assert (opened.width, opened.height, opened.um_per_pixel, len(opened.levels)) == (2048, 1024, 0.25, 1)
        assert difference(opened.read(0, 900, 100, 400, 300), expected) < 1
        assert (opened.read(0, 2040, 1020, 20, 20)[4:] == 255).all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda dataset: setattr(dataset, "NumberOfFrames", 10**6), "declares 1,000,000 frames and has room for 32"),
        (lambda dataset: setattr(dataset, "PixelData", encapsulate([b"\xff\xd8\xff\xd9"])), "declares 32 frames and holds 1"),
        (lambda dataset: delattr(dataset, "TotalPixelMatrixRows"), "damaged or was cut"),
        (lambda dataset: delattr(dataset, "PixelData"), "holds no pixels"),
    ],
)
def test_broken_dicom_slides_have_a_sentence(tmp_path: Path, change: Any, sentence: str) -> None:
    path = without(write_dicom(tmp_path / "dicom", DRAWN), "ImageType")
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    with pytest.raises(InputError, match=sentence):
        slide.open(path)


@pytest.mark.data
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
def test_the_real_slides() -> None:
    with slide.open(REAL / "CMU-1-Small-Region.svs") as opened:
        assert (opened.width, opened.height, opened.um_per_pixel, opened.vendor) == (2220, 2967, 0.499, "aperio")
        assert opened.thumbnail(100)[0].shape == (99, 74, 3)
    with slide.open(REAL / "sm_image.dcm") as opened, slide.open(REAL / "sm_image_jpegls.dcm") as other:
        assert opened.um_per_pixel == other.um_per_pixel == pytest.approx(0.499)
        assert np.array_equal(opened.read(0, 0, 0, 50, 50), other.read(0, 0, 0, 50, 50))
