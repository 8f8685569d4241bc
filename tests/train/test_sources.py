"""File names to labels and patients, the traps of each collection included."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from train.sources import Item, read


def written(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_breakhis_patient_is_the_number_without_the_slide_letters(tmp_path: Path) -> None:
    written(
        tmp_path,
        "SOB_B_A-14-22549AB-100-001.png",
        "SOB_B_F-14-22549CD-40-002.png",
        "SOB_M_PC-14-190EF-400-003.jpg",
        "SOB_M_LC-14-13412-200-004.jpg",
        "other.png",
        "SOB_B_A-14-22549AB-100-001.txt",
    )
    items = {item.name: item for item in read(f"breakhis={tmp_path}")}
    assert len(items) == 4
    assert {(item.patient, item.malignant, item.magnification) for item in items.values()} == {
        ("22549", False, "100X"),
        ("22549", False, "40X"),
        ("190EF", True, "400X"),
        ("13412", True, "200X"),
    }


def test_idc_class_and_patient(tmp_path: Path) -> None:
    written(tmp_path, "9175/0/9175_idx5_x801_y1701_class0.png", "9175/1/9175_idx5_x901_y701_class1.png", "9175/1/readme.png")
    assert {(item.patient, item.malignant) for item in read(f"idc={tmp_path}")} == {("9175", False), ("9175", True)}


def test_lc25000_groups_by_source_tile_and_needs_the_manifest(tmp_path: Path) -> None:
    written(tmp_path, "lung_n/a.jpg", "colon_aca/b.jpg", "colon_aca/unlisted.jpg")
    with pytest.raises(click.UsageError, match=r"manifest\.csv"):
        read(f"lc25000={tmp_path}")
    (tmp_path / "manifest.csv").write_text("file,label,source_tile\nlung_n/a.jpg,lung_n,lung_n-1\ncolon_aca/b.jpg,colon_aca,colon_aca-7\n")
    assert {(item.group, item.malignant) for item in read(f"lc25000={tmp_path}")} == {("lc25000/lung_n-1", False), ("lc25000/colon_aca-7", True)}


@pytest.mark.parametrize(
    ("specification", "sentence"), [("images.zip", "KIND=PATH"), ("cats=.", "KIND=PATH"), ("idc=/none", "does not exist"), ("idc=.", "no file")]
)
def test_what_cannot_be_read_is_said(specification: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.UsageError, match=sentence):
        read(specification)


def test_a_broken_archive_is_said(tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(b"PK nothing")
    with pytest.raises(click.UsageError, match=r"images\.zip"):
        read(f"breakhis={tmp_path / 'images.zip'}")


def test_an_item_knows_its_content() -> None:
    assert Item("idc", "x", b"", True, "1").sha256.startswith("e3b0c442")
