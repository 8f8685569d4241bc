"""Nuclei of an H&E picture: haematoxylin by colour deconvolution, Otsu's threshold, watershed of the distance transform.

The working scale is `WORKING_UM` per pixel, whatever the picture has; coarser pictures than `COARSEST_UM` show no nuclei that could be measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from skimage.filters import threshold_otsu
from skimage.measure import regionprops_table
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

WORKING_UM: Final = 0.5
# A nucleus of 6 µm is 6 pixels wide at this.
COARSEST_UM: Final = 1.0
# Areas of what is taken for a nucleus: 4 µm across, a small lymphocyte cut at its edge, to 24 µm across.
LEAST_UM2, MOST_UM2 = 12.0, 450.0
# The least haematoxylin, whatever Otsu's method finds: without nuclei it divides stroma.
LEAST_HAEMATOXYLIN: Final = 0.04
# Blur against chromatin and noise, and how deep a waist divides two nuclei: half a µm.
SMOOTH_UM, WAIST_UM = 0.75, 0.5
# Fewer nuclei have no mean, and no spacing.
FEWEST: Final = 5

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Nuclei:
    """The nuclei of a picture at the working scale.

    Attributes:
        labels: H x W, 0 where there is none, else its number from 1.
        areas_um2: N.
        eccentricities: N, 0..1.
        haematoxylin: N means.
        centres_um: N x 2, row and column.
        is_whole: N, whether it does not touch the border.
    """

    labels: Labels
    areas_um2: npt.NDArray[np.float64]
    eccentricities: npt.NDArray[np.float64]
    haematoxylin: npt.NDArray[np.float64]
    centres_um: npt.NDArray[np.float64]
    is_whole: Bools


def find(haematoxylin: Floats, red: Floats, tissue: Bools) -> Nuclei:
    """Finds nuclei.

    Args:
        haematoxylin: H x W at `WORKING_UM` per pixel.
        red: H x W density of the red light, which haematoxylin absorbs: mucin and thin stroma are blue, too, but pale.
        tissue: H x W, what is darker than glass.
    """
    labels = _split(_foreground(_smooth(haematoxylin), _smooth(red), tissue))
    names = ("label", "area", "eccentricity", "mean_intensity", "centroid", "bbox")
    table = regionprops_table(labels, haematoxylin, properties=names)
    areas = table["area"] * WORKING_UM**2
    kept = (areas >= LEAST_UM2) & (areas <= MOST_UM2)
    labels[~np.isin(labels, table["label"][kept])] = 0
    height, width = labels.shape
    inside = (table["bbox-0"] > 0) & (table["bbox-1"] > 0) & (table["bbox-2"] < height) & (table["bbox-3"] < width)
    centres = np.column_stack([table["centroid-0"], table["centroid-1"]]) * WORKING_UM
    return Nuclei(labels, areas[kept], table["eccentricity"][kept], table["mean_intensity"][kept], centres[kept], inside[kept])


def _smooth(image: Floats) -> Floats:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), SMOOTH_UM / WORKING_UM), np.float32)


def _foreground(haematoxylin: Floats, red: Floats, tissue: Bools) -> Bools:
    """What is nuclear by its haematoxylin and by its darkness, without holes, specks and bridges."""
    if not tissue.any():
        return np.zeros_like(tissue)
    nuclear = tissue & (haematoxylin > max(LEAST_HAEMATOXYLIN, threshold_otsu(haematoxylin[tissue]))) & (red > threshold_otsu(red[tissue]))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_odd(2.5), _odd(2.5)))
    opened = cv2.morphologyEx(nuclear.astype(np.uint8), cv2.MORPH_OPEN, disc)
    _, holes, stats, _ = cv2.connectedComponentsWithStats(1 - opened, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < LEAST_UM2 / WORKING_UM**2
    return np.asarray((opened > 0) | small[holes], bool)


def _split(nuclear: Bools) -> Labels:
    """Numbers of nuclei from 1; those that touch are divided where there is a waist between them."""
    padded = np.pad(nuclear.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    # steps of a quarter of a pixel: the reconstruction behind it takes long on many levels
    levels = np.rint(cv2.GaussianBlur(distance, (0, 0), 1.0) * 4).astype(np.uint16)
    peaks = h_maxima(levels, max(1, round(4 * WAIST_UM / WORKING_UM)))
    _, seeds = cv2.connectedComponents((peaks & nuclear).astype(np.uint8))
    return np.asarray(watershed(-levels.astype(np.int32), seeds, mask=nuclear), np.int32)


def _odd(um: float) -> int:
    """Pixels of an odd side."""
    return 2 * math.floor(um / WORKING_UM / 2) + 1
