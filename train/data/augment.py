"""Augmentation of a whole batch at once on the device that trains, so that a loader has only bytes to gather.

Every random number is drawn by PyTorch's CPU generator: a seed gives the same pictures on every device.
"""

from __future__ import annotations

import math

import torch
from skimage.color import hed_from_rgb, rgb_from_hed
from torch import Tensor
from torch.nn import functional

ZOOM = (0.8, 1.5)
SHIFT = 0.05

# Ruifrok & Johnston's haematoxylin, eosin, DAB matrices (Anal. Quant. Cytol. Histol. 2001), from scikit-image.
TO_HED = torch.tensor(hed_from_rgb, dtype=torch.float32)
TO_RGB = torch.tensor(rgb_from_hed, dtype=torch.float32)


def augment(images_nchw_u8: Tensor, jitter: float, soften: float = 0.0) -> Tensor:
    """Rotation, translation, zoom, flips, loss of sharpness, stain-colour, brightness, contrast and saturation jitter.

    Args:
        images_nchw_u8: uint8 RGB, N x 3 x H x W, H = W, on any device.
        jitter: how much stains are scaled at most, 0..1; light changes half as much. Colour tells something within one
            laboratory and misleads in another, so much jitter costs accuracy here and saves some elsewhere.
        soften: share of the batch that loses sharpness, 0..1.

    Returns:
        float32, same shape, 0..1, same device.
    """
    images = images_nchw_u8.float() / 255
    return light(stain(resample(move(images), soften), jitter), jitter / 2)


def move(images: Tensor) -> Tensor:
    """Any angle, both flips, `ZOOM` and up to `SHIFT` of the side: tissue has no up or left.

    Reflection fills what a rotation uncovers; black corners would be seen in training only.
    """
    count = len(images)
    angle = (2 * torch.rand(count) - 1) * math.pi
    zoom = ZOOM[0] + (ZOOM[1] - ZOOM[0]) * torch.rand(count)
    flip = 1 - 2 * torch.randint(0, 2, (count,)).float()  # with every angle, one axis mirrors as well as two
    shift = 2 * SHIFT * (2 * torch.rand(count, 2) - 1)  # grid coordinates run from -1 to 1
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    matrix = torch.stack([torch.stack([cos * flip, -sin, shift[:, 0]], 1), torch.stack([sin * flip, cos, shift[:, 1]], 1)], 1)
    grid = functional.affine_grid(matrix.to(images.device), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def resample(images: Tensor, share: float) -> Tensor:
    """Shrinks a share of the batch to between a half and all of its side and enlarges it again.

    Some collections keep copies of one class at a lower resolution than those of the other; without this, sharpness is a label.
    """
    count = round(share * len(images))
    if not count:
        return images
    side = int(images.shape[2] * (0.5 + 0.5 * float(torch.rand(()))))
    small = functional.interpolate(images[:count], size=side, mode="bilinear", antialias=True)
    return torch.cat([functional.interpolate(small, size=images.shape[2:], mode="bilinear"), images[count:]])


def stain(images: Tensor, sigma: float) -> Tensor:
    """Scales and shifts haematoxylin, eosin and residual apart in optical density (Tellez et al., IEEE TMI 2018)."""
    scale = 1 + sigma * (2 * torch.rand(len(images), 1, 3) - 1)
    shift = 0.2 * sigma * (2 * torch.rand(len(images), 3) - 1)
    # density' = (density TO_HED * scale + shift) TO_RGB, as one 3 x 3 product
    mix = ((TO_HED * scale) @ TO_RGB).to(images.device)
    density = -torch.log(images.clamp(min=1 / 255))
    moved = torch.einsum("nchw,ncd->ndhw", density, mix) + (shift @ TO_RGB).to(images.device)[:, :, None, None]
    return torch.exp(-moved).clamp(0, 1)


def light(images: Tensor, sigma: float) -> Tensor:
    """Brightness, contrast and saturation, each by a factor of 1 +- sigma, as torchvision's `ColorJitter` blends them."""
    brightness, contrast, saturation = (1 + sigma * (2 * torch.rand(3, len(images), 1, 1, 1) - 1)).to(images.device)
    images = (images * brightness).clamp(0, 1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (mean + (images - mean) * contrast).clamp(0, 1)
    grey = images.mean(dim=1, keepdim=True)
    return (grey + (images - grey) * saturation).clamp(0, 1)


def mix(images: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mixup (Zhang et al., ICLR 2018): each image blended with another of its batch, labels and loss weights alike.

    Args:
        images: float32 N x 3 x H x W.
        target: float32 N, probability of malignant.
        weight: float32 N.
        alpha: both parameters of the beta distribution that the share is drawn from.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    other = torch.randperm(len(images)).to(images.device)
    return tuple(share * value + (1 - share) * value[other] for value in (images, target, weight))  # type: ignore[return-value]
