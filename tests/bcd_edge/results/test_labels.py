"""`bcd-edge labels export`, and that `train` reads it: what is a label, what is left out, and that no patient ever changes sides."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from bcd_edge import holdout
from bcd_edge.classifier import Classifier
from bcd_edge.cli import main
from bcd_edge.errors import UsageError
from bcd_edge.options import RunOptions
from bcd_edge.results import labels, reviews
from bcd_edge.results.folder import Results
from train.data.sources import read


class Ward:
    """An inbox, the folder of results, and what was read so far."""

    def __init__(self, folder: Path, results: Results, classifier: Classifier) -> None:
        self.inbox, self.out, self.results, self.classifier = folder / "inbox", folder / "labels", results, classifier
        self.made = 0

    def picture(self, patient: str | None, name: str = "", content: bytes | None = None) -> str:
        """Answers a picture; returns its SHA-256."""
        self.made += 1
        name = name or f"{patient}/{self.made}.png"
        data = content or png(self.made)
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        record = self.classifier.classify(data, name=name)
        return self.results.commit(name, record, patient=patient).answer.sha256

    def labelled(self, patients: Iterator[tuple[str, str]] | list[tuple[str, str]], pictures: int = 1) -> None:
        for patient, label in patients:
            for _ in range(pictures):
                reviews.add(self.results, self.picture(patient), label, reader="A")

    def export(self, **how: Any) -> labels.Exported:
        return labels.export(self.results, self.out, inbox=self.inbox, **how)

    def rows(self) -> list[dict[str, str]]:
        with (self.out / "labels.csv").open(newline="") as lines:
            return list(csv.DictReader(lines))

    def parts(self) -> dict[str, str]:
        return {row["patient"]: row["part"] for row in self.rows()}


def png(seed: int) -> bytes:
    return cv2.imencode(".png", np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8))[1].tobytes()


def people(count: int, begin: int = 0) -> list[tuple[str, str]]:
    return [(f"P{number}", ("benign", "malignant")[number % 2]) for number in range(begin, begin + count)]


@pytest.fixture
def ward(tmp_path: Path, results: Results, classifier: Classifier) -> Ward:
    return Ward(tmp_path, results, classifier)


def test_a_whole_slide_is_no_label(ward: Ward) -> None:
    """One opinion of a slide says nothing of a field, and its thumbnail is no picture to learn from."""
    ward.labelled(people(4))
    slide = replace(ward.classifier.classify(png(99), name="slide.svs"), kind="slide")
    reviews.add(ward.results, ward.results.commit("slide.svs", slide, patient="P9").answer.sha256, "malignant", reader="A")
    exported = ward.export()
    assert exported.left_out == {"whole slides": 1}
    assert sum(exported.labels.values()) == 4


def trained_with(*collections: Path) -> tuple[Any, Any]:
    """The module that splits, and the items of collections as `train fit` reads them; without PyTorch the test is skipped."""
    pytest.importorskip("torch", reason='pip install "bcd-edge[train]"')
    from train.data import split
    from train.data.images import read_all

    return split, read_all([str(path) for path in collections])


def test_train_reads_what_was_exported(ward: Ward) -> None:
    ward.labelled(people(24), pictures=2)
    exported = ward.export()
    split, items = trained_with(ward.out)
    assert [(item.malignant, item.patient) for item in items] == [
        (row["label"] == "malignant", row["patient"]) for row in sorted(ward.rows(), key=lambda row: row["file"])
    ]
    assert {item.sha256 for item in items} == {row["sha256"] for row in ward.rows()}
    divided = split.make(items, str(ward.out / "split.json"), 0)
    assert all(divided.part(item) == ward.parts()[item.patient] for item in items)
    assert split.make(items, "patient", 7) == divided  # without --split, too, whatever the seed
    assert {item.source for item in items} == {exported.source}
    for part in split.PARTS:  # as `train fit` needs it
        assert {item.malignant for item in items if divided.part(item) == part} == {False, True}


def test_the_scale_goes_along(ward: Ward) -> None:
    with Classifier.load(None, RunOptions(provider="null"), um_per_pixel=0.25) as scaled:
        ward.labelled([("P1", "benign")])
        ward.classifier = scaled
        ward.labelled([("P2", "malignant")])
    ward.export()
    assert {row["patient"]: row["um_per_pixel"] for row in ward.rows()} == {"P1": "", "P2": "0.25"}
    assert {item.patient: item.um_per_pixel for item in read(str(ward.out))} == {"P1": None, "P2": 0.25}


def test_the_shares_are_those_of_training(ward: Ward) -> None:
    ward.labelled(people(80))
    assert ward.export().patients == {"train": 48, "validation": 12, "test": 20}


def test_only_what_readers_agree_on_is_a_label(ward: Ward) -> None:
    opinions = {
        "agreed": ["benign", "benign"],
        "unsure": ["cannot tell"],
        "bad": ["unusable"],
        "open": ["benign", "malignant"],
        "settled": ["benign", "malignant"],
    }
    named = {}
    for patient, decisions in opinions.items():
        named[patient] = ward.picture(patient)
        for reader, decision in zip("AB", decisions, strict=False):
            reviews.add(ward.results, named[patient], decision, reader=reader)
    reviews.sign_out(ward.results, "settled", "malignant", reader="B", confirmed=True)
    nobody, shared = ward.picture(None, "stray.png"), png(500)
    ward.picture("X", content=shared)
    both = ward.picture("Y", content=shared)
    ward.picture("never reviewed")
    for sha256 in (nobody, both):
        reviews.add(ward.results, sha256, "benign", reader="A")
    exported = ward.export()
    assert {row["patient"]: row["label"] for row in ward.rows()} == {"agreed": "benign", "settled": "malignant"}
    assert exported.left_out == {"cannot tell": 1, "unusable": 1, "disagreement": 1, "without a patient": 1, "under several patients": 1}


def test_no_patient_ever_changes_sides(ward: Ward) -> None:
    before: dict[str, str] = {}
    for begin in range(0, 28, 7):
        ward.labelled(people(7, begin), pictures=2)
        ward.labelled([(patient, "malignant") for patient in list(before)[::3]])  # whose majority may turn
        ward.export(overwrite=begin > 0)
        assert before.items() <= ward.parts().items()
        before = ward.parts()
    assert holdout.read(ward.out / "split.json")[1] == {f"{ward.rows()[0]['source']}/{patient}": part for patient, part in before.items()}


def test_test_patients_of_the_running_bundle_stay_so_and_are_named(ward: Ward) -> None:
    ward.labelled(people(20))
    earlier = {"breakhis/P0": "test", "breakhis/P1": "test", "breakhis/P2": "train", "breakhis/elsewhere": "test", "idc/P3": "test"}
    (ward.inbox / "split.json").write_text(holdout.text("patient", earlier))  # type: ignore[arg-type]
    exported = ward.export(source="breakhis", split=ward.inbox / "split.json")
    assert exported.tested == ["P0", "P1"]
    assert {patient: ward.parts()[patient] for patient in ("P0", "P1", "P2")} == {"P0": "test", "P1": "test", "P2": "train"}
    _, whole = holdout.read(ward.out / "split.json")
    assert earlier.items() <= whole.items()
    assert {item.group for item in read(str(ward.out))} <= whole.keys()


def test_a_person_in_two_collections_is_one_group(ward: Ward, tmp_path: Path) -> None:
    """The published collection and the clinic's labels are trained on together."""
    ward.labelled([(f"{20000 + number}", label) for number, (_, label) in enumerate(people(8))])
    ward.export(source="breakhis")
    (tmp_path / "published").mkdir()
    for number in range(8):
        (tmp_path / "published" / f"SOB_{'BM'[number % 2]}_DC-14-{20000 + number}-100-001.png").write_bytes(png(900 + number))
    split, items = trained_with(tmp_path / "published", ward.out)
    assert len(items) == 16
    divided = split.make(items, str(ward.out / "split.json"), 0)
    for patient in {item.patient for item in items}:
        assert len({divided.part(item) for item in items if item.patient == patient}) == 1


