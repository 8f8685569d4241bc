"""Nobody is on two sides, whatever the collection looks like."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.data import split
from train.data.sources import Item
from train.data.split import PARTS, Split, by_image, by_patient, folds, make


def collection(counts: list[tuple[int, bool]], source: str = "breakhis") -> list[Item]:
    return [
        Item(source, f"{patient}-{index}", f"{source} {patient} {index}".encode(), malignant, str(patient))
        for patient, (count, malignant) in enumerate(counts)
        for index in range(count)
    ]


COUNTS = st.tuples(st.lists(st.integers(1, 40), min_size=8, max_size=30), st.lists(st.integers(1, 40), min_size=8, max_size=30)).map(
    lambda both: [(count, False) for count in both[0]] + [(count, True) for count in both[1]]
)


@given(COUNTS, st.integers(0, 1000))
def test_every_patient_has_one_part_and_every_part_both_classes(counts: list[tuple[int, bool]], seed: int) -> None:
    items = collection(counts)
    parts = by_patient(items, seed)
    assert set(parts) == {item.group for item in items}
    for name in PARTS:
        assert {item.malignant for item in items if parts[item.group] == name} == {False, True}


@given(COUNTS, COUNTS)
def test_another_source_moves_nobody(first: list[tuple[int, bool]], second: list[tuple[int, bool]]) -> None:
    alone = by_patient(collection(first), 0)
    both = by_patient(collection(first) + collection(second, "idc"), 0)
    assert {group: part for group, part in both.items() if group.startswith("breakhis/")} == alone


def test_the_seed_decides_and_the_order_of_files_does_not() -> None:
    items = collection([(3, bool(patient % 2)) for patient in range(40)])
    assert by_patient(items, 1) == by_patient(items[::-1], 1)
    prints = [split.make(some, "patient", seed).fingerprint for some, seed in ((items, 1), (items[::-1], 1), (items, 2))]
    assert prints[0] == prints[1] != prints[2]


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(click.ClickException, match="too few"):
        by_patient(collection([(10, False), (10, True), (5, True)]), 0)


def test_the_fingerprint_is_that_of_earlier_versions() -> None:
    """Bundles hold it; if it changed, nobody could show whom they held out."""
    assert Split("patient", {"idc/1": "train", "idc/2": "test"}).fingerprint.startswith("a59505bc7082")


@given(COUNTS, st.integers(0, 1000), st.integers(3, 5))
def test_folds_test_everybody_once_and_validate_everybody_once(counts: list[tuple[int, bool]], seed: int, count: int) -> None:
    items = collection(counts)
    made = folds(items, count, seed)
    for name in ("test", "validation"):
        chosen = [group for division in made for group, part in division.parts.items() if part == name]
        assert sorted(chosen) == sorted({item.group for item in items})
    for division in made:
        assert not division.leaky
        for name in PARTS:
            assert {item.malignant for item in items if division.part(item) == name} == {False, True}


def test_more_folds_than_patients_of_a_class_are_refused() -> None:
    with pytest.raises(click.ClickException, match="fewer folds"):
        folds(collection([(3, False)] * 4 + [(3, True)] * 9), 5, 0)


def test_by_image_tears_patients_apart_and_says_so() -> None:
    items = collection([(20, bool(patient % 2)) for patient in range(6)])
    parts = by_image(items, 0)
    assert len(parts) == len(items)
    sides = {item.group: {parts[other.sha256] for other in items if other.group == item.group} for item in items}
    assert any(len(parts) > 1 for parts in sides.values())
    assert split.make(items, "image", 0).leaky
    with pytest.raises(click.ClickException, match="too few images"):
        by_image([items[0], items[20]], 0)


def test_a_split_is_read_as_it_was_written(tmp_path: Path) -> None:
    items = collection([(3, bool(patient % 2)) for patient in range(40)])
    for how in ("patient", "image"):
        made = split.make(items, how, 3)
        file = tmp_path / f"{how}.json"
        file.write_text(made.text())
        assert split.make(items, str(file), 99) == made
    with pytest.raises(click.ClickException, match="in no part of the split"):
        split.read(tmp_path / "patient.json").part(Item("idc", "x.png", b"", True, "1"))


def test_files_that_are_no_splits(tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    with pytest.raises(click.ClickException, match="no split can be read there"):
        split.read(file)
    good = json.loads(Split("patient", {"idc/1": "train", "idc/2": "test"}).text())
    for broken, sentence in (
        ([], "no split can be read there"),
        ({"unit": "patient"}, "no split can be read there"),
        (good | {"unit": "slide"}, "units are patient and image"),
        (good | {"parts": {"idc/1": "exam"}}, "units are patient and image"),
        (good | {"parts": {"idc/1": "test", "idc/2": "train"}}, "changed by hand"),
    ):
        file.write_text(json.dumps(broken))
        with pytest.raises(click.ClickException, match=sentence):
            split.read(file)


def test_who_has_a_part_keeps_it_and_the_others_are_drawn_as_without_them() -> None:
    """The labels of a clinic beside a published collection, of which somebody came to the clinic."""
    others = collection([(2, patient % 2 == 0) for patient in range(30)], "a")
    named = [Item("b", f"{patient}", f"b{patient}".encode(), patient % 2 == 0, str(patient), part=PARTS[patient % 3]) for patient in range(9)]
    drawn = make([*others, *named], "patient", 0).parts
    assert {group: part for group, part in drawn.items() if group.startswith("a/")} == make(others, "patient", 0).parts
    assert all(drawn[item.group] == item.part for item in named)
    met = Item("a", "met", b"met", True, "2", part="test")
    assert make([*others, met], "patient", 0).parts["a/2"] == "test"
    with pytest.raises(click.ClickException, match="in two parts"):
        make([*others, met, replace(met, data=b"again", part="train")], "patient", 0)
