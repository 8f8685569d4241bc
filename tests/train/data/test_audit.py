"""What crosses a split is found whatever the files are called, and what does not cross raises no alarm."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bcd_edge.errors import OutputError
from bcd_edge.synthetic import tissue
from train.data.audit import Seen, audit, look, same_pixels
from train.data.sources import Item, read
from train.data.split import Split, by_patient

BREAKHIS = Path(__file__).parents[4] / "shared" / "data" / "breakhis" / "images.zip"


def picture(seed: int, suffix: str = ".png", **how: int) -> bytes:
    return cv2.imencode(suffix, tissue(seed, **({"height": 24, "width": 32, "glands": 0, "scattered": 3} | how)))[1].tobytes()


def patients(folder: Path, count: int = 20, images: int = 2) -> Path:
    """Patients P0, P1, ... with `images` pictures each; the even ones are benign."""
    for patient in range(count):
        for index in range(images):
            put(folder, patient, f"{index}.png", picture(100 * patient + index))
    return folder


def put(folder: Path, patient: int, name: str, data: bytes) -> None:
    file = folder / ("malignant" if patient % 2 else "benign") / f"P{patient}" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def audited(
    *specifications: Path | str, split: str = "patient", split_file: Path | None = None, labels: tuple[str, ...] = ()
) -> tuple[bool, str, dict[str, Any]]:
    text, path = io.StringIO(), Path(str(specifications[0]).partition("=")[2] or specifications[0]).parent / "findings.json"
    console = Console(file=text, width=80)
    fine = audit(list(map(str, specifications)), seed=0, split=split, split_file=split_file, console=console, json_path=path, labels=labels)
    findings = json.loads(path.read_text())
    assert findings["clean"] == fine
    assert max(map(len, text.getvalue().splitlines())) <= 80
    return fine, text.getvalue(), findings


def two_in(folder: Path, *parts: str) -> list[int]:
    """A patient of each part, of one class, under the split of seed 0."""
    placed = by_patient(read(f"folder={folder}"), 0)
    return [next(patient for patient in range(0, 20, 2) if placed[f"folder/P{patient}"] == part) for part in parts]


def test_a_clean_collection_is_clean(tmp_path: Path) -> None:
    fine, output, findings = audited(patients(tmp_path / "tree"))
    assert fine
    assert output.endswith("Nothing crosses: no image and no patient is on two sides of the split by \npatient, seed 0.\n")
    counts = findings["sources"]["folder"]
    assert counts["images"] == 40
    assert counts["patients"] == 20
    assert counts["classes"] == {"benign": {"images": 20, "patients": 10}, "malignant": {"images": 20, "patients": 10}}
    assert counts["sizes"] == {"32 x 24": {"benign": 20, "malignant": 20}}
    assert counts["unreadable"] == counts["duplicates"] == counts["contradictory"] == counts["patients_with_both_classes"] == []
    assert sum(part["benign"] + part["malignant"] for part in findings["split"]["parts"]["folder"].values()) == 40


def test_images_that_say_of_no_patient_are_no_all_clear(tmp_path: Path) -> None:
    for patient in range(20):
        file = tmp_path / f"case{patient}" / ("malignant" if patient % 2 else "benign") / f"case{patient}.png"
        file.parent.mkdir(parents=True)
        file.write_bytes(picture(patient))
    _, output, findings = audited(tmp_path)
    assert findings["strangers"] == 20
    assert "Nothing crosses" not in output
    assert "Whether a patient crosses cannot be told: 20 images say of no patient" in " ".join(output.split())


def test_a_picture_of_two_patients_on_two_sides_is_found_though_the_files_differ(tmp_path: Path) -> None:
    tree = patients(tmp_path / "tree")
    for patient, suffix in zip(two_in(tree, "train", "test"), (".png", ".bmp"), strict=True):
        put(tree, patient, f"copy{suffix}", picture(7, suffix))
    fine, output, findings = audited(tree)
    assert not fine
    assert "LEAKAGE: 1 image on two sides" in output
    assert [duplicate["parts"] for duplicate in findings["split"]["duplicates"]] == [["train", "test"]]
    assert len(findings["sources"]["folder"]["duplicates_across_patients"]) == 1


def test_the_same_picture_on_one_side_or_of_one_patient_is_no_leak(tmp_path: Path) -> None:
    tree = patients(tmp_path / "tree")
    (first,) = two_in(tree, "test")
    second = next(p for p in range(0, 20, 2) if p != first and by_patient(read(f"folder={tree}"), 0)[f"folder/P{p}"] == "test")
    put(tree, first, "again.bmp", picture(100 * first, ".bmp"))
    put(tree, second, "other.bmp", picture(100 * first + 1, ".bmp"))
    before = by_patient(read(f"folder={tree}"), 0)
    assert before[f"folder/P{first}"] == before[f"folder/P{second}"] == "test"
    fine, output, findings = audited(tree)
    assert fine
    assert "1 inside one patient, 1 across patients" in output
    assert findings["split"]["duplicates"] == []


def test_the_same_pixels_with_both_labels_contradict(tmp_path: Path) -> None:
    tree = patients(tmp_path / "tree")
    put(tree, 1, "as-benign.bmp", picture(0, ".bmp"))
    _, output, findings = audited(tree)
    assert findings["sources"]["folder"]["contradictory"] == [["folder benign/P0/0.png", "folder malignant/P1/as-benign.bmp"]]
    assert "contradictory" in output


def test_what_cannot_be_read_is_listed_up_to_ten_and_counted(tmp_path: Path) -> None:
    tree = patients(tmp_path / "tree")
    for index in range(13):
        put(tree, index, "damaged.png", b"no image")
    fine, output, findings = audited(tree)
    assert fine
    assert len(findings["sources"]["folder"]["unreadable"]) == 13
    assert output.count("damaged.png: This is not") == 10
    assert "and 3 more" in output


def test_both_classes_and_what_was_left_out_are_said(tmp_path: Path) -> None:
    tree = patients(tmp_path / "tree")
    for name in ("malignant/P0/x.png", "unknown/y.png", "unknown/z.png"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(picture(9001))
    _, output, findings = audited(tree, labels=("unknown=skip",))
    assert findings["sources"]["folder"]["patients_with_both_classes"] == ["P0"]
    assert findings["sources"]["folder"]["left_out"] == 2
    assert "2 images whose name, folder or row gives no label" in output


def test_images_in_house_keeping_folders_are_left_alone_and_counted(tmp_path: Path) -> None:
    tree = patients(tmp_path / "tree")
    for patient in two_in(tree, "train", "test"):  # as a thumbnail of a training picture among the test patients'
        put(tree, patient, "@eaDir/0.png/thumbnail.png", picture(0))
        put(tree, patient, ".cache/0.png", picture(0))
    clean, output, findings = audited(tree)
    assert clean
    assert findings["sources"]["folder"]["images"] == 40
    assert findings["sources"]["folder"]["ignored"] == {"@eaDir": 2, ".cache": 2}
    assert "2 images in .cache, 2 images in @eaDir" in output


def test_a_collection_of_one_class_does_not_pass(tmp_path: Path) -> None:
    tree = patients(tmp_path / "tree")
    clean, output, findings = audited(tree, labels=("malignant=skip",))
    assert not clean
    assert findings["one_class"] == {"folder": "benign"}
    assert "ONE CLASS: all images of folder are benign" in output


def test_sizes_are_summed_up_when_there_are_many(tmp_path: Path) -> None:
    tree = patients(tmp_path / "tree")
    for index in range(6):
        put(tree, index, "size.png", picture(1, width=40 + index, height=30 - index))
    assert "7 sizes, 32 x 24 to 45 x 30, median 32 x 24; commonest 32 x 24: 20 + 20" in " ".join(audited(tree)[1].split())


def test_a_split_by_image_tears_patients_apart(tmp_path: Path) -> None:
    fine, output, findings = audited(patients(tmp_path / "tree", images=4), split="image")
    assert not fine
    assert "patients on two sides of the split by image, seed 0; its scores are too good." in " ".join(output.split())
    assert all(len(patient["parts"]) > 1 for patient in findings["split"]["patients"])
    assert findings["split"]["patients"]


def test_the_split_of_a_file_is_the_one_that_is_checked(tmp_path: Path) -> None:
    tree = patients(tmp_path / "tree")
    put(tree, 0, "copy.bmp", picture(7, ".bmp"))
    put(tree, 2, "copy.png", picture(7))
    file = tmp_path / "split.json"
    for second, fine in (("train", True), ("validation", False)):
        file.write_text(Split("patient", {"folder/P0": "train", "folder/P2": second}).text())  # type: ignore[dict-item]
        result, output, findings = audited(tree, split_file=file)
        assert result == fine
        assert findings["split"]["parts"]["folder"]["in no part"] == {"patients": 18, "benign": 16, "malignant": 20}
        assert "in no part" in output
    file.write_text(Split("image", {item.sha256: "test" for item in read(str(tree))}).text())
    assert audited(tree, split_file=file)[0]


@pytest.mark.parametrize("content", ["", "{}", Split("patient", {"idc/1": "train"}).text()])
def test_a_split_file_of_something_else_is_refused(content: str, tmp_path: Path) -> None:
    tree = patients(tmp_path / "tree", count=2)
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(click.ClickException, match=r"split\.json"):
        audited(tree, split_file=tmp_path / "split.json")


def test_too_few_patients_are_a_note(tmp_path: Path) -> None:
    fine, output, _ = audited(patients(tmp_path / "tree", count=2))
    assert fine
    assert "cannot be split" in output
    assert "too few" in output


def both_ways(folder: Path, patient: str) -> tuple[Path, Path]:
    """One collection as a tree, and some of its patients again as a manifest, under `patient`'s pattern."""
    tree = patients(folder / "tree")
    rows = [f"tree/{file.relative_to(tree)},{file.parts[-3]},{patient.format(file.parts[-2])}\n" for file in sorted(tree.rglob("?.png"))]
    manifest = folder / "list.csv"
    manifest.write_text("file,label,patient\n" + "".join(row for row in rows if "/0.png" in row))
    return tree, manifest


