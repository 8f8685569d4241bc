"""One picture to its features; what cannot be measured is None."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from skimage.color import hed_from_rgb
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import label, regionprops_table

from bcd_edge.cohort import nuclei
from bcd_edge.cohort.dictionary import NAMES
from bcd_edge.cohort.nuclei import COARSEST_UM, FEWEST, WORKING_UM, Floats, Nuclei
from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.triage.quality import GLASS_DENSITY

Features = dict[str, float | None]
Bools = npt.NDArray[np.bool_]

# The glass's colour, as in `bcd_edge.triage.quality`: what 2 % of the pixels reach, and no darker than this.
WHITE_SHARE, DARKEST_WHITE = 98, 160
# Glass in `triage.quality` is told by natural logarithms; densities here are of base 10.
GLASS: Final = GLASS_DENSITY / math.log(10)
# Tissue in mm² below which counts by area mean nothing.
LEAST_MM2: Final = 0.002
# Around a place: sigma of the Gaussian, and the share of nuclei that makes it rich in cells.
AROUND_UM, CELL_RICH = 10.0, 0.2
# Fat cells: diameters, and share of the convex hull.
FAT_UM, FAT_SOLIDITY = (20.0, 150.0), 0.8
# Texture: pixel in µm, levels, and distances in pixels.
TEXTURE_UM, LEVELS, DISTANCES = 1.0, 32, (1, 4)
# Most pixels at the working scale: 2 x 2 mm; what is larger is a slide.
MOST_PIXELS: Final = 16_000_000


def measure(image_hwc_u8: UInt8Image, um_per_pixel: float | None) -> Features:
    """The features of a picture that are measured on its pixels, in the dictionary's order; the others are None.

    Args:
        image_hwc_u8: uint8 RGB, H x W x 3.
        um_per_pixel: width of a pixel on the slide in µm; None where it is not known, and with it what needs the scale.
    """
    features: Features = dict.fromkeys(NAMES)
    white = _white(image_hwc_u8)
    features |= {"um_per_pixel": um_per_pixel, "white_tint": float(white[0] - white[1])}
    height, width = image_hwc_u8.shape[:2]
    is_scaled = um_per_pixel is not None and height * width * (um_per_pixel / WORKING_UM) ** 2 <= MOST_PIXELS
    if um_per_pixel is None or not is_scaled:
        return features | _stains(density(image_hwc_u8))
    features["field_mm2"] = height * width * um_per_pixel**2 / 1e6
    if um_per_pixel > COARSEST_UM:
        return features | _stains(density(image_hwc_u8))
    densities = density(_at(image_hwc_u8, um_per_pixel, WORKING_UM))
    features |= _stains(densities) | _texture(density(_at(image_hwc_u8, um_per_pixel, TEXTURE_UM)))
    tissue = densities.mean(axis=2) > GLASS
    return features | _nuclei(nuclei.find(_hed(densities)[..., 0], densities[..., 0], tissue), tissue)


def density(image_hwc_u8: UInt8Image) -> Floats:
    """Optical density of base 10 beside the picture's own white, H x W x 3, from 0; so a dim lamp is no stain."""
    white = np.clip(_white(image_hwc_u8), DARKEST_WHITE, 255)
    table = -np.log10((np.arange(256)[:, np.newaxis] + 1) / (white + 1))
    channels = [np.maximum(table[:, channel], 0).astype(np.float32)[image_hwc_u8[..., channel]] for channel in range(3)]
    return np.stack(channels, axis=2)


def _white(image_hwc_u8: UInt8Image) -> npt.NDArray[np.float64]:
    """Red, green and blue that 2 % of the pixels reach."""
    return np.asarray(np.percentile(image_hwc_u8[::2, ::2].reshape(-1, 3), WHITE_SHARE, axis=0), np.float64)


def _at(image_hwc_u8: UInt8Image, um_per_pixel: float, wanted_um: float) -> UInt8Image:
    """The picture at another scale."""
    height, width = (max(8, round(side * um_per_pixel / wanted_um)) for side in image_hwc_u8.shape[:2])
    method = cv2.INTER_AREA if wanted_um > um_per_pixel else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image_hwc_u8, (width, height), interpolation=method), np.uint8)