def test_a_split_that_contradicts_an_earlier_export_is_refused(ward: Ward) -> None:
    ward.labelled(people(20))
    exported = ward.export()
    other = {f"{exported.source}/{patient}": {"train": "test"}.get(part, "train") for patient, part in ward.parts().items()}
    (ward.inbox / "split.json").write_text(holdout.text("patient", other))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="20 patients in another part"):
        ward.export(split=ward.inbox / "split.json", overwrite=True)
    with pytest.raises(UsageError, match="changed by hand"):
        (ward.inbox / "split.json").write_text((ward.out / "split.json").read_text().replace("test", "train"))
        ward.export(split=ward.inbox / "split.json", overwrite=True)


def test_a_bundle_trained_on_these_people_needs_its_split(ward: Ward, classifier: Classifier, tmp_path: Path) -> None:
    """The embedded bundle was trained on BreaKHis; its split is published."""
    published = Path(__file__).parents[3] / "docs" / "resnet50-breast-split.json"
    ward.labelled([("13200", "benign"), ("10147", "malignant")])
    with pytest.raises(UsageError, match="--split"):
        ward.export(source="breakhis", bundle=classifier.bundle)
    assert not ward.out.exists()
    exported = ward.export(source="breakhis", bundle=classifier.bundle, split=published)
    assert exported.tested == ["13200"]
    assert ward.parts() == {"13200": "test", "10147": "train"}
    ward.export(source="other", bundle=classifier.bundle, overwrite=True)


