"""Train, validation and test: by patient, so that no person is on two sides; by image only to reproduce leaky protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import click
import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from bcd_edge import holdout
from bcd_edge.holdout import PARTS, Part
from train.data.sources import Item


@dataclass(frozen=True, slots=True)
class Split:
    """Who is where.

    Attributes:
        unit: what `parts` has as keys: `patient`, groups such as `idc/10255`; or `image`, SHA-256 of files.
        parts: key to part.
    """

    unit: Literal["patient", "image"]
    parts: dict[str, Part]

    @property
    def leaky(self) -> bool:
        """Whether images of one patient may be on two sides."""
        return self.unit == "image"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the assignment, so that two runs can show that they hold out the same people."""
        return holdout.fingerprint(self.parts)

    def part(self, item: Item) -> Part:
        """Where an item is.

        Raises:
            click.ClickException: nowhere; the split was made for other images.
        """
        key = item.group if self.unit == "patient" else item.sha256
        if key not in self.parts:
            raise click.ClickException(f"{item.source} {item.name} ({key[:40]}) is in no part of the split; use the images it was made for.")
        return self.parts[key]

    def text(self) -> str:
        """JSON, as `read` takes it."""
        return holdout.text(self.unit, self.parts)


def make(items: Sequence[Item], how: str, seed: int) -> Split:
    """`patient`, `image`, or the path of a file with a split."""
    if how == "patient":
        return Split("patient", by_patient(items, seed))
    if how == "image":
        return Split("image", by_image(items, seed))
    return read(Path(how))


def read(path: Path) -> Split:
    """Reads what `Split.text` wrote.

    Raises:
        click.ClickException: missing, not a split, or changed since it was written.
    """
    try:
        unit, parts = holdout.read(path)
    except ValueError as error:
        raise click.ClickException(f"--split {path}: {error}") from None
    return Split(unit, parts)  # type: ignore[arg-type]


def by_patient(items: Sequence[Item], seed: int) -> dict[str, Part]:
    """Assigns every patient: a quarter to test, a fifth of the others to validation, the rest to training.

    Patients are drawn stratified by their majority class and by whether they have many or few images of it, so that
    one person with a hundred images does not make up a part alone. Each source is split on its own, so that adding a
    source moves no patient of another: a network pretrained on one set never meets that set's test patients later.
    Patients whose items name a part are in that one.

    Returns:
        group (`source/patient`) to part.

    Raises:
        click.ClickException: a source has too few patients of a class to be split, or a patient's items name different parts.
    """
    parts = _fixed(items)
    for source in sorted({item.source for item in items if item.group not in parts}):
        labels: dict[str, list[bool]] = {}
        for item in items:
            if item.source == source and item.group not in parts:
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


def _fixed(items: Sequence[Item]) -> dict[str, Part]:
    """The parts of the patients whose items name one."""
    named = {(item.group, item.part) for item in items if item.part}
    parts: dict[str, Part] = dict(named)  # type: ignore[arg-type]
    if torn := sorted(group for group, part in named if parts[group] != part):
        raise click.ClickException(f"{torn[0]} is in two parts of the manifests given; export the labels again, or name a split with --split.")
    return parts


def by_image(items: Sequence[Item], seed: int) -> dict[str, Part]:
    """Assigns every image by itself, stratified by source and class, in the shares of `by_patient`: leaky on purpose.

    Returns:
        SHA-256 of the file to part.
    """
    keys = [item.sha256 for item in items]
    strata = [f"{item.source}/{item.malignant}" for item in items]
    try:
        rest, test = train_test_split(np.arange(len(keys)), test_size=0.25, random_state=seed, stratify=strata)
        train, validation = train_test_split(rest, test_size=0.2, random_state=seed, stratify=[strata[index] for index in rest])
    except ValueError as error:
        raise click.ClickException(f"--split image: too few images of a class to hold some out ({error}).") from None
    return {keys[index]: part for part, chosen in zip(PARTS, (train, validation, test), strict=True) for index in chosen}


# Draws until every fold has both classes.
ATTEMPTS: Final = 100


def folds(items: Sequence[Item], count: int, seed: int) -> list[Split]:
    """`count` splits by patient whose test parts are disjoint and cover everybody; stratified by class, source by source.

    Each fold's validation part is the next fold's test part, so every patient validates once and tests once.

    Raises:
        click.ClickException: a source has fewer patients of a class than folds.
    """
    fold_of: dict[str, int] = {}
    for source in sorted({item.source for item in items}):
        own = [item for item in items if item.source == source]
        groups = np.array([item.group for item in own])
        malignant = np.array([item.malignant for item in own])
        for side, name in ((False, "benign"), (True, "malignant")):
            if len(np.unique(groups[malignant == side])) < count:
                raise click.ClickException(f"--folds {count}: {source} has fewer than {count} patients with {name} images; ask for fewer folds.")
        for attempt in range(ATTEMPTS):  # before scikit-learn 1.8, shuffling may leave a fold without one class
            cut = list(StratifiedGroupKFold(count, shuffle=True, random_state=seed + 1000 * attempt).split(groups, malignant, groups))
            if all(len(np.unique(malignant[test])) == 2 for _, test in cut):
                break
        for number, (_, test) in enumerate(cut):
            fold_of.update(dict.fromkeys(groups[test], number))

    def part(fold: int, number: int) -> Part:
        return "test" if fold == number else "validation" if fold == (number + 1) % count else "train"

    return [Split("patient", {str(group): part(fold, number) for group, fold in fold_of.items()}) for number in range(count)]
