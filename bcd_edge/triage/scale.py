"""How much tissue a picture shows: where the width of a pixel comes from, and whether the model was trained on such fields.

A tenth of the field is another picture, and another answer. `docs/usage.md` has the order in which the sources are asked.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bcd_edge.errors import InputError, UsageError

# µm on the slide that a pixel of a microscope or a scanner covers, from 100x with small pixels to 2x; a file that says anything else tells
# how it is printed: 72 pixels per inch are 353 µm, and 5,080 per inch are 5.
PLAUSIBLE_UM: Final = (0.05, 5.0)
# µm per pixel at an objective's power of 1: slide scanners have 0.25 µm at 40x and 0.5 µm at 20x. A camera on a microscope has a scale of its own.
UM_AT_POWER_1: Final = 10.0
# Powers of scanners' objectives; 100 is a microscope's immersion, or 10x with the eyepiece.
POWERS: Final = (1, 99)
BREAKHIS_NAME: Final = r"SOB_[BM]_[A-Z]+-\d+-\d+[A-Z]*-(?P<magnification>40|100|200|400)-\d+"
# µm per pixel of BreaKHis's 700 x 460 pictures by the magnification in their names, eyepiece included: the camera's 6.5 µm by the objective's
# power. With the relay lens of 3.3x that the paper names as well, nuclei would be 2 µm wide; see `docs/training.md`.
BREAKHIS_UM: Final = {"40": 1.625, "100": 0.65, "200": 0.325, "400": 0.1625}
BREAKHIS_COLUMNS: Final = 700


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


@dataclass(frozen=True, slots=True)
class NamePattern:
    """Where the scale stands in a file's name, by `compile_pattern`.

    Attributes:
        pattern: has a group `um_per_pixel` or `magnification`.
        widths_um: width of the field in µm by magnification, for a collection whose microscope is known.
    """

    pattern: re.Pattern[str]
    widths_um: Mapping[str, float] | None = None

    def um_per_pixel(self, name: str, width: int) -> float | None:
        """Width of a pixel on the slide in µm; None if the name does not match.

        Args:
            name: path of the picture.
            width: of the picture in pixels.

        Raises:
            InputError: what stands there is no scale.
        """
        matched = self.pattern.search(name.replace(os.sep, "/"))
        if not matched:
            return None
        if self.widths_um:
            return round(self.widths_um[matched["magnification"]] / width, 4)
        (group,) = self.pattern.groupindex.keys() & {"um_per_pixel", "magnification"}
        text = matched[group] or ""
        try:
            return um_at(text) if group == "magnification" else _um(text)
        except UsageError as error:
            raise InputError(f"The scale in its name cannot be used: {str(error)[0].lower()}{str(error)[1:]}") from None


@dataclass(frozen=True, slots=True)
class ScaleSource:
    """Where the scale of pictures comes from whose files do not tell it: from the name, else the one given for all, in µm per pixel."""

    um_per_pixel: float | None = None
    name_pattern: NamePattern | None = None

    def find(self, own_um: float | None, name: str, width: int) -> float | None:
        """Width of a pixel in µm; None if it is not known.

        Args:
            own_um: by the file.
            name: path of the picture.
            width: of the picture in pixels.

        Raises:
            InputError: the name tells a scale that cannot be.
        """
        return own_um or (self.name_pattern and self.name_pattern.um_per_pixel(name, width)) or self.um_per_pixel


def compile_pattern(text: str) -> NamePattern:
    """`breakhis`, or a regular expression that is searched for in the path, with / between folders.

    Raises:
        UsageError: it is not a regular expression, or has not exactly one of the groups `um_per_pixel` and `magnification`.
    """
    if text == "breakhis":
        return NamePattern(re.compile(BREAKHIS_NAME), {power: um * BREAKHIS_COLUMNS for power, um in BREAKHIS_UM.items()})
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UsageError(f"The pattern {text!r} is not a regular expression ({error}); correct it, or write breakhis.") from None
    if len(pattern.groupindex.keys() & {"um_per_pixel", "magnification"}) != 1:
        raise UsageError(
            f"The pattern {text!r} needs one group for the scale; write for example _(?P<magnification>[0-9]+)x, "
            "(?P<um_per_pixel>[0-9.]+)um, or breakhis."
        )
    return NamePattern(pattern)


def um_at(power: str) -> float:
    """Width of a pixel in µm as slide scanners have it at an objective's power, such as `40x`.

    Raises:
        UsageError: no scanner has such an objective.
    """
    matched = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*[xX×]?\s*", power)
    if not matched or not POWERS[0] <= float(matched[1]) <= POWERS[1]:
        raise UsageError(f"{power!r} is no slide scanner's objective; write 40x, not 400x with the eyepiece, or give the µm per pixel.")
    return round(UM_AT_POWER_1 / float(matched[1]), 4)


def plausible(um_per_pixel: float) -> float | None:
    """The width of a pixel in µm, rounded to 0.1 nm; None if no microscope has such pixels."""
    return round(um_per_pixel, 4) if PLAUSIBLE_UM[0] <= um_per_pixel < PLAUSIBLE_UM[1] else None


def _um(text: str) -> float:
    try:
        value = plausible(float(text))
    except ValueError:
        value = None
    if value is None:
        raise UsageError(f"{text!r} µm is no microscope's pixel, which has {PLAUSIBLE_UM[0]} to {PLAUSIBLE_UM[1]}; correct the name or the pattern.")
    return value
