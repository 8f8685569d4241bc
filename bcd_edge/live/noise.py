"""The camera's noise, from two frames of a field that stands still: it looks like fine detail, and would make a blurred picture sharp.

What differs between the frames is noise, but for a lamp that changes (the picture itself, times a factor) and a slow drift (the picture's
gradients, times the shift). A least-squares fit of these takes them out; half the energy of the rest is the noise of one frame.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from bcd_edge.readers.raster import UInt8Image
from bcd_edge.triage.quality import FINEST

# Estimates whose median is taken.
WINDOW: Final = 5
# By how much chance may make the noise of a frame stronger than its estimate: nine standard errors at 192 x 192. Where blur has left hardly any
# detail of any size, the rest of the noise would be much of it.
MARGIN: Final = 1.08
# Energy that rounding and a codec leave in the finest octave of a picture without any detail, the same in each frame: 0.12 to 0.16; that of
# sharp tissue is 1.9 or more.
LEAST: Final = 0.25
Plane = npt.NDArray[np.float32]


class Noise:
    """Takes the frames of a stream one after another.

    Attributes:
        energy: of the noise in the finest octave of detail, as `bcd_edge.triage.quality.focus` takes it; `LEAST` until it is known.
    """

    def __init__(self) -> None:
        self._before: Plane | None = None
        self._estimates: deque[float] = deque(maxlen=WINDOW)
        self.energy = LEAST

    def observe(self, grey_hw_u8: UInt8Image, *, is_still: bool) -> None:
        """Takes a frame's brightness where focus is measured, uint8 H x W; it is compared with the one before if the field stands still."""
        before, self._before = self._before, finest(grey_hw_u8.astype(np.float32))
        if not is_still or before is None or before.shape != grey_hw_u8.shape or np.array_equal(before, self._before):
            return  # a camera that gives a frame twice tells nothing
        self._estimates.append(noise_energy(before, self._before))
        self.energy = max(LEAST, MARGIN * float(np.median(self._estimates)))


def noise_energy(first: Plane, second: Plane) -> float:
    """Of one frame, from the finest octave of two frames of the same field."""
    mean, change = (first + second) / 2, second - first
    explained = [mean, *(cv2.Sobel(mean, cv2.CV_32F, across, 1 - across, ksize=1, scale=0.5) for across in (1, 0))]
    products = np.array([[np.vdot(plane, other) for other in (*explained, change)] for plane in explained], np.float64)
    factors = np.linalg.lstsq(products[:, :3], products[:, 3], rcond=None)[0]
    rest = float(np.vdot(change, change) - factors @ products[:, 3])
    return max(0.0, rest) / (2 * change.size)


def finest(plane: Plane) -> Plane:
    """The finest octave of detail."""
    return np.asarray(plane - cv2.GaussianBlur(plane, (0, 0), FINEST), np.float32)