def test_it_remembers_whom_the_next_bundle_learns_from(ward: Ward, classifier: Classifier) -> None:
    ward.labelled(people(12))
    ward.export()
    manifest = {"training": {"split": {"fingerprint": json.loads((ward.out / "split.json").read_text())["fingerprint"]}}}
    trained = replace(classifier.bundle, manifest=manifest)
    db = ward.results.journal.connection
    assert labels.learned_from(db, trained) == {patient for patient, part in ward.parts().items() if part != "test"}
    assert labels.learned_from(db, classifier.bundle) == set()
    elsewhere = {"training": {"split": {"fingerprint": "of more collections", "parts": {"train": {ward.rows()[0]["source"]: {}, "idc": {}}}}}}
    beside = replace(classifier.bundle, manifest=elsewhere)
    assert labels.learned_from(db, beside) == labels.learned_from(db, trained)
    ward.export(bundle=beside, overwrite=True)


def test_pictures_are_copied_and_are_those_that_were_read(ward: Ward) -> None:
    ward.labelled(people(6))
    gone, changed, *_ = sorted(ward.inbox.rglob("*.png"))
    gone.unlink()
    changed.write_bytes(png(999))
    exported = ward.export()
    assert exported.left_out == {"no longer there": 2}
    assert len(ward.rows()) == 4
    for row in ward.rows():
        (ward.inbox / row["patient"]).rename(ward.inbox / f"{row['patient']}-away")
    assert len(read(str(ward.out))) == 4


def test_a_moved_picture_is_found_where_it_was_put(ward: Ward) -> None:
    sha256 = ward.picture("P1")
    reviews.add(ward.results, sha256, "benign", reader="A")
    (ward.results.root / "done").mkdir()
    (ward.inbox / "P1/1.png").rename(ward.results.root / "done/1.png")
    ward.results.journal.place("P1/1.png", sha256, "done/1.png")
    labels.export(ward.results, ward.out)
    assert [row["sha256"] for row in ward.rows()] == [sha256]


def test_a_name_that_leaves_the_inbox_reads_nothing(ward: Ward) -> None:
    outside = ward.inbox.parent / "secret.png"
    outside.write_bytes(png(1))
    ward.inbox.mkdir()
    record = ward.classifier.classify(png(1), name="../secret.png")
    sha256 = ward.results.commit("../secret.png", record, patient="P").answer.sha256
    reviews.add(ward.results, sha256, "benign", reader="A")
    with pytest.raises(UsageError, match="no longer there"):
        ward.export()


def test_hashes_in_the_place_of_names(ward: Ward) -> None:
    ward.labelled([("Jane Doe", "benign"), ("=cmd()", "malignant")], pictures=2)
    ward.export(pseudonymise=True)
    text = "".join(path.read_text() for path in (ward.out / "labels.csv", ward.out / "split.json"))
    assert "Jane" not in text
    assert "cmd" not in text
    assert len({item.group for item in read(str(ward.out))}) == 2


