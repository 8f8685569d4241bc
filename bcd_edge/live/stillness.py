"""Does the picture stand still? By the change between the frames that are looked at, as the network sees them."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from bcd_edge.readers.raster import UInt8Image

# Mean absolute change of brightness beside the picture's own contrast: noise and a flickering lamp stay below 0.1, and a field that moves by a
# two-hundredth of its width changes by 0.25 to 0.7; docs/live.md has the figures.
MOST_CHANGE: Final = 0.25
# Contrast of an empty field, of 255: what is left is noise, beside which everything would be a change.
LEAST_CONTRAST: Final = 6.5


class Stillness:
    """Compares each frame with the one before.

    Attributes:
        change: by how much the last frame differs.
    """

    def __init__(self) -> None:
        self._before: npt.NDArray[np.float32] | None = None
        self.change = 0.0

    def is_still(self, input_hwc_u8: UInt8Image) -> bool:
        """Whether this frame shows what the one before showed, whatever its mean brightness; the first one moves."""
        grey = cv2.cvtColor(input_hwc_u8, cv2.COLOR_RGB2GRAY).astype(np.float32)
        grey -= grey.mean()
        before, self._before = self._before, grey
        if before is None or before.shape != grey.shape:
            return False
        self.change = float(np.abs(grey - before).mean()) / max(LEAST_CONTRAST, float(grey.std()))
        return self.change <= MOST_CHANGE
