"""DICOM slides in one file that OpenSlide does not open, beside the pixels they were made of."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcd_edge.errors import InputError
from bcd_edge.readers import slide
from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.synthetic import tissue

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("openslide")
jpeg_ls = pytest.importorskip("jpeg_ls")

from bcd_edge.readers.dicom_slide import DicomSlide  # noqa: E402

EXPLICIT, JPEG_LS = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80"
WIDTH, HEIGHT, SIDE = 150, 90, 40
ACROSS, DOWN = 4, 3
REAL = Path(__file__).parents[4] / "shared" / "data" / "slides"


@pytest.fixture(scope="module")
def drawn() -> UInt8Image:
    return tissue(4, height=HEIGHT, width=WIDTH)


@pytest.fixture
def make(tmp_path: Path, dicom: Callable[..., bytes], drawn: UInt8Image) -> Callable[..., Path]:
    """Writes a slide of 4 x 3 frames in an order of (row, column), with other attributes, by keyword."""

    def write(order: list[tuple[int, int]] | None = None, *, syntax: str = JPEG_LS, **other: Any) -> Path:
        order = [(row, column) for row in range(DOWN) for column in range(ACROSS)] if order is None else order
        padded = np.zeros((DOWN * SIDE, ACROSS * SIDE, 3), np.uint8)
        padded[:HEIGHT, :WIDTH] = drawn
        frames = [np.ascontiguousarray(padded[SIDE * row : SIDE * row + SIDE, SIDE * column : SIDE * column + SIDE]) for row, column in order]
        usual = {
            **{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.6", "NumberOfFrames": len(frames), "Modality": "SM"},
            **{"TotalPixelMatrixColumns": WIDTH, "TotalPixelMatrixRows": HEIGHT, "ImagedVolumeWidth": WIDTH * 0.0005},
            **{"DimensionOrganizationType": "TILED_FULL", "PixelData": None},
        }
        dataset = pydicom.dcmread(io.BytesIO(dicom(frames[0], syntax=EXPLICIT, **usual | other)))
        if syntax == EXPLICIT:
            dataset.PixelData = b"".join(frame.tobytes() for frame in frames)
        else:
            dataset.PixelData = pydicom.encaps.encapsulate([bytes(jpeg_ls.encode_array(frame)) for frame in frames], has_bot=False)
            dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(tmp_path / "slide.dcm", enforce_file_format=True)
        return tmp_path / "slide.dcm"

    return write


@pytest.mark.parametrize("syntax", [EXPLICIT, JPEG_LS])
def test_frames_lie_where_they_belong(make: Callable[..., Path], drawn: UInt8Image, syntax: str) -> None:
    with slide.open(make(syntax=syntax)) as opened:
        assert isinstance(opened, DicomSlide)
        assert (opened.width, opened.height, opened.um_per_pixel) == (WIDTH, HEIGHT, pytest.approx(0.5))
        assert np.array_equal(opened.read(0, 0, 0, WIDTH, HEIGHT), drawn)
        assert np.array_equal(opened.read(0, 35, 22, 60, 50), drawn[22:72, 35:95])
        beyond = opened.read(0, 300, -80, 10, 10)
    assert (beyond == 255).all()


def test_positions_of_frames_count_more_than_their_order_and_missing_ones_are_white(make: Callable[..., Path], drawn: UInt8Image) -> None:
    order = [(2, 3), (0, 1), (1, 0)]
    groups = []
    for row, column in order:
        position, group = pydicom.Dataset(), pydicom.Dataset()
        position.RowPositionInTotalImagePixelMatrix, position.ColumnPositionInTotalImagePixelMatrix = 1 + SIDE * row, 1 + SIDE * column
        group.PlanePositionSlideSequence = [position]
        groups.append(group)
    with slide.open(make(order, PerFrameFunctionalGroupsSequence=groups, DimensionOrganizationType="TILED_SPARSE")) as opened:
        assert np.array_equal(opened.read(0, 40, 0, 40, 40), drawn[:40, 40:80])
        assert np.array_equal(opened.read(0, 120, 80, 30, 10), drawn[80:, 120:])
        assert (opened.read(0, 0, 0, 40, 40) == 255).all()


@pytest.mark.parametrize("by_columns", [False, True])
def test_an_order_that_is_not_declared_is_the_one_whose_edges_continue(make: Callable[..., Path], drawn: UInt8Image, by_columns: bool) -> None:
    order = sorted(((row, column) for row in range(DOWN) for column in range(ACROSS)), key=lambda place: place[::-1] if by_columns else place)
    with slide.open(make(order, DimensionOrganizationType=None)) as opened:
        assert np.array_equal(opened.read(0, 0, 0, WIDTH, HEIGHT), drawn)


def test_an_order_that_nothing_tells_is_refused(make: Callable[..., Path]) -> None:
    shuffled = [(0, 0), (2, 3), (1, 1), (0, 2), (2, 0), (1, 3), (0, 1), (2, 2), (1, 0), (0, 3), (2, 1), (1, 2)]
    with pytest.raises(InputError, match="does not tell where its frames lie"):
        slide.open(make(shuffled, DimensionOrganizationType=None))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"NumberOfFrames": 13}, "declares 13 frames and has room for 12"),
        ({"NumberOfFrames": 1_000_000}, "declares 1,000,000 frames and has room for 12"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]}, "only the label or overview"),
        ({"TotalPixelMatrixColumns": 100, "TotalPixelMatrixRows": 100}, "declares 12 frames and has room for 9"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(make: Callable[..., Path], other: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        slide.open(make(**other))


@pytest.mark.parametrize("syntax", [EXPLICIT, JPEG_LS])
def test_a_cut_file_is_refused(make: Callable[..., Path], syntax: str) -> None:
    path = make(syntax=syntax)
    whole = path.read_bytes()
    for length in range(len(whole) // 3, len(whole) - 16, len(whole) // 9):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            slide.open(path)


@pytest.mark.data
@pytest.mark.skipif(not REAL.is_dir(), reason="no real slides beside the checkout")
@pytest.mark.parametrize(("name", "size"), [("small_dicom.dcm", (3236, 2638)), ("sm_image_jpegls.dcm", (50, 50))])
def test_real_slides_that_openslide_does_not_open(name: str, size: tuple[int, int]) -> None:
    with slide.open(REAL / name) as opened:
        assert isinstance(opened, DicomSlide)
        assert (opened.width, opened.height) == size
        picture = opened.read(0, 0, 0, *size).astype(np.int16)
    frame = 500 if size[0] > 50 else 10
    steps = np.abs(np.diff(picture, axis=1)).mean(axis=(0, 2))
    assert steps[frame - 1 :: frame].mean() < 2 * steps.mean(), "frames do not continue each other"
