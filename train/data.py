"""Labelled images in memory, decoded and resized by the runtime's own code, and the augmentation of the training part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click
import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from skimage.color import hed_from_rgb, rgb_from_hed
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from bcd_edge import imaging
from bcd_edge.bundle import Input
from bcd_edge.errors import InputError
from train.sources import Item, read
from train.split import Part


@dataclass(frozen=True, slots=True)
class Images:
    """Images of one part: `pixels_nhwc_u8` uint8 RGB N x H x W x 3, `malignant` bool N, and where each came from."""

    pixels_nhwc_u8: npt.NDArray[np.uint8]
    malignant: npt.NDArray[np.bool_]
    sources: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    strata: npt.NDArray[np.str_]
    sha256: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.malignant)

    def select(self, mask: npt.NDArray[np.bool_]) -> Images:
        return Images(*(getattr(self, name)[mask] for name in self.__slots__))


def read_all(specifications: Sequence[str]) -> list[Item]:
    """The items of every `KIND=PATH`, each file content once."""
    unique = {item.sha256: item for specification in specifications for item in read(specification)}
    return sorted(unique.values(), key=lambda item: (item.source, item.name))


def decode(items: Sequence[Item], size: int) -> Images:
    """Decodes and resizes with `bcd_edge.imaging`; a damaged image ends the run, because a score must not hide it."""
    pixels = np.empty((len(items), size, size, 3), np.uint8)
    for index, item in enumerate(track(items, f"decoding {len(items)} images", transient=True)):
        try:
            pixels[index] = imaging.fit(imaging.decode(item.data), Input(size, size))
        except InputError as error:
            raise click.ClickException(f"{item.source} {item.name}: {error}") from None
    return Images(
        pixels,
        np.array([item.malignant for item in items]),
        np.array([item.source for item in items]),
        np.array([item.group for item in items]),
        np.array([f"{item.source}/{item.magnification}" if item.magnification else item.source for item in items]),
        np.array([item.sha256 for item in items]),
    )


def part(images: Images, parts: dict[str, Part], name: Part) -> Images:
    return images.select(np.array([parts[group] == name for group in images.groups]))


def class_weights(images: Images) -> npt.NDArray[np.float32]:
    """Loss weight per image, float32 N: within each source both classes weigh the same, the mean is 1.

    By source, so that no source's share of cancer becomes a prior that the network could read off its style.
    """
    weights = np.ones(len(images), np.float32)
    for source in np.unique(images.sources):
        for side in (False, True):
            own = images.sources == source
            chosen = own & (images.malignant == side)
            if chosen.any():
                weights[chosen] = own.sum() / (2 * chosen.sum())
    return weights


def sampling_weights(images: Images) -> npt.NDArray[np.float64]:
    """How often an image is drawn, float64 N: square-root sampling over sources and, within one, over patients.

    One patient has 106 images and many have one; one source has twenty times the images of another. The square root
    lies between "every image alike" and "every patient alike" (Mahajan et al., ECCV 2018, section 2.2, for labels).
    """

    def counts(keys: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
        _, inverse, count = np.unique(keys, return_inverse=True, return_counts=True)
        return np.asarray(count[inverse], np.float64)

    return 1 / np.sqrt(counts(images.sources) * counts(images.groups))


class StainJitter(v2.Transform):
    """Scales and shifts haematoxylin, eosin and residual apart in optical density (Tellez et al., IEEE TMI 2018).

    Takes and returns float32 C x H x W in 0..1. The matrices are Ruifrok & Johnston's, from scikit-image.
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma
        self.to_hed = torch.tensor(hed_from_rgb, dtype=torch.float32)
        self.to_rgb = torch.tensor(rgb_from_hed, dtype=torch.float32)

    def transform(self, inpt: Tensor, params: dict[str, object]) -> Tensor:
        scale = 1 + self.sigma * (2 * torch.rand(3) - 1)
        shift = 0.2 * self.sigma * (2 * torch.rand(3) - 1)
        # density' = (density to_hed * scale + shift) to_rgb, as one 3x3 product
        mix = (self.to_hed * scale) @ self.to_rgb
        density = -torch.log(inpt.clamp(min=1 / 255))
        moved = torch.einsum("chw,cd->dhw", density, mix) + (shift @ self.to_rgb).view(3, 1, 1)
        return torch.exp(-moved).clamp(0, 1)


def augmentation(size: int) -> v2.Transform:
    """Rotation, translation, zoom, flips and stain-colour jitter; uint8 C x H x W to float32 C x H x W in 0..1.

    Tissue has no up or left, so any angle is as real as another; reflection fills what a rotation uncovers, since
    black corners would be seen in training only.
    """
    return v2.Compose(
        [
            v2.Pad(int(0.4 * size), padding_mode="reflect"),
            v2.RandomAffine(180, translate=(0.05, 0.05), scale=(0.8, 1.5), interpolation=v2.InterpolationMode.BILINEAR),
            v2.CenterCrop(size),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            StainJitter(0.3),
            v2.ColorJitter(brightness=0.15, contrast=0.15, saturation=0.15, hue=0.02),
        ]
    )


class Augmented(Dataset[tuple[Tensor, int, float]]):
    """Training examples: float32 C x H x W in 0..1, class index, loss weight."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self.weights = class_weights(images)
        self.augment = augmentation(images.pixels_nhwc_u8.shape[1])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int, float]:
        image = torch.from_numpy(self.images.pixels_nhwc_u8[index]).permute(2, 0, 1)
        return self.augment(image), int(self.images.malignant[index]), float(self.weights[index])
