"""ResNet-50 v2 through its third stage: pre-activation units (He et al., ECCV 2016, "Identity mappings in deep residual networks").

It ends where the published weights that may be used here end: the stem and stages 1 to 3 of the ONNX model zoo's
`resnet50-v2-7` (MXNet GluonCV, ImageNet-1k, Apache-2.0). A new, random fourth stage was tried and learned less from the
few patients there are. 1,024 pooled features, 8.5 million weights, 0.8 of the arithmetic of the whole network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from train.networks import IMAGENET_MEAN, IMAGENET_STD, Architecture

FEATURE_RMS = 0.02  # of the pooled features with ImageNet weights; a head divides by it, so that its weights are of order one


class Unit(nn.Module):
    """Bottleneck of pre-activation: norm, ReLU and convolution three times, and the input added.

    Args:
        channels: of the input.
        width: of the two inner convolutions; the output has four times as many channels.
        stride: of the 3 x 3 convolution, and of the projection.
        projected: the first unit of a stage projects its input, after norm and ReLU, to the output's shape.
    """

    def __init__(self, channels: int, width: int, stride: int, projected: bool) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, width, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3, self.conv3 = nn.BatchNorm2d(width), nn.Conv2d(width, 4 * width, 1, bias=False)
        if projected:
            self.down = nn.Conv2d(channels, 4 * width, 1, stride, bias=False)
        self.projected = projected

    def forward(self, x: Tensor) -> Tensor:
        activated = relu(self.bn1(x))
        shortcut = self.down(activated) if self.projected else x
        inner = self.conv2(relu(self.bn2(self.conv1(activated))))
        output: Tensor = self.conv3(relu(self.bn3(inner))) + shortcut
        return output


def stage(channels: int, width: int, units: int, stride: int) -> nn.Sequential:
    """`units` bottlenecks, the first of which changes resolution and channels."""
    first = Unit(channels, width, stride, projected=True)
    return nn.Sequential(first, *(Unit(4 * width, width, 1, projected=False) for _ in range(units - 1)))


class ResNet50V2(nn.Module):
    """float32 N x 3 x H x W in 0..1 to logits N x 2."""

    def __init__(self) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(3)
        self.conv0 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1, self.layer2, self.layer3 = stage(64, 64, 3, 1), stage(256, 128, 4, 2), stage(512, 256, 6, 2)
        self.norm = nn.BatchNorm2d(1024)
        self.avgpool: nn.Module = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(1024, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = max_pool2d(relu(self.bn1(self.conv0(self.bn0(x)))), 3, 2, 1)
        x = relu(self.norm(self.layer3(self.layer2(self.layer1(x)))))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def without_normalisation(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Moves (x - mean) / std from in front of `bn0` into it, exactly: its statistics become those of pixels in 0..1.

    Also float16 convolutions to float32.
    """
    mean, std, eps = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD), nn.BatchNorm2d(3).eps
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    return state | {
        "bn0.running_mean": state["bn0.running_mean"] * std + mean,
        "bn0.running_var": std**2 * (state["bn0.running_var"] + eps) - eps,
    }


ARCHITECTURE = Architecture(
    ResNet50V2,
    None,
    ("conv0", "bn1"),
    "fc",
    IMAGENET_MEAN,
    IMAGENET_STD,
    (("bn0", "conv0", "bn1"), ("layer1",), ("layer2",), ("layer3", "norm"), (), ("fc",)),
    32,
    adapt=without_normalisation,
    feature_rms=FEATURE_RMS,
    citation="ImageNet-1k, by way of the initial weights of stem and stages 1 to 3: resnet50-v2-7 of the ONNX model zoo (MXNet GluonCV), "
    "Apache-2.0; the head is new",
)
