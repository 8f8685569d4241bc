"""The networks: torchvision's, with a two-class head, taking pixels in 0..1, and the files they are loaded from.

A file of this package is a network; it has one name: `ARCHITECTURE`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from bcd_edge import plugins
from train import checkpoint
from train.subtypes import SubtypeHead

CLASSES = ("benign", "malignant")


@dataclass(frozen=True, slots=True)
class Architecture:
    """What training has to know of a network.

    Attributes:
        make: builds it with random weights and a two-class head.
        imagenet: torchvision's weights for it.
        first: names of the first convolution and of the batch norm behind it.
        head: name of the last linear layer.
        mean: subtracted from pixels in 0..1 by who trained the ImageNet weights; three values.
        std: what they divided by.
        stages: prefixes of parameter names of each of `train.choices.STAGES`, from the input to the head.
        smallest: least side of the input, pixels.
        adapt: published weights to ours, for a network that is not torchvision's.
        citation: of the published weights: where they are from, which layers they fill, and their terms.
        feature_rms: root mean square of what the head is given, with ImageNet weights.
    """

    make: Callable[[], nn.Module]
    imagenet: Any
    first: tuple[str, str]
    head: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stages: tuple[tuple[str, ...], ...]
    smallest: int
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    feature_rms: float = 1.0
    citation: str = ""

    def stage(self, parameter: str) -> int:
        """Index into `train.choices.STAGES` of the stage that holds a parameter or module of this name."""
        names = [name + "." for stage in self.stages for name in stage]
        prefix = max((name for name in names if (parameter + ".").startswith(name)), key=len)
        return next(index for index, stage in enumerate(self.stages) if prefix[:-1] in stage)


# torchvision.transforms.presets.ImageClassification
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def get_architecture(name: str) -> Architecture:
    """The `ARCHITECTURE` of the network of this name.

    Raises:
        UsageError: there is none of that name.
    """
    architecture: Architecture = plugins.load(__name__, name).ARCHITECTURE
    return architecture


def build(init: str = "none", name: str = "resnet50", subtypes: Mapping[str, bool] | None = None, dropout: float = 0.0) -> nn.Module:
    """A network: float32 N x 3 x H x W in 0..1 to float32 logits N x 2, in the order of `CLASSES`.

    Args:
        init: `none` (random), `imagenet` (torchvision's own, downloaded on first use), or a file: a checkpoint of
            `train fit` or `train pretrain`, or a state dict trained on ImageNet (torch or safetensors).
        name: a module of this package.
        subtypes: for a `train.subtypes.SubtypeHead` in the place of two logits.
        dropout: of that head.

    Raises:
        click.ClickException: the weights cannot be downloaded, read, or do not fit the network.
    """
    architecture = get_architecture(name)
    network = architecture.make()
    if subtypes:
        width = int(network.get_submodule(architecture.head).in_features)  # type: ignore[arg-type]
        setattr(network, architecture.head, SubtypeHead(width, subtypes, architecture.feature_rms, dropout))
    if init == "none":
        return network
    state = _download(architecture) if init == "imagenet" else checkpoint.load(Path(init))
    if {"meta", "model"} <= set(state):
        made = state["meta"]["settings"].get("network", "resnet50")
        if made != name:
            raise click.ClickException(f"The initial weights {init}: trained as {made}, not {name}; give --network {made}.")
        state = state["model"]
    else:
        state = _published(state, architecture, init, name)
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise click.ClickException(f"The initial weights {init}: not a {name} ({str(error).splitlines()[-1].strip()}).") from None
    if unexpected or any(not key.startswith(architecture.head + ".") for key in missing):
        raise click.ClickException(f"The initial weights {init}: not the layers of a {name}; give a torchvision {name} state dict.")
    return network


def of_imagenet(init: str) -> bool:
    """Whether initial weights, as `build` takes them, come from ImageNet and not from a run of ours or from nowhere."""
    return init == "imagenet" or (init != "none" and "meta" not in checkpoint.load(Path(init)))


def features(network: nn.Module, name: str, images_nchw: Tensor) -> tuple[Tensor, Tensor]:
    """Logits N x 2, and what the head was given, N x D: the pooled features."""
    kept: list[Tensor] = []
    hook = network.get_submodule(get_architecture(name).head).register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    try:
        logits = network(images_nchw)
    finally:
        hook.remove()
    return logits, kept[0]


def _download(architecture: Architecture) -> dict[str, Any]:
    if architecture.imagenet is None:
        raise click.ClickException("--init imagenet: torchvision has no weights of this network; give the file of somebody who published them.")
    try:
        state: dict[str, Any] = architecture.imagenet.get_state_dict(progress=True, check_hash=True)
        return state
    except OSError as error:
        file = architecture.imagenet.url.rpartition("/")[2]
        raise click.ClickException(f"--init imagenet: the download failed ({error}); fetch {file} elsewhere and give --init FILE.") from None


def _published(state: dict[str, Any], architecture: Architecture, init: str, name: str) -> dict[str, Any]:
    """Weights as somebody published them, for pixels in 0..1 and without a head."""
    if architecture.adapt is None:
        return _torchvision_names(_without_normalisation(state, architecture, init, name), architecture)
    try:
        return architecture.adapt(state)
    except KeyError as error:
        raise click.ClickException(f"The initial weights {init}: not the layers of a {name} (no {error.args[0]}).") from None


def _torchvision_names(state: dict[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Without head and auxiliary classifier; DenseNet's published file has names of before PyTorch 0.4 (`norm.1`)."""
    renamed = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name): value for name, value in state.items()}
    return {name: value for name, value in renamed.items() if not name.startswith((architecture.head + ".", "AuxLogits."))}


def _without_normalisation(state: dict[str, Tensor], architecture: Architecture, init: str, name: str) -> dict[str, Tensor]:
    """Moves (x - mean) / std from in front of the first convolution into it, so that it takes 0..1 as it is.

    conv((x - mean) / std) is conv'(x) - shift with conv' = W / std; batch norm takes the shift as part of its mean.
    Exact but for the border, where zero padding now means black instead of the mean colour.
    """
    convolution, norm = (f"{architecture.first[0]}.weight", f"{architecture.first[1]}.running_mean")
    if convolution not in state or norm not in state:
        raise click.ClickException(f"The initial weights {init}: not the layers of a {name}; give a torchvision {name} state dict.")
    mean = torch.tensor(architecture.mean).view(1, 3, 1, 1)
    scaled = state[convolution] / torch.tensor(architecture.std).view(1, 3, 1, 1)
    shift = (scaled * mean).sum(dim=(1, 2, 3))
    return {**state, convolution: scaled, norm: state[norm] + shift}
