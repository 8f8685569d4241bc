"""Camera and objective: the part of the frame that is used, its white, and its scale; remembered by the objective's name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import platformdirs

from bcd_edge.errors import UsageError
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.system.atomic import atomic_write
from bcd_edge.triage.scale import PLAUSIBLE_UM, Scale, plausible

GEOMETRY: Final = re.compile(r"(\d+)x(\d+)\+(\d+)\+(\d+)")
# Gains beyond these mean that the field was no empty glass, or the lamp no white one.
GAINS: Final = (0.25, 4.0)
# Share of the darkest pixels of empty glass that are no glass: dust and the edge of the field.
GLASS_SHARE: Final = 0.2
# Standard deviation of the rest, of 255: noise and uneven light, less than any tissue.
MOST_UNEVEN: Final = 15.0
# Width, height, left and top in pixels.
Region = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Optics:
    """What is between the slide and the classifier.

    Attributes:
        um_per_pixel: width of a camera's pixel on the slide; None if it is not known.
        region: width, height, left and top of the part of the frame that is used, in pixels; None for all of it.
        gains: factors for red, green and blue that make empty glass white; None for the camera's own colours.
        frame: width and height of the frames in which the scale holds, in pixels; None if it is not known.
    """

    um_per_pixel: float | None = None
    region: Region | None = None
    gains: tuple[float, float, float] | None = None
    frame: tuple[int, int] | None = None

    def apply(self, frame_hwc_bgr_u8: UInt8Image, scale: Scale | None = None, field_um: float = math.inf) -> UInt8Image:
        """The picture that is classified, uint8 RGB, H x W x 3.

        Where the scale is known and the picture would show more than the bundle knows, the square of `field_um` in its middle.

        Raises:
            UsageError: the region is not in the frame, or the scale is that of frames of another size.
        """
        height, width = frame_hwc_bgr_u8.shape[:2]
        return self.balance(cut(frame_hwc_bgr_u8, self.used(width, height, scale, field_um)))

    def balance(self, part_hwc_bgr_u8: UInt8Image) -> UInt8Image:
        """In colours whose glass is white, uint8 RGB."""
        rgb: cv2.typing.MatLike = cv2.cvtColor(part_hwc_bgr_u8, cv2.COLOR_BGR2RGB)
        return np.asarray(rgb if self.gains is None else cv2.LUT(rgb, _table(self.gains)), np.uint8)

    def used(self, width: int, height: int, scale: Scale | None = None, field_um: float = math.inf) -> Region:
        """The part of a frame of this size that is classified, see `apply`.

        Raises:
            UsageError: the region is not in the frame, or the scale is that of frames of another size.
        """
        if self.um_per_pixel and self.frame not in (None, (width, height)):
            raise UsageError(
                "The scale of {:g} µm per pixel holds in frames of {}x{}, and these are {}x{}; set the camera to that size, or calibrate again "
                "with a picture of this size.".format(self.um_per_pixel, *self.frame or (), width, height)
            )
        wide, high, left, top = self.region or (width, height, 0, 0)
        if left + wide > width or top + high > height:
            raise UsageError(f"The region {shown((wide, high, left, top))} is not in a frame of {width}x{height}; give another --region.")
        if not (scale and self.um_per_pixel) or math.sqrt(high * wide) * self.um_per_pixel <= scale.high_um:
            return wide, high, left, top
        side = min(high, wide, round(field_um / self.um_per_pixel))
        return side, side, left + (wide - side) // 2, top + (high - side) // 2

    def described(self) -> str:
        """Scale, region and white balance, for a reader."""
        scale = "scale not known" if self.um_per_pixel is None else f"{self.um_per_pixel:g} µm per pixel"
        if self.um_per_pixel is not None and self.frame:
            scale += " in frames of {}x{}".format(*self.frame)
        region = f"region {shown(self.region)}" if self.region else "the whole frame"
        white = "white balance {:g}, {:g}, {:g}".format(*self.gains) if self.gains else "the camera's own white"
        return f"{scale}; {region}; {white}."


def cut(frame: UInt8Image, region: Region) -> UInt8Image:
    """This part of a frame."""
    width, height, left, top = region
    return frame[top : top + height, left : left + width]


def _table(gains: tuple[float, float, float]) -> npt.NDArray[np.uint8]:
    """For `cv2.LUT`, 1 x 256 x 3."""
    table: npt.NDArray[np.uint8] = np.clip(np.rint(np.arange(256)[:, None] * np.array(gains)), 0, 255).astype(np.uint8)
    return table[None]


def white_gains(glass_hwc_rgb_u8: UInt8Image) -> tuple[float, float, float]:
    """Gains that make a picture of empty glass white: its brightest channel stays, the others come up to it.

    Raises:
        UsageError: it is too dark, overexposed, or no glass.
    """
    pixels = glass_hwc_rgb_u8.reshape(-1, 3).astype(np.float64)
    bright = pixels[pixels.sum(axis=1) >= np.quantile(pixels.sum(axis=1), GLASS_SHARE)]
    white = bright.mean(axis=0)
    if white.min() < 40 or np.median(bright) >= 254 or bright.std(axis=0).max() > MOST_UNEVEN:
        raise UsageError(
            f"The frame is no empty glass in good light (its brighter part has red, green and blue {np.round(white).astype(int).tolist()} and "
            "varies, or is at the upper end); move the slide to a place without tissue, set the lamp below overexposure, and try again."
        )
    red, green, blue = (round(float(white.max() / channel), 4) for channel in white)
    return red, green, blue


def parse_region(text: str) -> Region:
    """`1024x768+100+50`: width, height, left, top.

    Raises:
        UsageError: it is no region.
    """
    matched = GEOMETRY.fullmatch(text.strip())
    if not matched or 0 in (int(matched[1]), int(matched[2])):
        raise UsageError(f"{text!r} is no region; write WIDTHxHEIGHT+LEFT+TOP in pixels, such as 1024x768+100+50.")
    width, height, left, top = (int(part) for part in matched.groups())
    return width, height, left, top


def shown(region: Region) -> str:
    """As `parse_region` takes it."""
    return "{}x{}+{}+{}".format(*region)


def parse_gains(text: str) -> tuple[float, float, float]:
    """`1.1,1,1.3`: factors for red, green and blue.

    Raises:
        UsageError: these are no gains.
    """
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        red = green = blue = 0.0
    if not all(GAINS[0] <= gain <= GAINS[1] for gain in (red, green, blue)):
        raise UsageError(f"{text!r} is no white balance; write glass, off, or three factors from {GAINS[0]} to {GAINS[1]:g}, such as 1.1,1,1.3.")
    return red, green, blue


def presets_path() -> Path:
    """The file with what is remembered, beside the user's configuration."""
    return platformdirs.user_config_path("bcd-edge") / "objectives.json"


