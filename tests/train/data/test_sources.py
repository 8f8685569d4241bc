"""File names to labels and patients, the traps of each collection included."""

from __future__ import annotations

import csv
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcd_edge.labels import LABELS
from train.data.sources import KINDS, Item, adapter, detect, files, names, parse_labels, read, resolve, unique
from train.data.sources.breakhis import NAME
from train.data.sources.folder import labelled

BREAKHIS = Path(__file__).parents[4] / "shared" / "data" / "breakhis"


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
        "SOB_B_F-14-22549G-40-003.png",
        "SOB_M_PC-14-190EF-400-003.jpg",
        "SOB_M_LC-14-13412-200-004.jpg",
        "other.png",
        "SOB_B_A-14-22549AB-100-001.txt",
    )
    items = {item.name: item for item in read(f"breakhis={tmp_path}")}
    assert len(items) == 5
    assert {(item.patient, item.slide, item.subtype, item.malignant, item.magnification) for item in items.values()} == {
        ("22549", "AB", "A", False, "100X"),
        ("22549", "CD", "F", False, "40X"),
        ("22549", "G", "F", False, "40X"),
        ("190EF", "", "PC", True, "400X"),
        ("13412", "", "LC", True, "200X"),
    }


@given(st.sampled_from("BM"), st.sampled_from(["A", "DC", "PC"]), st.integers(1, 99999), st.sampled_from(["", "A", "CD", "EF"]), st.integers(1, 999))
def test_every_breakhis_name_gives_its_parts(label: str, subtype: str, patient: int, slide: str, number: int) -> None:
    match = NAME.match(f"SOB_{label}_{subtype}-14-{patient}{slide}-400-{number:03d}")
    assert match
    assert match.groups() == (label, subtype, str(patient), slide, "400")


def test_idc_class_and_patient(tmp_path: Path) -> None:
    written(tmp_path, "9175/0/9175_idx5_x801_y1701_class0.png", "9175/1/9175_idx5_x901_y701_class1.png", "9175/1/readme.png")
    assert {(item.patient, item.malignant) for item in read(f"idc={tmp_path}")} == {("9175", False), ("9175", True)}


def test_lc25000_groups_by_source_tile_and_needs_the_manifest(tmp_path: Path) -> None:
    written(tmp_path, "lung_n/a.jpg", "colon_aca/b.jpg", "colon_aca/unlisted.jpg")
    with pytest.raises(click.UsageError, match=r"manifest\.csv"):
        read(f"lc25000={tmp_path}")
    (tmp_path / "manifest.csv").write_text("file,label,source_tile\nlung_n/a.jpg,lung_n,lung_n-1\ncolon_aca/b.jpg,colon_aca,colon_aca-7\n")
    assert {(item.group, item.malignant) for item in read(f"lc25000={tmp_path}")} == {("lc25000/lung_n-1", False), ("lc25000/colon_aca-7", True)}


@pytest.mark.parametrize("header", ["file,label", "name;label;source_tile", ""])
def test_lc25000_says_which_column_is_missing(header: str, tmp_path: Path) -> None:
    written(tmp_path, "a.jpg")
    (tmp_path / "manifest.csv").write_text(f"{header}\na.jpg,lung_n\n")
    with pytest.raises(click.UsageError, match="has no column"):
        read(f"lc25000={tmp_path}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("benign/a.png", (False, "benign/a")),
        ("MALIGNANT/a.png", (True, "malignant/a")),
        ("train/1/P07/a.png", (True, "P07")),
        ("val/normal/P08/40X/a.png", (False, "P08")),
        ("benign/negative/positive/P9/a.png", (True, "P9")),
        ("Normal/P1/b/c.d.png", (False, "P1")),
        ("benign/1/a.png", (False, "1")),
        ("malignant/P1/0/a.png", (True, "P1")),
        ("train/a.png", None),
        ("benign.png", None),
        ("benignant/a.png", None),
    ],
)
def test_the_nearest_class_folder_decides_and_the_one_below_it_is_the_patient(name: str, expected: tuple[bool, str] | None) -> None:
    assert labelled(PurePosixPath(name)) == expected


PART = st.sampled_from(["train", "P1", "x", *LABELS, "Benign"])
WORDS = sorted(label for label in LABELS if label.isalpha())


@given(st.lists(PART, max_size=5), st.sampled_from(WORDS), st.lists(st.sampled_from(["P1", "P2", "x"]), max_size=3))
def test_what_stands_above_the_class_folder_means_nothing(above: list[str], label: str, below: list[str]) -> None:
    name = "/".join([label, *below, "a.png"])
    assert labelled(PurePosixPath("/".join([*above, name]))) == labelled(PurePosixPath(name)) == (LABELS[label], labelled(PurePosixPath(name))[1])