def _hed(densities: Floats) -> Floats:
    """Densities of haematoxylin, eosin and the rest, H x W x 3: those whose mixture, by the stains' vectors, is the colour."""
    return np.asarray(np.maximum(densities @ hed_from_rgb.astype(np.float32), 0), np.float32)


def _stains(densities: Floats) -> Features:
    tissue = densities.mean(axis=2) > GLASS
    if not tissue.any():
        return {}
    haematoxylin, eosin, _ = _hed(densities[tissue]).mean(axis=0)
    return {"haematoxylin_mean": float(haematoxylin), "eosin_mean": float(eosin)}


def _texture(densities: Floats) -> Features:
    levels = np.clip(densities.mean(axis=2) * LEVELS, 0, LEVELS - 1).astype(np.uint8)
    matrix = graycomatrix(levels, DISTANCES, [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4], LEVELS, symmetric=True, normed=True)
    return {
        f"texture_{name}_{distance}um": float(value)
        for name in ("contrast", "correlation", "homogeneity")
        for distance, value in zip(DISTANCES, graycoprops(matrix, name).mean(axis=1), strict=True)
    }


def _nuclei(found: Nuclei, tissue: Bools) -> Features:
    nuclear = found.labels > 0
    fat = _round(~tissue)
    shares, rest = _shares(nuclear, tissue, fat), float((tissue | nuclear).sum()) * WORKING_UM**2 / 1e6
    count = len(found.areas_um2)
    by_area: Features = (
        {"nuclei_density": count / rest, "nuclei_share": float(nuclear.sum()) * WORKING_UM**2 / 1e6 / rest} if rest > LEAST_MM2 else {}
    )
    return {"nuclei_count": float(count)} | by_area | _shapes(found) | shares


def _shapes(found: Nuclei) -> Features:
    """Means and variation over nuclei, where there are enough."""
    if found.is_whole.sum() < FEWEST:
        return {}
    areas, haematoxylin = found.areas_um2[found.is_whole], found.haematoxylin[found.is_whole]
    return {
        "nucleus_area_mean": float(areas.mean()),
        "nucleus_area_cv": float(areas.std(ddof=1) / areas.mean()),
        "nucleus_eccentricity_mean": float(found.eccentricities[found.is_whole].mean()),
        "nucleus_haematoxylin_mean": float(haematoxylin.mean()),
        "nucleus_haematoxylin_cv": float(haematoxylin.std(ddof=1) / haematoxylin.mean()),
        "nuclei_spacing": _spacing(found.centres_um),
    }


def _spacing(centres_um: npt.NDArray[np.float64]) -> float:
    from scipy.spatial import cKDTree

    distances, _ = cKDTree(centres_um).query(centres_um, k=2)
    return float(np.median(distances[:, 1]))


def _shares(nuclear: Bools, tissue: Bools, fat: Bools) -> Features:
    """Shares of the picture, whose sum is 1."""
    covered = cv2.GaussianBlur(nuclear.astype(np.float32), (0, 0), AROUND_UM / WORKING_UM)
    matter = tissue | nuclear
    cells = matter & (np.asarray(covered) >= CELL_RICH)
    kinds = {"cell_rich": cells, "stroma": matter & ~cells, "fat": fat & ~matter, "blank": ~matter & ~fat}
    return {f"{name}_share": float(mask.mean()) for name, mask in kinds.items()}


def _round(empty: Bools) -> Bools:
    """Empty areas of the size and shape of fat cells."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    regions = label(cv2.morphologyEx(empty.astype(np.uint8), cv2.MORPH_OPEN, disc), connectivity=1)
    low, high = (math.pi * (diameter / 2 / WORKING_UM) ** 2 for diameter in FAT_UM)
    areas = np.bincount(regions.ravel())
    sized = (areas >= low) & (areas <= high)
    sized[0] = False
    regions[~sized[regions]] = 0
    table = regionprops_table(regions, properties=("label", "solidity", "bbox"))
    height, width = regions.shape
    spans = (table["bbox-2"] - table["bbox-0"] == height) | (table["bbox-3"] - table["bbox-1"] == width)  # an empty field is no cell
    return np.isin(regions, table["label"][(table["solidity"] >= FAT_SOLIDITY) & ~spans])
