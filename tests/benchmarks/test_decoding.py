"""A part of the matrix and of the damage of `python -m benchmarks decoding`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

pytest.importorskip("imagecodecs")

from benchmarks import decoding, dicom_files, layouts
from benchmarks.layouts import Cell


def part() -> Iterator[Cell]:
    """Every seventeenth TIFF, which meets every value of every property, and all layouts of the other formats."""
    yield from itertools.islice(layouts.tiffs(compressions=("none", "lzw", "deflate"), orientations=range(1, 9, 5)), 0, None, 17)
    yield from layouts.jpegs_in_tiff()
    yield from layouts.refused_tiffs()
    yield from layouts.pngs()
    yield from itertools.islice(layouts.jpegs(), 0, None, 5)
    yield from layouts.others()
    yield from itertools.islice(dicom_files.cells(), 0, None, 5)


def test_no_layout_is_decoded_wrong() -> None:
    verdicts = [decoding.judge(cell) for cell in part()]
    assert len(verdicts) > 200
    assert [verdict for verdict in verdicts if verdict.kind == "wrong"] == []
    assert {verdict.kind for verdict in verdicts} == {"equal", "refused"}


def test_the_matrix_notices_a_wrong_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cell is equal because its picture is flat or symmetrical."""
    right = decoding.raster.decode
    cells = list(itertools.islice(layouts.tiffs(bits=(8,), compressions=("none",), orientations=range(1, 2)), 0, None, 7))
    for wrong in (lambda data: right(data)[::-1], lambda data: 255 - right(data), lambda data: right(data)[:, ::-1]):
        with monkeypatch.context() as changed:
            changed.setattr(decoding.raster, "decode", wrong)
            assert {decoding.judge(cell).kind for cell in cells} == {"wrong"}


@pytest.mark.parametrize("kind", ["JPEG", "TIFF lzw", "PNG with alpha", "WebP lossy", "DICOM JPEG", "DICOM RLE"])
def test_no_answer_from_damaged_pixels(kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(decoding, "FILES", 4)
    files = decoding.damaged_kinds(None)[kind]
    monkeypatch.setattr(decoding, "damaged_kinds", lambda images: {kind: files})
    (row,) = decoding.damage(None)
    assert row.ratio == "0 answered"
    assert capfd.readouterr().err == ""
