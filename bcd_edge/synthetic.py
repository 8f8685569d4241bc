"""Synthetic H&E-like images for demos and tests: drawn by a program, they show no tissue."""

from __future__ import annotations

import cv2
import numpy as np

from bcd_edge.readers.raster import UInt8Image

# RGB colours of eosin-stained stroma and haematoxylin-stained nuclei, chosen by eye.
STROMA = np.array([232, 178, 208], np.float32)
FIBRE = np.array([206, 128, 176], np.float32)
CYTOPLASM = np.array([214, 150, 196], np.float32)
NUCLEUS = np.array([104, 62, 140], np.float32)
GLASS = np.array([244, 240, 244], np.float32)


def samples() -> dict[str, UInt8Image]:
    """Name to uint8 RGB image: three synthetic ones, 460 x 700 x 3, and a real one from scikit-image, 512 x 512 x 3."""
    from skimage import data

    return {
        "synthetic-stroma": tissue(seed=1, glands=0, scattered=90),
        "synthetic-glands": tissue(seed=2, glands=7, scattered=60),
        "synthetic-crowded": tissue(seed=3, glands=0, scattered=1100, irregular=0.6),
        "real-colon-ihc": np.asarray(data.immunohistochemistry(), np.uint8),
    }


def tissue(seed: int, *, height: int = 460, width: int = 700, glands: int = 4, scattered: int = 200, irregular: float = 0.2) -> UInt8Image:
    """Draws fibrous pink stroma with glands (a lumen ringed by nuclei) and scattered nuclei.

    Args:
        seed: the same seed gives the same image.
        height: in pixels.
        width: in pixels.
        glands: number of glands.
        scattered: number of nuclei outside glands.
        irregular: 0..1, how much nuclei vary in size, shape and darkness.

    Returns:
        uint8 RGB, `height` x `width` x 3.
    """
    random = np.random.default_rng(seed)
    canvas = _stroma(random, height, width)
    for _ in range(glands):
        centre = random.uniform((0.1 * width, 0.1 * height), (0.9 * width, 0.9 * height))
        axes = random.uniform(0.06, 0.14, 2) * min(height, width)
        angle = random.uniform(0, 180)
        _ellipse(canvas, centre, axes + 12, angle, CYTOPLASM)
        _ellipse(canvas, centre, axes - 6, angle, GLASS)
        for turn in np.arange(0, 2 * np.pi, 9 / axes.mean()):
            along = axes * (np.cos(turn), np.sin(turn))
            tilt = np.deg2rad(angle)
            offset = (along[0] * np.cos(tilt) - along[1] * np.sin(tilt), along[0] * np.sin(tilt) + along[1] * np.cos(tilt))
            _nucleus(canvas, random, centre + np.array(offset), irregular)
    for centre in random.uniform((0, 0), (width, height), (scattered, 2)):
        _nucleus(canvas, random, centre, irregular)
    blurred = cv2.GaussianBlur(canvas, (0, 0), 0.8)
    noisy = blurred + random.normal(0, 4, canvas.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _stroma(random: np.random.Generator, height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Waves along one direction, bent by low-frequency noise, which resembles collagen."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    slow = cv2.resize(random.normal(size=(5, 7)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(random.normal(size=(height, width)).astype(np.float32), (0, 0), 2)
    wave = np.sin((0.5 * x + y) / 9 + 3 * slow) * 0.5 + 3 * fine
    share = np.clip(0.4 + 0.3 * wave, 0, 1)[..., np.newaxis]
    return np.asarray(STROMA * (1 - share) + FIBRE * share, np.float32)


def _nucleus(
    canvas: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    random: np.random.Generator,
    centre: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    irregular: float,
) -> None:
    size = 5.5 * np.exp(irregular * random.normal(0, 0.5))
    axes = np.array([size, size * random.uniform(1 - 0.6 * irregular, 1) * 0.8])
    _ellipse(canvas, centre, axes, random.uniform(0, 180), NUCLEUS * (1 + irregular * random.normal(0, 0.15)))


def _ellipse(
    canvas: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    centre: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    axes: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    angle: float,
    colour: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> None:
    cv2.ellipse(canvas, (round(centre[0]), round(centre[1])), (max(1, round(axes[0])), max(1, round(axes[1]))), angle, 0, 360, colour.tolist(), -1)
