"""Does a picture show as much tissue as those that the model was trained on? A tenth of the field is another picture, and another answer."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Fields of view that a bundle knows: sides, in µm, of the square with the area that a picture shows.

    Attributes:
        low_um: smallest.
        high_um: largest.
    """

    low_um: float
    high_um: float

    def reasons(self, height: int, width: int, um_per_pixel: float) -> tuple[str, ...]:
        """Why a picture of this size in pixels needs review, if it shows more or less than the training pictures did."""
        side_um = math.sqrt(height * width) * um_per_pixel
        if self.low_um <= side_um <= self.high_um:
            return ()
        known = f"{self.low_um:.0f} to {self.high_um:.0f} µm"
        return (f"scale: the field is {side_um:.0f} µm wide and the model was trained on {known}, needs pathologist review",)