def test_a_split_by_name_holds_for_hashes_too(ward: Ward) -> None:
    ward.labelled(people(12))
    (ward.inbox / "split.json").write_text(holdout.text("patient", {"ward/P1": "test", "ward/P2": "test", "ward/P3": "validation"}))
    exported = ward.export(source="ward", split=ward.inbox / "split.json", pseudonymise=True)
    assert len(exported.tested) == 2
    assert [ward.parts()[patient] for patient in exported.tested] == ["test", "test"]


def test_all_or_nothing_and_nothing_is_replaced_unasked(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.labelled(people(4))
    ward.export()
    before = {path: path.read_bytes() for path in sorted(ward.out.rglob("*")) if path.is_file()}
    with pytest.raises(UsageError, match="--overwrite"):
        ward.export()
    ward.labelled(people(4, 4))
    monkeypatch.setattr(labels, "_table", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        ward.export(overwrite=True)
    assert {path: path.read_bytes() for path in sorted(ward.out.rglob("*")) if path.is_file()} == before
    assert sorted(path.name for path in ward.out.parent.iterdir()) == ["inbox", "labels", "results"]
    monkeypatch.undo()
    ward.export(overwrite=True)
    assert len(ward.rows()) == 8


def test_killed_at_any_moment_the_folder_is_whole_and_nobody_changes_sides(ward: Ward) -> None:
    ward.labelled(people(24))
    command = [sys.executable, "-m", "bcd_edge", "labels", "export", str(ward.results.root), "--out", str(ward.out), "--inbox", str(ward.inbox)]
    before: dict[str, str] = {}
    partial = ward.out.with_name(".labels.partial")

    def left() -> int:
        try:
            return partial.stat().st_ino
        except FileNotFoundError:  # the export removes the last one's
            return 0

    for number in range(6):
        of_the_last = left()
        export = subprocess.Popen([*command, "--overwrite"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while left() in (0, of_the_last) and export.poll() is None:
            time.sleep(0.0005)
        time.sleep(0.003 * number)
        export.kill()
        export.wait()
        if ward.out.exists():
            assert len(read(str(ward.out))) == len(ward.rows()) == 24
            assert before in ({}, ward.parts())
            before = ward.parts()
    ward.export(overwrite=True)
    assert before in ({}, ward.parts())
    assert not partial.exists()


def test_a_folder_of_something_else_is_never_replaced(ward: Ward) -> None:
    ward.labelled(people(4))
    ward.out.mkdir()
    (ward.out / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="only a folder of exported labels"):
        ward.export(overwrite=True)
    assert (ward.out / "thesis.txt").read_text() == "years of work"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["labels", "export", *map(str, arguments)])


def test_the_command_says_what_it_did_and_what_comes_next(ward: Ward) -> None:
    ward.labelled(people(8))
    reviews.add(ward.results, ward.picture("P0"), "cannot tell", reader="A")
    (ward.results.root / "heartbeat.json").write_text(json.dumps({"inbox": str(ward.inbox)}))
    result = run(ward.results.root, "--out", ward.out)
    assert result.exit_code == 0, result.output
    assert "4 benign, 4 malignant" in result.output
    assert "Left out: 1 cannot tell" in result.output
    assert f"Next: python -m train fit --data {ward.out} --split {ward.out}/split.json --out RUN" in result.output


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda ward: None, "nothing was reviewed"),
        (lambda ward: reviews.add(ward.results, ward.picture(None, "a.png"), "benign", reader="A"), "watch recount"),
        (lambda ward: reviews.add(ward.results, ward.picture("P"), "cannot tell", reader="A"), "1 cannot tell"),
    ],
)
def test_nothing_to_export_is_explained(ward: Ward, prepare: Callable[[Ward], None], expected: str) -> None:
    prepare(ward)
    result = run(ward.results.root, "--out", ward.out)
    assert result.exit_code == 2
    assert expected in result.output
    assert not ward.out.exists()


def test_a_source_is_a_name(ward: Ward) -> None:
    assert "is not a name" in run(ward.results.root, "--out", ward.out, "--source", "a/b").output
