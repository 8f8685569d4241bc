"""A ResNet of 80,000 weights, for tests of everything that is the same for every network: recipe, checkpoints, export."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from train.networks import IMAGENET_MEAN, IMAGENET_STD, Architecture


class Tiny(nn.Module):
    """ResNet-50's module names with one basic block a stage and 8 to 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.layer1, self.layer2, self.layer3, self.layer4 = _stage(8, 8), _stage(8, 16), _stage(16, 32), _stage(32, 64)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(64, 2)

    def forward(self, images: Tensor) -> Tensor:
        features = torch.relu(self.bn1(self.conv1(images)))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        logits: Tensor = self.fc(self.avgpool(features).flatten(1))
        return logits


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    if inputs == outputs:
        return nn.Sequential(BasicBlock(inputs, outputs))
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(BasicBlock(inputs, outputs, 2, shortcut))


ARCHITECTURE = Architecture(
    Tiny,
    None,
    ("conv1", "bn1"),
    "fc",
    IMAGENET_MEAN,
    IMAGENET_STD,
    (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",), ("fc",)),
    32,
)
