"""Labelled images, decoded and resized by the runtime's own code, and how often each is drawn."""

from __future__ import annotations

import io
import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import click
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from bcd_edge.readers import raster
from train.data import cache
from train.data.sources import KINDS, Item, adapter, one_class, parse_labels, read, unique
from train.data.split import Part, Split

AHEAD = 2  # batches that each worker keeps ready

Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Images:
    """Images of one part: `pixels_nhwc_u8` uint8 RGB N x H x W x 3, `malignant` bool N, and where each came from.

    `subtypes` is what a collection calls the tissue (`DC`), empty where it tells nothing, None where nobody asks. `fields_um` is the side
    of the square as large as the field of view, float64 N, NaN where it is not known.
    """

    pixels_nhwc_u8: npt.NDArray[np.uint8]
    malignant: npt.NDArray[np.bool_]
    sources: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    strata: npt.NDArray[np.str_]
    sha256: npt.NDArray[np.str_]
    subtypes: npt.NDArray[np.str_] | None = None
    fields_um: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.malignant)

    def select(self, mask: npt.NDArray[np.bool_]) -> Images:
        columns = (getattr(self, name) for name in self.__slots__)
        return Images(*(None if column is None else column[mask] for column in columns))  # type: ignore[arg-type]


def read_all(specifications: Sequence[str], magnifications: Sequence[str] = (), labels: Sequence[str] = ()) -> list[Item]:
    """The items of every `KIND=PATH`, each file content once.

    Args:
        specifications: as `train.data.sources.read` takes them.
        magnifications: such as `100X`; images of another one are left out, images without one are kept.
        labels: as `train.data.sources.parse_labels` takes them.

    Raises:
        click.ClickException: no image has one of the magnifications, or a collection has one class only.
    """
    words = parse_labels(labels)
    all_items = unique([item for specification in specifications for item in read(specification, words)])
    known = {item.magnification for item in all_items} - {""}
    if unknown := [name for name in magnifications if name not in known]:
        raise click.ClickException(f"--magnification {', '.join(unknown)}: no image has it; there are {', '.join(sorted(known)) or 'none at all'}.")
    items = [item for item in all_items if not magnifications or not item.magnification or item.magnification in magnifications]
    for source, label in one_class(items).items():
        raise click.ClickException(
            f"All images of {source} are {label}, so a network could tell the collection and not the disease; add images of the other class to it, "
            "or name the class of its folders or rows: --label NAME=CLASS."
        )
    return sorted(items, key=lambda item: (item.source, item.name))


def decode(items: Sequence[Item], size: int) -> Images:
    """Decodes and resizes with `bcd_edge.readers.raster`, or takes what an earlier run kept.

    Raises:
        click.ClickException: an image is damaged; a score must not hide it.
    """
    return Images(
        cache.pixels(items, size),
        np.array([item.malignant for item in items]),
        np.array([item.source for item in items]),
        np.array([item.group for item in items]),
        np.array([f"{item.source}/{item.magnification}" if item.magnification else item.source for item in items]),
        np.array([item.sha256 for item in items]),
        np.array([item.subtype for item in items]),
        np.array([_field_um(item) for item in items]),
    )


def _field_um(item: Item) -> float:
    """Side in µm of the square as large as the field: as the collection has it, else by the item's own scale; NaN if neither tells."""
    known: dict[str, float] = getattr(adapter(item.source), "FIELD_UM", {}) if item.source in KINDS else {}
    if item.magnification in known:
        return known[item.magnification]
    if item.um_per_pixel is None:
        return math.nan
    return item.um_per_pixel * math.sqrt(_size(item.data))


