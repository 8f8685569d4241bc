"""Inception v3 (Szegedy et al., CVPR 2016) through Mixed_7a.

It ends where the published weights that may be used here end (Google, 2015-12-05, ImageNet-1k, Apache-2.0), as `resnet50v2`
does: 1,280 pooled features, 10.7 million weights. A file of all layers is read as far.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision import models

from train.networks import Architecture

BEYOND = ("Mixed_7b.", "Mixed_7c.", "AuxLogits.", "fc.")
MEAN, STD = (128 / 255,) * 3, (128 / 255,) * 3  # Google's own (v - 128) / 128
FEATURE_RMS = 0.28  # of the pooled features with ImageNet weights: 10.16 / sqrt(1280)


def make() -> nn.Module:
    """float32 N x 3 x H x W in 0..1 to logits N x 2."""
    network = models.inception_v3(num_classes=2, aux_logits=False, transform_input=False, init_weights=True)
    network.Mixed_7b, network.Mixed_7c = nn.Identity(), nn.Identity()
    network.fc = nn.Linear(1280, 2)
    return network


def through_mixed_7a(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drops the layers that are not used, makes float16 float32, and takes pixels in 0..1.

    conv((x - mean) / std) is conv'(x) - shift with conv' = W / std; the first batch norm takes the shift as part of its mean.
    Exact, as the first convolution does not pad.
    """
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items() if not name.startswith(BEYOND)}
    weight = state["Conv2d_1a_3x3.conv.weight"] / torch.tensor(STD).view(1, 3, 1, 1)
    shift = (weight * torch.tensor(MEAN).view(1, 3, 1, 1)).sum(dim=(1, 2, 3))
    return state | {"Conv2d_1a_3x3.conv.weight": weight, "Conv2d_1a_3x3.bn.running_mean": state["Conv2d_1a_3x3.bn.running_mean"] + shift}


ARCHITECTURE = Architecture(
    make,
    models.Inception_V3_Weights.IMAGENET1K_V1,
    ("Conv2d_1a_3x3.conv", "Conv2d_1a_3x3.bn"),
    "fc",
    MEAN,
    STD,
    (
        ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
        ("Mixed_5b", "Mixed_5c", "Mixed_5d"),
        ("Mixed_6a", "Mixed_6b", "Mixed_6c"),
        ("Mixed_6d", "Mixed_6e"),
        ("Mixed_7a",),
        ("fc",),
    ),
    75,
    adapt=through_mixed_7a,
    feature_rms=FEATURE_RMS,
    citation="ImageNet-1k, by way of the initial weights through Mixed_7a: Inception v3 of Google (2015-12-05), Apache-2.0; the head is new",
)