def test_a_patient_of_two_sources_of_one_collection_is_one_person(tmp_path: Path) -> None:
    tree, manifest = both_ways(tmp_path, "{}")
    split = Split("patient", {f"{source}/P{n}": part for source, part in (("folder", "train"), ("manifest", "test")) for n in range(20)})  # type: ignore[misc]
    (tmp_path / "split.json").write_text(split.text())
    fine, output, findings = audited(tree, manifest, split_file=tmp_path / "split.json")
    assert not fine
    assert len(findings["split"]["patients"]) == 20
    assert "LEAKAGE: 20 patients and 20 images" in output
    assert "folder/manifest P0 (3 images) in train, test" in output


def test_equal_numbers_in_two_collections_are_two_people(tmp_path: Path) -> None:
    breakhis, idc = tmp_path / "breakhis", tmp_path / "idc"
    for folder, pattern in ((breakhis, "SOB_{}-14-{}-100-001.png"), (idc, "{}_idx5_x1_y1_class{}.png")):
        folder.mkdir()
        for patient in range(20):
            malignant = patient % 2
            name = pattern.format("M_DC" if malignant else "B_A", patient) if folder == breakhis else pattern.format(patient, malignant)
            (folder / name).write_bytes(picture(patient + (1000 if folder == idc else 0)))
    blank = cv2.imencode(".png", np.full((50, 50, 3), 255, np.uint8))[1].tobytes()  # empty glass is in many collections
    for file in (breakhis / "SOB_B_A-14-2-40-002.png", idc / "4_idx5_x51_y1_class0.png"):
        file.write_bytes(blank)
    split = Split("patient", {f"{source}/{n}": part for source, part in (("breakhis", "train"), ("idc", "test")) for n in range(20)})  # type: ignore[misc]
    (tmp_path / "split.json").write_text(split.text())
    fine, output, findings = audited(breakhis, idc, split_file=tmp_path / "split.json")
    assert not fine
    assert findings["split"]["patients"] == []
    assert len(findings["split"]["duplicates"]) == 1
    assert findings["sources"]["breakhis"]["magnifications"] == {"40X": {"benign": 1, "malignant": 0}, "100X": {"benign": 10, "malignant": 10}}
    assert findings["sources"]["breakhis"]["subtypes"] == {"A": 11, "DC": 10}
    assert "100X: 10 + 10 (benign + malignant)" in output
    assert 'not "benign tumour"' in " ".join(output.split())


