"""The finished runs that a bundle is made of: one, or several whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bcd_edge.decision import DecisionRule, ensemble, probabilities
from train import checkpoint, networks
from train.data import split
from train.data.images import Images, decode, drawn, part, read_all
from train.evaluation import calibration
from train.evaluation.scores import logits
from train.fit import UNSEEN

Floats = npt.NDArray[np.float64]

VALIDATION_IMAGES = 1024  # of training, where precisions are compared with each other and the run has no validation part


@dataclass(frozen=True, slots=True)
class Member:
    """One run: its network in evaluation mode, what its checkpoint says, and the images of its split at its size."""

    run: Path
    meta: dict[str, Any]
    network: nn.Module
    images: dict[split.Part, Images]
    data: Sequence[str] = ()

    @property
    def name(self) -> str:
        return f"{self.meta['settings']['network']} at {self.size}"

    @property
    def size(self) -> int:
        return int(self.meta["settings"]["size"])

    @property
    def head(self) -> str:
        """Name of the layer whose input is the embedding."""
        return networks.get_architecture(self.meta["settings"]["network"]).head

    @property
    def temperature(self) -> float:
        return float(self.meta["temperature"])

    def p(self, name: split.Part) -> Floats:
        """Probability of malignant for one part, float64 N: PyTorch in float32, calibrated."""
        return probabilities(logits(self.network, self.images[name], torch.device("cpu")), self.temperature)


def load(runs: Sequence[Path], data: Sequence[str]) -> list[Member]:
    """Reads runs that hold out the same people, with their images.

    Raises:
        click.ClickException: a run is unfinished, leaky, of other classes, or holds out other people than the first.
    """
    contents = [_finished(run) for run in runs]
    prints = {content["meta"]["split"]["fingerprint"] for content in contents}
    if len(prints) > 1:
        raise click.ClickException(
            f"{', '.join(map(str, runs))} hold out different people, so no test patient is new to all of them; train them with one --split."
        )
    members = []
    for run, content in zip(runs, contents, strict=True):
        settings = content["meta"]["settings"]
        model = networks.build(name=settings["network"], subtypes=content["meta"].get("subtypes"))
        try:
            model.load_state_dict(content["model"])
        except RuntimeError as error:
            raise click.ClickException(
                f"{run / 'best.pt'} does not hold the {settings['network']} it says ({str(error).splitlines()[-1].strip()}); train it again."
            ) from None
        where = data or settings["data"]
        images = divided(where, settings, str(run / "split.json"), content["meta"]["split"]["fingerprint"])
        if not len(images["validation"]):  # a run that was calibrated by cross-fitting kept every patient for training
            images["validation"] = drawn(images["train"], VALIDATION_IMAGES, settings["seed"])
        members.append(Member(run, content["meta"], model.eval(), images, where))
    return members


def divided(data: Sequence[str], settings: dict[str, Any], how: str, expected: str) -> dict[split.Part, Images]:
    """The images of each part, after proving that the split is the one of the run.

    Args:
        data: where the images lie now.
        settings: of the run, as its checkpoint or a manifest has them.
        how: `patient`, or the path of the run's split file.
        expected: the fingerprint of the run's split.

    Raises:
        click.ClickException: the fingerprint differs, so test patients could be training patients.
    """
    items = read_all(data, settings.get("magnification", ()), settings.get("label", ()))
    made = split.make(items, how, settings["seed"])
    if made.fingerprint != expected or not {item.group for item in items} <= set(made.parts):
        raise click.ClickException(
            "The images given are not those of the run (another split fingerprint), so test patients may have been trained on; give the same --data."
        )
    images = decode(items, settings["size"])
    return {name: part(images, made, name) for name in split.PARTS}


def resized(member: Member, size: int) -> Images:
    """A member's test images at another input size."""
    if size == member.size:
        return member.images["test"]
    return divided(member.data, member.meta["settings"] | {"size": size}, str(member.run / "split.json"), member.meta["split"]["fingerprint"])["test"]


def mean(members: Sequence[Member], name: split.Part) -> Floats:
    """The reference: the mean of the members' calibrated probabilities for one part, N."""
    return ensemble([member.p(name) for member in members])


def decision(members: Sequence[Member]) -> DecisionRule:
    """The rule of a single run as it was chosen; that of an ensemble chosen the same way on the same validation patients."""
    if len(members) == 1:
        return DecisionRule(**members[0].meta["decision"])
    answers = [_unseen(member.run) for member in members]
    sha256 = answers[0]["sha256"]
    if any(not np.array_equal(answer["sha256"], sha256) for answer in answers):
        raise click.ClickException("The runs were calibrated on different images, so no rule fits their ensemble; train them with one --split.")
    return calibration.decision(answers[0]["malignant"], ensemble([answer["p"] for answer in answers]), answers[0]["groups"])


def _unseen(run: Path) -> dict[str, npt.NDArray[Any]]:
    """What a run answered for patients that its network, or in cross-fitting one trained alike, had not seen; sorted by image."""
    try:
        with np.load(run / UNSEEN) as kept:
            order = np.argsort(kept["sha256"])
            return {name: kept[name][order] for name in kept.files}
    except OSError as error:
        raise click.ClickException(
            f"{run / UNSEEN} cannot be read ({error.strerror or error}), and an ensemble's rule is chosen by it; train the run again."
        ) from None


def _finished(run: Path) -> dict[str, Any]:
    content = checkpoint.load(run / "best.pt")
    meta = content.get("meta", {})
    if "test" not in meta:
        raise click.ClickException(f"{run} is not finished; go on with `python -m train fit --resume ...` first.")
    if meta["classes"] != list(networks.CLASSES):
        raise click.ClickException(f"{run} was trained with classes {meta['classes']}, not {list(networks.CLASSES)}; its answers would be exchanged.")
    if meta["leaky"]:
        raise click.ClickException(f"{run} was split by image, so its figures tell nothing about new patients; export a run split by patient.")
    return content