def test_folder_and_zip_give_the_same_items_and_hidden_files_are_none(tmp_path: Path) -> None:
    listed = ["t/benign/P1/a.png", "t/benign/b.TIF", "t/malignant/P1/c.jpg", "t/malignant/._d.png", "t/benign/@eaDir/a.png/e.png", "cover.png"]
    tree = written(tmp_path / "tree", *listed)
    with zipfile.ZipFile(tmp_path / "tree.zip", "w") as archive:
        for name in listed:
            archive.writestr(name, name)
    items = read(str(tree))
    assert [(item.source, item.name, item.malignant, item.group) for item in items] == [
        ("folder", "t/benign/P1/a.png", False, "folder/P1"),
        ("folder", "t/benign/b.TIF", False, "folder/benign/b"),
        ("folder", "t/malignant/P1/c.jpg", True, "folder/P1"),
    ]
    assert read(str(tmp_path / "tree.zip")) == items


def test_images_without_a_suffix_are_known_by_their_content(tmp_path: Path) -> None:
    contents = {"benign/IMG0001": b"\x89PNG\r\n\x1a\n picture", "benign/README": b"BM: notes on the images", "malignant/b.png": b"b"}
    with zipfile.ZipFile(tmp_path / "tree.zip", "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    with zipfile.ZipFile(tmp_path / "tree.zip") as archive:
        archive.extractall(tmp_path / "tree")
    items = read(str(tmp_path / "tree"))
    assert [item.name for item in items] == ["benign/IMG0001", "malignant/b.png"]
    assert read(str(tmp_path / "tree.zip")) == items


def test_a_folder_of_no_known_class_stops_unless_it_is_mapped(tmp_path: Path) -> None:
    tree = written(tmp_path, "Photos/Benign/a.tif", "Photos/InSitu/b.tif", "Photos/InSitu/c.tif", "Photos/Invasive/d.tif")
    with pytest.raises(click.UsageError, match=r"named by InSitu \(2 images\), Invasive \(1 images\); say --label insitu=benign"):
        read(str(tree))
    items = read(f"folder={tree}", parse_labels(["InSitu=skip", "invasive=malignant"]))
    assert [(item.name, item.malignant) for item in items] == [("Photos/Benign/a.tif", False), ("Photos/Invasive/d.tif", True)]


def test_folders_with_names_of_ones_own_are_mapped(tmp_path: Path) -> None:
    tree = written(tmp_path, "tumour/P1/a.png", "healthy/P2/b.png")
    with pytest.raises(click.UsageError, match=r"healthy \(1 images\), tumour \(1 images\)"):
        read(f"folder={tree}")
    items = read(f"folder={tree}", parse_labels(["tumour=malignant", "healthy=benign"]))
    assert [(item.patient, item.malignant) for item in items] == [("P2", False), ("P1", True)]


@pytest.mark.parametrize("option", ["tumour", "tumour=", "tumour=bad", "=benign", ""])
def test_a_label_that_names_no_class_is_refused(option: str) -> None:
    with pytest.raises(click.UsageError, match="NAME=skip"):
        parse_labels([option])


def test_a_label_of_a_manifest_is_mapped_or_skipped(tmp_path: Path) -> None:
    written(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "list.csv").write_text("file,label\na.png,DCIS\nb.png,benign\nc.png,unsure\n")
    items = read(str(tmp_path / "list.csv"), parse_labels(["dcis=malignant", "unsure=skip"]))
    assert [(item.name, item.malignant) for item in items] == [("a.png", True), ("b.png", False)]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.7z"])
def test_an_archive_that_is_not_read_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"packed")
    for specification in (str(tmp_path / name), f"breakhis={tmp_path / name}"):
        with pytest.raises(click.UsageError, match=r"archive of a kind that is not read, so unpack it"):
            read(specification)


def test_an_archive_in_an_archive_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("data/inner.zip", "packed")
    for specification in (str(tmp_path / "outer.zip"), f"breakhis={tmp_path / 'outer.zip'}"):
        with pytest.raises(click.UsageError, match=r"data/inner\.zip: unpack"):
            read(specification)


def test_lc25000_without_a_manifest_says_where_it_comes_from(tmp_path: Path) -> None:
    tree = written(tmp_path, "lung_image_sets/lung_n/a.jpeg", "lung_image_sets/lung_aca/b.jpeg")
    assert detect(tree) == "lc25000"
    with pytest.raises(click.UsageError, match=r"rotations and flips .* columns file, label .* and source_tile; docs/training\.md"):
        read(str(tree))


MANIFEST = """\ufeffFile, label ,patient,magnification,subtype,slide,extra
a.png,Benign,7,40,A,AB,
sub/b.png,1,7,100x,,,x,y
c.jpg,negative
"""


