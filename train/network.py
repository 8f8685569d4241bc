"""The network: torchvision's ResNet-50 with a two-class head, taking pixels in 0..1, and the files it is loaded from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, resnet50

CLASSES = ("benign", "malignant")

# What torchvision's ImageNet weights expect of pixels in 0..1 (torchvision.transforms.presets.ImageClassification).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def build(weights: str = "none") -> nn.Module:
    """A ResNet-50: float32 N x 3 x H x W in 0..1 to float32 logits N x 2, in the order of `CLASSES`.

    Args:
        weights: `none` (random), `imagenet` (torchvision's own, downloaded on first use), or a file: a checkpoint of
            `train fit`, or a torchvision state dict of a ResNet-50 trained on ImageNet.

    Raises:
        click.ClickException: the weights cannot be downloaded, read, or do not fit a ResNet-50.
    """
    network = resnet50(num_classes=len(CLASSES))
    if weights == "none":
        return network
    if weights == "imagenet":
        try:
            state = ResNet50_Weights.IMAGENET1K_V2.get_state_dict(progress=True, check_hash=True)
        except OSError as error:
            raise click.ClickException(
                f"--weights imagenet: the download failed ({error}); fetch resnet50-11ad3fa6.pth elsewhere and give --weights FILE."
            ) from None
        own = False
    else:
        checkpoint = load(Path(weights))
        own = {"meta", "model"} <= set(checkpoint)
        state = checkpoint["model"] if own else checkpoint
    if not own:
        state = {name: value for name, value in _without_normalisation(state, weights).items() if not name.startswith("fc.")}
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise click.ClickException(f"--weights {weights}: not a ResNet-50 ({str(error).splitlines()[-1].strip()}).") from None
    if unexpected or any(not name.startswith("fc.") for name in missing):
        raise click.ClickException(f"--weights {weights}: not the layers of a ResNet-50; give a torchvision resnet50 state dict.")
    return network


def load(path: Path) -> dict[str, Any]:
    """Reads a checkpoint or state dict without running any code in it (`weights_only`).

    Raises:
        click.ClickException: missing, truncated, or holding more than tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise click.ClickException(f"{path} does not exist; give a checkpoint, for example runs/NAME/best.pt.") from None
    except Exception as error:  # a damaged zip or pickle can raise nearly anything
        raise click.ClickException(f"{path} is no usable checkpoint ({str(error).splitlines()[0]}).") from None
    if not isinstance(content, dict):
        raise click.ClickException(f"{path} holds a {type(content).__name__}, not a state dict.")
    return content


def _without_normalisation(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Moves (x - mean) / deviation from in front of the first convolution into it, so that it takes 0..1 as it is.

    conv((x - mean) / dev) is conv'(x) - shift with conv' = W / dev; batch norm takes the shift as part of its mean.
    Exact but for the border, where zero padding now means black instead of the mean colour.
    """
    if "conv1.weight" not in state or "bn1.running_mean" not in state:
        raise click.ClickException(f"--weights {name}: not the layers of a ResNet-50; give a torchvision resnet50 state dict.")
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    scaled = state["conv1.weight"] / torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1)
    shift = (scaled * mean).sum(dim=(1, 2, 3))
    return {**state, "conv1.weight": scaled, "bn1.running_mean": state["bn1.running_mean"] + shift}
