"""Where on a slide there is tissue: by optical density and colour at low resolution, with the thresholds of `bcd_edge.triage.quality`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.readers.slide import Slide
from bcd_edge.triage.quality import DENSITY, GLASS_DENSITY, LEAST_COLOUR, is_stained

# Pixels along the longer side of the picture that is looked at, at most: 12 to 24 µm each on a slide of 25 mm.
SIDE: Final = 2048
# A fold is two layers or more: so dense that a quarter of the light passes, and twice as dense as most of the tissue (Beer and Lambert).
FOLD_DENSITY, FOLD_FACTOR = 1.4, 2.0
# Brightness that is taken for the white of the glass: as in `triage.quality`, of the brightest pixels, but no darker than this.
WHITE_SHARE, DARKEST_WHITE = 98, 160
THIRDS: Final = np.full(3, 1 / 3, np.float32)

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Tissue:
    """What covers a slide at low resolution.

    Attributes:
        picture_hwc_u8: the slide, uint8 RGB, H x W x 3.
        scale: pixels of level 0 along the side of one of its pixels.
        kept: H x W, whether there is tissue to be classified.
        dirt: H x W, whether there is something else than glass and tissue: ink, dust, the rim of a bubble.
        folds: H x W, whether the tissue lies in more than one layer.
    """

    picture_hwc_u8: UInt8Image
    scale: float
    kept: Bools
    dirt: Bools
    folds: Bools


def find(slide: Slide) -> Tissue:
    """Looks at a slide at low resolution.

    Raises:
        InputError: it is damaged.
    """
    picture, scale = slide.thumbnail(SIDE)
    # noise of single pixels has any colour
    smooth = np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.0), np.uint8)
    white = np.clip(_brightest(smooth), DARKEST_WHITE, 255).astype(np.uint8)
    dense, stained, folds = _layers(smooth, white)
    return Tissue(picture, scale, dense & stained & ~folds, dense & ~stained, folds)


def _brightest(picture: UInt8Image) -> npt.NDArray[np.float64]:
    """The colour of the glass: percentile of each channel, over a sparse grid."""
    return np.asarray(np.percentile(picture[::4, ::4].reshape(-1, 3), WHITE_SHARE, axis=0), np.float64)


def _layers(picture: UInt8Image, white: UInt8Image) -> tuple[Bools, Bools, Bools]:
    """Whether each pixel is denser than glass, has the colour of H&E, and is a fold; strip by strip, because float32 takes four times the memory."""
    dense, stained = np.empty(picture.shape[:2], bool), np.empty(picture.shape[:2], bool)
    means = np.empty(picture.shape[:2], np.float32)
    for top in range(0, len(picture), 256):
        density = np.maximum(np.asarray(cv2.LUT(picture[top : top + 256], DENSITY)) - DENSITY[white], 0)
        mean = density @ THIRDS  # several times as fast as `mean` of three values
        is_stain, strength = is_stained(density)
        means[top : top + 256], dense[top : top + 256] = mean, mean > GLASS_DENSITY
        stained[top : top + 256] = is_stain & (strength > LEAST_COLOUR * 3**0.5 * mean)
    tissue = means[dense & stained]
    folds = dense & (means > max(FOLD_DENSITY, FOLD_FACTOR * float(np.median(tissue)))) if len(tissue) else np.zeros_like(dense)
    return dense, stained, folds
