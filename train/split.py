"""Train, validation and test by patient: no person is on two sides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

import click
import numpy as np
from sklearn.model_selection import train_test_split

from train.sources import Item

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


def by_patient(items: Sequence[Item], seed: int) -> dict[str, Part]:
    """Assigns every patient: a quarter to test, a fifth of the others to validation, the rest to training.

    Patients are drawn stratified by their majority class and by whether they have many or few images of it, so that
    one person with a hundred images does not make up a part alone. Each source is split on its own, so that adding a
    source moves no patient of another: a network pretrained on one set never meets that set's test patients later.

    Returns:
        group (`source/patient`) to part.

    Raises:
        click.ClickException: a source has too few patients of a class to be split.
    """
    parts: dict[str, Part] = {}
    for source in sorted({item.source for item in items}):
        labels: dict[str, list[bool]] = {}
        for item in items:
            if item.source == source:
                labels.setdefault(item.group, []).append(item.malignant)
        groups = sorted(labels)
        malignant = np.array([np.mean(labels[group]) > 0.5 for group in groups])
        counts = np.array([len(labels[group]) for group in groups])
        median = np.where(malignant, *(np.median(counts[malignant == side]) if (malignant == side).any() else 0 for side in (True, False)))
        strata = 2 * malignant + (counts > median)
        # A stratum of one cannot be divided; its patient joins the other stratum of the class.
        for stratum in (0, 1, 2, 3):
            if (strata == stratum).sum() < 5:
                strata[strata == stratum] = stratum ^ 1
        for by in (strata, 2 * malignant):  # few patients divide by class alone
            try:
                rest, test = train_test_split(np.arange(len(groups)), test_size=0.25, random_state=seed, stratify=by)
                train, validation = train_test_split(rest, test_size=0.2, random_state=seed, stratify=by[rest])
                break
            except ValueError:
                continue
        else:
            raise click.ClickException(
                f"{source} has {len(groups)} patients, {int(malignant.sum())} of them malignant: too few to hold some out by patient."
            )
        for part, chosen in zip(PARTS, (train, validation, test), strict=True):
            parts.update({groups[index]: part for index in chosen})
    return parts


def fingerprint(parts: dict[str, Part]) -> str:
    """SHA-256 of the assignment, so that two runs can show that they hold out the same people."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