def test_one_collection_given_twice_is_no_duplicate(tmp_path: Path) -> None:
    tree = patients(tmp_path / "tree")
    fine, _, findings = audited(tree, f"folder={tree}")
    assert fine
    assert findings["sources"]["folder"]["duplicates"] == []


def test_names_steer_neither_the_markup_nor_the_terminal(tmp_path: Path) -> None:
    tree = patients(tmp_path / "tree")
    put(tree, 0, "[red]a\x1b[2J.png", b"no image")
    output = audited(tree)[1]
    assert "[red]a?[2J.png" in output
    assert "\x1b" not in output


def test_findings_that_cannot_be_written_are_said(tmp_path: Path) -> None:
    tree = patients(tmp_path / "tree", count=2)
    with pytest.raises(OutputError, match="could not be written"):
        audit([str(tree)], seed=0, split="patient", split_file=None, console=Console(file=io.StringIO()), json_path=tmp_path / "no" / "x.json")


def test_pixels_are_compared_with_their_shape() -> None:
    wide, high = (cv2.imencode(".png", np.zeros(shape, np.uint8))[1].tobytes() for shape in ((2, 3, 3), (3, 2, 3)))
    seen = look([Item("idc", "wide", wide, True, "1"), Item("idc", "high", high, True, "2"), Item("idc", "same", wide, True, "3")])
    assert [[image.item.name for image in members] for members in same_pixels(seen)] == [["wide", "same"]]
    assert [image.size for image in seen] == [(3, 2), (2, 3), (3, 2)]


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.integers(0, 3)), max_size=12))
def test_sets_hold_every_image_that_has_an_equal_and_no_other(rows: list[tuple[str, int]]) -> None:
    seen = [Seen(Item("idc", f"{name}{index}", b"", False, str(name)), "", pixels) for index, (pixels, name) in enumerate(rows)]
    sets = same_pixels(seen)
    counts = {pixels: sum(pixels == other for other, _ in rows) for pixels, _ in rows if pixels}
    assert sorted(map(len, sets)) == sorted(count for count in counts.values() if count > 1)
    assert all(len({image.pixels for image in members}) == 1 for members in sets)


@pytest.mark.data
@pytest.mark.skipif(not BREAKHIS.exists(), reason="the real images are not in ../shared/data beside this checkout")
def test_breakhis_holds_what_its_description_says(tmp_path: Path) -> None:
    link = tmp_path / "images.zip"
    link.symlink_to(BREAKHIS)
    fine, _, findings = audited(link)
    source = findings["sources"]["breakhis"]
    assert fine
    with (BREAKHIS.parent / "manifest.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if not row["file"].endswith("-tiles.jpg")]
    for name, counts in source["classes"].items():
        own = [row for row in rows if row["label"] == name]
        assert counts == {"images": len(own), "patients": len({row["patient"] for row in own})}