def test_a_manifest_gives_what_its_columns_say(tmp_path: Path) -> None:
    written(tmp_path, "a.png", "sub/b.png", "c.jpg", "unlisted.png")
    (tmp_path / "list.csv").write_text(MANIFEST, encoding="utf-8")
    assert read(str(tmp_path / "list.csv")) == [
        Item("manifest", "a.png", b"a.png", False, "7", "40X", "A", "AB", um_per_pixel=0.25),
        Item("manifest", "sub/b.png", b"sub/b.png", True, "7", "100X"),
        Item("manifest", "c.jpg", b"c.jpg", False, "c"),
    ]


def test_a_manifest_tells_the_scale_and_a_wrong_one_is_refused_by_its_line(tmp_path: Path) -> None:
    written(tmp_path, "a.png", "b.png", "c.png")
    rows = "file,label,um_per_pixel,magnification\na.png,0,0.49,100X\nb.png,1,,20x\nc.png,1,,400X\n"
    (tmp_path / "list.csv").write_text(rows, encoding="utf-8")
    assert [(item.um_per_pixel, item.magnification) for item in read(str(tmp_path / "list.csv"))] == [(0.49, "100X"), (0.5, "20X"), (None, "400X")]
    for wrong in ("0", "250", "-1", "nan", "0.5 um"):
        (tmp_path / "list.csv").write_text(rows.replace("0.49", wrong), encoding="utf-8")
        with pytest.raises(click.UsageError, match=r"line 2 \(a.png\) has the um_per_pixel '.+', which no microscope has; write 0.05 to 5"):
            read(str(tmp_path / "list.csv"))


def test_a_manifest_finds_its_files_in_a_zip_beside_it(tmp_path: Path) -> None:
    written(tmp_path, "a.png")
    for number, name in enumerate(("sub/b.png", "c.jpg")):
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as archive:
            archive.writestr(name, f"packed {name}")
            archive.writestr("a.png", "another")
    (tmp_path / "list.csv").write_text(MANIFEST, encoding="utf-8")
    assert [item.data for item in read(f"manifest={tmp_path / 'list.csv'}")] == [b"a.png", b"packed sub/b.png", b"packed c.jpg"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("file,label\na.png,0\nb.png,0\n", r"line 3 \(b\.png\) is neither"),
        ("file,label\na.png,maybe\n", r"line 2 \(a\.png\) has the label 'maybe'"),
        ("file,label\na.png\n", r"line 2 \(a\.png\) has the label ''"),
        ("file,label,part\na.png,0,breast\n", r"line 2 \(a\.png\) has a part that is none of train, validation, test"),
        ("file,label\n../a.png,0\n", "line 2 .* leaves the folder"),
        ("file,label\nsub/../../a.png,0\n", "leaves the folder"),
        ("file,label\n..\\a.png,0\n", "leaves the folder"),
        ("file,label\n/etc/passwd,0\n", "leaves the folder"),
        ("file,label\nC:\\a.png,0\n", "leaves the folder"),
        ("file,label\nlink/a.png,0\n", "leaves the folder"),
        ("file,label\n,0\n", "names no file"),
        ("file;label\na.png;0\n", r"no column file and no column label; .* has file;label"),
        ("", "has nothing"),
        ("file,label\n", "no file there"),
        ("file,label\n\xff", "no CSV in UTF-8"),
        ('file,label\n"' + "x" * 200_000, "no CSV in UTF-8"),
    ],
)
def test_a_manifest_that_cannot_be_honoured_is_refused_by_its_line(content: str, sentence: str, tmp_path: Path) -> None:
    written(tmp_path, "a.png", "in/a.png")
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    (tmp_path / "in" / "list.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(click.UsageError, match=sentence):
        read(str(tmp_path / "in" / "list.csv"))
    with pytest.raises(click.UsageError, match=r"give the \.csv in it"):
        read(f"manifest={tmp_path}")


@pytest.mark.parametrize(
    ("listed", "kind"),
    [
        (["benign/SOB_B_A-14-22549AB-100-001.png", "x.png", "malignant/SOB_M_DC-14-2-100-001.png"], "breakhis"),
        (["9175/0/9175_idx5_x801_y1701_class0.png"], "idc"),
        (["0/a.png", "1/b.png"], "folder"),
        (["benign/a.png", "benign/b.png", "malignant/SOB_M_DC-14-2-100-001.png"], "folder"),
    ],
)
def test_the_kind_of_a_bare_path_shows_in_its_names(listed: list[str], kind: str, tmp_path: Path) -> None:
    tree = written(tmp_path / "a=b", *listed)
    assert detect(tree) == kind
    assert read(str(tree)) == read(f"{kind}={tree}")


def test_a_manifest_with_source_tiles_is_lc25000(tmp_path: Path) -> None:
    written(tmp_path, "0/a.jpg")
    (tmp_path / "manifest.csv").write_text("file,label,patient\n0/a.jpg,0,1\n")
    assert detect(tmp_path) == "folder"
    (tmp_path / "manifest.csv").write_text("file,label,source_tile\n0/a.jpg,lung_n,lung_n-1\n")
    assert detect(tmp_path) == "lc25000"
    assert detect(tmp_path / "manifest.csv") == "manifest"


def test_what_stands_before_the_equals_sign_is_a_kind_only_if_it_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "cats=1", "benign/a.png")
    assert resolve("cats=1") == ("folder", Path("cats=1"))
    assert resolve("folder=cats=1") == ("folder", Path("cats=1"))