def remembered() -> dict[str, Optics]:
    """By the objective's name.

    Raises:
        UsageError: the file is damaged.
    """
    try:
        content: dict[str, dict[str, Any]] = json.loads(presets_path().read_bytes())
        return {name: _checked(entry) for name, entry in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise UsageError(f"The objectives in {presets_path()} could not be read ({error}); correct or remove the file.") from None


def _checked(entry: Mapping[str, Any]) -> Optics:
    region, gains, um, frame = entry["region"], entry["gains"], entry["um_per_pixel"], entry.get("frame")
    return Optics(
        None if um is None else check_um(float(um)),
        None if region is None else parse_region(region),
        None if gains is None else parse_gains(",".join(map(str, gains))),
        None if frame is None else (int(frame[0]), int(frame[1])),
    )


def check_um(um_per_pixel: float) -> float:
    """The width, rounded.

    Raises:
        UsageError: no microscope has such pixels.
    """
    width = plausible(um_per_pixel)
    if width is None:
        raise UsageError(f"{um_per_pixel:g} µm is no microscope's pixel, which has {PLAUSIBLE_UM[0]} to {PLAUSIBLE_UM[1]}; measure it again.")
    return width


def recall(name: str | None) -> Optics:
    """What is remembered under a name; the camera as it is where no name is given, or nothing is remembered yet."""
    return remembered().get(name, Optics()) if name else Optics()


def recall_known(name: str | None) -> Optics:
    """The same, for a name that is remembered.

    Raises:
        UsageError: it is not.
    """
    known = remembered() if name else {}
    if name and name not in known:
        raise UsageError(
            f"Nothing is remembered under the objective {name} (known: {', '.join(known) or 'none'}); give bcd-edge live --um-per-pixel once, or "
            f"measure it with: bcd-edge live calibrate PICTURE --objective {name}"
        )
    return known[name] if name else Optics()


def remember(name: str, optics: Optics) -> None:
    """Keeps it under this name.

    Raises:
        OSError: the file could not be written.
    """
    entries = {known: _plain(value) for known, value in (remembered() | {name: optics}).items()}
    presets_path().parent.mkdir(parents=True, exist_ok=True)
    atomic_write(presets_path(), json.dumps(entries, indent=1).encode())


def _plain(optics: Optics) -> dict[str, Any]:
    return asdict(optics) | {"region": optics.region and shown(optics.region)}


def changed(optics: Optics, um_per_pixel: float | None, region: str | None) -> Optics:
    """With what was given anew; `all` is the whole frame.

    Raises:
        UsageError: it cannot be.
    """
    if um_per_pixel is not None:
        optics = replace(optics, um_per_pixel=check_um(um_per_pixel), frame=None)
    if region is not None:
        optics = replace(optics, region=None if region == "all" else parse_region(region))
    return optics
