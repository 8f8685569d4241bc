"""DenseNet-121 (Huang et al., CVPR 2017)."""

from __future__ import annotations

from torchvision import models

from train.networks import IMAGENET_MEAN, IMAGENET_STD, Architecture

ARCHITECTURE = Architecture(
    lambda: models.densenet121(num_classes=2),
    models.DenseNet121_Weights.IMAGENET1K_V1,
    ("features.conv0", "features.norm0"),
    "classifier",
    IMAGENET_MEAN,
    IMAGENET_STD,
    (
        ("features.conv0", "features.norm0"),
        *((f"features.denseblock{n}", f"features.transition{n}") for n in (1, 2, 3)),
        ("features.denseblock4", "features.norm5"),
        ("classifier",),
    ),
    32,
)
