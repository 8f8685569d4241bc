"""Inception v3 (Szegedy et al., CVPR 2016)."""

from __future__ import annotations

from torchvision import models

from train.networks import Architecture

# Its ImageNet weights were trained on (x - 0.5) / 0.5, which torchvision reaches by a second normalisation.
ARCHITECTURE = Architecture(
    lambda: models.inception_v3(num_classes=2, aux_logits=False, transform_input=False, init_weights=True),
    models.Inception_V3_Weights.IMAGENET1K_V1,
    ("Conv2d_1a_3x3.conv", "Conv2d_1a_3x3.bn"),
    "fc",
    (0.5, 0.5, 0.5),
    (0.5, 0.5, 0.5),
    (
        ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
        ("Mixed_5b", "Mixed_5c", "Mixed_5d"),
        ("Mixed_6a", "Mixed_6b", "Mixed_6c"),
        ("Mixed_6d", "Mixed_6e"),
        ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
        ("fc",),
    ),
    75,
)