def _size(data: bytes) -> int:
    """Number of pixels."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.width * image.height
    except OSError:  # a kind that Pillow does not know without a plug-in
        height, width, _ = raster.decode(data).shape
        return height * width


def part(images: Images, split: Split, name: Part) -> Images:
    """The images of one part of a split."""
    keys = images.groups if split.unit == "patient" else images.sha256
    return images.select(np.array([split.parts[key] == name for key in keys]))


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


def sampling_weights(images: Images, labels: npt.NDArray[np.str_] | None = None) -> npt.NDArray[np.float64]:
    """How often an image is drawn, float64 N: square-root sampling over sources and, within one, over patients.

    One patient has 106 images and many have one; one source has twenty times the images of another. The square root
    lies between "every image alike" and "every patient alike" (Mahajan et al., ECCV 2018, section 2.2, for labels).

    Args:
        images: N.
        labels: subtypes, N; if given, every class of a source is drawn alike, every subtype of a class, and every patient
            of a subtype, so that the loss needs no weights: few patients with many images must not be the class.
    """

    def counts(keys: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
        _, inverse, count = np.unique(keys, return_inverse=True, return_counts=True)
        return np.asarray(count[inverse], np.float64)

    if labels is None:
        return 1 / np.sqrt(counts(images.sources) * counts(images.groups))
    classes = np.char.add(images.sources, np.where(images.malignant, "/1", "/0"))
    patients = np.char.add(np.char.add(labels, " "), images.groups)
    weights = 1 / counts(patients)
    for keys in (labels, classes, images.sources):
        _, inverse = np.unique(keys, return_inverse=True)
        weights /= np.bincount(inverse, weights)[inverse]
    return weights * np.sqrt(counts(images.sources))


def drawn(images: Images, most: int, seed: int) -> Images:
    """At most so many images, without replacement, with the sampling weights of training."""
    weights = sampling_weights(images)
    chosen = np.random.default_rng(seed).choice(len(images), min(most, len(images)), replace=False, p=weights / weights.sum())
    return images.select(np.isin(np.arange(len(images)), chosen))


class Batches:
    """Whole batches by their indices: uint8 N x 3 x H x W (a view of NHWC memory), target float32 N, loss weight float32 N.

    Nothing is decoded or augmented here: a batch is a gather, and `train.data.augment` works where the network does.

    Args:
        images: N.
        targets: one-hot subtypes, float32 N x S, in the place of benign 0 and malignant 1.
        draws: how often each image is drawn; `sampling_weights` if not given.
        device: where the pixels are kept; in the CPU's memory if not given.
    """

    def __init__(
        self,
        images: Images,
        targets: npt.NDArray[np.float32] | None = None,
        draws: npt.NDArray[np.float64] | None = None,
        device: torch.device | None = None,
    ) -> None:
        weights = class_weights(images) if targets is None else np.ones(len(images), np.float32)
        targets = images.malignant.astype(np.float32) if targets is None else targets
        self.pixels = images.pixels_nhwc_u8 if device is None else torch.tensor(images.pixels_nhwc_u8, device=device)
        self.targets, self.weights = torch.from_numpy(targets).to(device), torch.from_numpy(weights).to(device)
        self.draws = sampling_weights(images) if draws is None else draws

    def __getitem__(self, indices: list[int]) -> Batch:
        if isinstance(self.pixels, np.ndarray):
            return torch.from_numpy(self.pixels[indices]).permute(0, 3, 1, 2), self.targets[indices], self.weights[indices]
        chosen = torch.tensor(indices, device=self.pixels.device)
        return self.pixels[chosen].permute(0, 3, 1, 2), self.targets[chosen], self.weights[chosen]


class WeightedBatchSampler:
    """`batches` lists of `size` indices, drawn with replacement in proportion to `weights`."""

    def __init__(self, weights: npt.NDArray[np.float64], batches: int, size: int) -> None:
        self.weights, self.batches, self.size = torch.from_numpy(weights), batches, size

    def __iter__(self) -> Iterator[list[int]]:
        drawn = torch.multinomial(self.weights, self.batches * self.size, replacement=True)
        yield from drawn.view(self.batches, self.size).tolist()

    def __len__(self) -> int:
        return self.batches


def loader(images: Batches, batches: int, size: int, workers: int, device: torch.device) -> Iterator[Batch]:
    """An epoch of `batches` batches of `size` images; pinned memory where they are to go to a GPU and are not there yet.

    Args:
        images: drawn from as they say.
        batches: how many.
        size: images in each.
        workers: threads that gather batches ahead of their use; 0 gathers in the caller's. NumPy gives the interpreter
            lock away while it gathers, and unlike forked processes, threads are safe beside the engines' own threads.
        device: where the batches go.
    """
    sampler, pinned = WeightedBatchSampler(images.draws, batches, size), device.type == "cuda" and isinstance(images.pixels, np.ndarray)

    def gather(indices: list[int]) -> Batch:
        batch = images[indices]
        return tuple(value.pin_memory() for value in batch) if pinned else batch  # type: ignore[return-value]

    if not workers:
        yield from map(gather, sampler)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="loader") as pool:
        pending: deque[Future[Batch]] = deque()
        for indices in sampler:
            pending.append(pool.submit(gather, indices))
            if len(pending) > AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
