"""Superpixels, and images with some of them hidden."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bcd_edge.errors import UsageError
from bcd_edge.readers.raster import UInt8Image

Segments = npt.NDArray[np.intp]

ALGORITHMS = ("slic", "quickshift")
# The `lime` package's defaults for quickshift (Vedaldi & Soatto, ECCV 2008).
QUICKSHIFT = {"kernel_size": 4, "max_dist": 200, "ratio": 0.2}
# Less of either, and SLIC breaks stained tissue into crumbs and then merges them: of 22 real fields of view, 40 wanted
# superpixels became 3 to 27 with scikit-image's defaults (10, 0), one of them covering 85 % of its image; now 29 to 36, 8 %.
SLIC = {"compactness": 20.0, "sigma": 1.0}


def segment(image_hwc_u8: UInt8Image, algorithm: str, count: int, seed: int) -> Segments:
    """Superpixels of a network input: int, H x W, numbered 0..S-1 without gaps.

    Args:
        image_hwc_u8: uint8 RGB.
        algorithm: `slic` (Achanta et al., IEEE TPAMI 2012; milliseconds) or `quickshift` (the `lime` package's; slower).
        count: of superpixels wanted; `slic` comes close to it, `quickshift` decides itself.
        seed: breaks ties in `quickshift`.

    Raises:
        UsageError: there is no such algorithm.
    """
    from skimage import segmentation

    if algorithm not in ALGORITHMS:
        raise UsageError(f"{algorithm!r} is no segmentation; choose one of {', '.join(ALGORITHMS)}.")
    if algorithm == "quickshift":
        found = segmentation.quickshift(image_hwc_u8, rng=seed, **QUICKSHIFT)
    else:
        found = segmentation.slic(image_hwc_u8, n_segments=count, **SLIC, start_label=0, enforce_connectivity=True)
    return np.asarray(np.unique(found, return_inverse=True)[1].reshape(found.shape), np.intp)


def baseline(image_hwc_u8: UInt8Image, segments: Segments) -> UInt8Image:
    """Every superpixel in its own mean colour."""
    flat, numbers = image_hwc_u8.reshape(-1, 3), segments.ravel()
    sizes = np.bincount(numbers)
    means = np.stack([np.bincount(numbers, flat[:, channel]) / sizes for channel in range(3)], axis=1)
    # truncated as the package's assignment to a uint8 image truncates, so that both show the model the same picture
    return means.astype(np.uint8)[segments]


def perturbed(image_hwc_u8: UInt8Image, baseline_hwc_u8: UInt8Image, segments: Segments, shown: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Images with only some superpixels shown, uint8 N x H x W x 3, in one step.

    Args:
        image_hwc_u8: the image.
        baseline_hwc_u8: what a hidden superpixel looks like, see `baseline`.
        segments: H x W.
        shown: N x S.
    """
    # bits that differ between the two are flipped where a superpixel is shown: four times as fast as choosing pixels
    batch = np.take(np.where(shown, 255, 0).astype(np.uint8), np.repeat(segments.ravel(), 3), axis=1)
    batch &= (image_hwc_u8 ^ baseline_hwc_u8).ravel()
    batch ^= baseline_hwc_u8.ravel()
    return batch.reshape(len(shown), *image_hwc_u8.shape)
