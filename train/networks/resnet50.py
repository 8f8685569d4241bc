"""ResNet-50 (He et al., CVPR 2016)."""

from __future__ import annotations

from torchvision import models

from train.networks import IMAGENET_MEAN, IMAGENET_STD, Architecture

ARCHITECTURE = Architecture(
    lambda: models.resnet50(num_classes=2),
    models.ResNet50_Weights.IMAGENET1K_V2,
    ("conv1", "bn1"),
    "fc",
    IMAGENET_MEAN,
    IMAGENET_STD,
    (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",), ("fc",)),
    32,
)