def test_detection_reads_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "benign/a.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("benign/a.png", "a")
    monkeypatch.delattr(Path, "read_bytes")
    monkeypatch.delattr(zipfile.ZipFile, "read")
    assert detect(tmp_path) == detect(tmp_path / "a.zip") == "folder"


def test_bytes_are_read_one_by_one(tmp_path: Path) -> None:
    written(tmp_path, "a.png", "b.png")
    some = files(tmp_path)
    assert next(some) == (PurePosixPath("a.png"), b"a.png")
    (tmp_path / "b.png").write_bytes(b"changed")
    assert next(some) == (PurePosixPath("b.png"), b"changed")
    assert dict(files(tmp_path, {PurePosixPath("b.png")})) == {PurePosixPath("b.png"): b"changed"}
    assert names(tmp_path) == [PurePosixPath("a.png"), PurePosixPath("b.png")]


def test_every_file_in_the_folder_is_a_kind_with_the_three_names() -> None:
    assert KINDS == ("breakhis", "folder", "idc", "lc25000", "manifest")
    for kind in KINDS:
        module = adapter(kind)
        assert module.NOTE.endswith(".")
        assert callable(module.read)
        assert not module.recognises(Path("nowhere"), [])


def test_importing_the_sources_imports_no_decoder() -> None:
    script = "import sys, train.data.sources; print({'cv2', 'numpy', 'torch', 'train.data.sources.idc'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("specification", "sentence"),
    [
        ("images.zip", "KIND=PATH"),
        ("cats=.", "KIND=PATH"),
        ("", "KIND=PATH"),
        ("x" * 5000, "KIND=PATH"),
        ("idc=/none", "does not exist"),
        ("idc=.", "no file"),
        (".", "no image there"),
    ],
)
def test_what_cannot_be_read_is_said(specification: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.UsageError, match=sentence):
        read(specification)


def test_a_broken_archive_is_said(tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(b"PK nothing")
    for specification in (f"breakhis={tmp_path / 'images.zip'}", str(tmp_path / "images.zip")):
        with pytest.raises(click.UsageError, match=r"images\.zip: the \.zip cannot be unpacked"):
            read(specification)


def test_images_that_nothing_is_known_of_are_said(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="none of the 1 images there is named"):
        read(str(written(tmp_path, "a.png")))


def test_a_damaged_member_is_said_by_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("benign/a.png", "0123456789")
    packed = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(packed.replace(b"0123456789", b"0123456780"))
    with pytest.raises(click.UsageError, match=r"benign/a\.png"):
        read(str(tmp_path / "a.zip"))


def test_a_file_that_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_bytes(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(click.UsageError, match=r"a\.png could not be read \(Permission denied\)"):
        read(str(written(tmp_path, "benign/a.png")))


@pytest.mark.data
@pytest.mark.skipif(not BREAKHIS.exists(), reason="the real images are not in ../shared/data beside this checkout")
def test_names_and_manifest_of_breakhis_say_the_same() -> None:
    by_name = read(str(BREAKHIS / "images.zip"))
    with (BREAKHIS / "manifest.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    by_row = read(str(BREAKHIS / "manifest.csv"))
    assert len(by_row) == len(rows)
    by_row = [item for item in by_row if not item.name.endswith("-tiles.jpg")]  # joined from tiles, with names of their own
    assert len(by_name) == len(by_row)
    parts = [
        # the manifest calls EF a slide of the patient 190EF, whose identifier it is part of
        {
            (item.name, item.sha256, item.malignant, item.patient, item.magnification, item.subtype, item.patient == "190EF" or item.slide)
            for item in items
        }
        for items in (by_name, by_row)
    ]
    assert parts[0] == parts[1]


def test_the_same_content_counts_once_and_the_last_stays() -> None:
    first, second, other = Item("idc", "a", b"x", True, "1"), Item("idc", "b", b"x", True, "2"), Item("breakhis", "c", b"y", True, "1")
    assert unique([first, second, other]) == [other, second]


def test_an_item_knows_its_content() -> None:
    assert Item("idc", "x", b"", True, "1").sha256.startswith("e3b0c442")
