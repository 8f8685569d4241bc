"""Nobody is on two sides, whatever the collection looks like."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.sources import Item
from train.split import PARTS, by_patient, fingerprint


def collection(counts: list[tuple[int, bool]], source: str = "breakhis") -> list[Item]:
    return [
        Item(source, f"{patient}-{index}", b"", malignant, str(patient))
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
    assert fingerprint(by_patient(items, 1)) == fingerprint(by_patient(items[::-1], 1))
    assert fingerprint(by_patient(items, 1)) != fingerprint(by_patient(items, 2))


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(click.ClickException, match="too few"):
        by_patient(collection([(10, False), (10, True), (5, True)]), 0)
