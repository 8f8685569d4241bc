"""A bundle beside the one that it replaces, on test patients that neither has learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from bcd_edge import bundle as reading
from bcd_edge.bundle import Bundle
from bcd_edge.decision import DecisionRule, probabilities
from export import gate
from train.data import split
from train.data.images import Images

METRICS = ("auroc", "brier")  # the rest depends on the operating threshold, and each bundle chose its own


@dataclass(frozen=True, slots=True)
class Previous:
    """The bundle to be replaced, and which test images of the new run are of patients that it has not learned from.

    Attributes:
        bundle: the bundle.
        unseen: bool N.
        held_out: the patients among them who were its test patients; the others it has never met.
    """

    bundle: Bundle
    unseen: npt.NDArray[np.bool_]
    held_out: list[str]


def load(path: Path, split_file: Path | None, fingerprint: str, test: Images) -> Previous:
    """Opens the bundle, and finds the patients on whom both can be compared.

    Where both runs held out the same people, these are all test patients. Otherwise the split of the previous run tells: who was
    in its test part, and who is not in it at all, unless that bundle was pretrained on labels, of which its split says nothing.

    Args:
        path: the previous bundle.
        split_file: `split.json` of its run.
        fingerprint: of the new run's split.
        test: the new run's test images.

    Raises:
        click.ClickException: the split is missing or another, the bundle is an ensemble of several files, or too few patients are left.
    """
    opened = reading.open(path)
    training = opened.manifest["training"]
    if opened.manifest["schema"] == 2:
        raise click.ClickException(f"--previous {path}: it is an ensemble of several files, which is not compared; leave --previous away.")
    groups = np.unique(test.groups)
    parts: Mapping[str, str] = dict.fromkeys(map(str, groups), "test")
    if training["split"]["fingerprint"] != fingerprint:
        parts = _parts(path, split_file, training)
    pretrained = any(run["before"] for run in (training, *training["ensemble"]))
    unseen = [str(group) for group in groups if parts.get(str(group), "validation" if pretrained else "test") == "test"]
    chosen = np.isin(test.groups, unseen)
    left = test.select(chosen)
    if not any(_judged(left, str(source)) for source in np.unique(left.sources)):
        raise click.ClickException(
            f"--previous {path}: neither bundle has learned from {len(unseen)} of {len(groups)} test patients, and no collection has two of each "
            "class among them, so both cannot be compared; label more patients, or leave --previous away."
        )
    return Previous(opened, chosen, [group for group in unseen if group in parts])


def _parts(path: Path, split_file: Path | None, training: Mapping[str, Any]) -> Mapping[str, str]:
    if split_file is None:
        raise click.ClickException(
            f"--previous {path}: it held out other people, so some test patients may have trained it; give the split.json of its run "
            "(--previous-split FILE), or leave --previous away."
        )
    made = split.read(split_file)
    if made.fingerprint != training["split"]["fingerprint"] or made.leaky:
        raise click.ClickException(f"--previous-split {split_file}: {path} was not trained with this split by patient; give that of its run.")
    return made.parts


def _judged(images: Images, source: str) -> bool:
    """Whether the gate judges a collection: it has two patients of each class."""
    own = images.sources == source
    return all(len(np.unique(images.groups[own & (images.malignant == side)])) >= 2 for side in (False, True))


def beside(previous: Previous, name: str, p: npt.NDArray[np.float64], test: Images, resized: Images, rule: DecisionRule) -> dict[str, Any]:
    """How a variant differs from the previous bundle's first one, as the manifest has it: AUROC and Brier score.

    Args:
        previous: of `load`.
        name: of the variant.
        p: its probabilities of the test images, N.
        test: the N test images.
        resized: the same at the previous bundle's input size.
        rule: of the new bundle.
    """
    entry, (model,) = previous.bundle.model()
    images = test.select(previous.unseen)
    p_previous = probabilities(gate.answers(model, resized.select(previous.unseen))[:, :2], previous.bundle.temperature)
    judged = gate.judge(name, p[previous.unseen], p_previous, images, rule, gate.BOUNDS)
    compared = np.unique(images.groups[np.isin(images.sources, list(judged["by_source"]))])
    return {
        "name": previous.bundle.name,
        "precision": entry["precision"],
        "images": int(np.isin(images.groups, compared).sum()),
        "patients": len(compared),
        "held_out_by_both": int(np.isin(compared, previous.held_out).sum()),
        "unjudged": judged["unjudged"],
        "difference": {metric: judged["difference"][metric] for metric in METRICS},
        "by_source": {source: {metric: values[metric] for metric in METRICS} for source, values in judged["by_source"].items()},
    }
