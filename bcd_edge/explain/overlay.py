"""The overlay: an explanation drawn on its image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from bcd_edge.explain import Explanation
from bcd_edge.readers.raster import UInt8Image

# Orange and blue of Okabe & Ito ("Color Universal Design", 2008): distinguishable with every kind of colour blindness, and
# unlike the pink and violet of H&E.
FOR: Final = (230, 159, 0)
AGAINST: Final = (0, 114, 178)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
# Superpixels below this share of the largest absolute weight are not coloured, so that the tissue stays visible.
MIN_SHARE: Final = 0.1
MAX_ALPHA: Final = 0.55
MIN_WIDTH: Final = 480
# So many superpixels of largest absolute weight are outlined and numbered, and listed on the page.
NUMBERED: Final = 5


def draw(image_hwc_u8: UInt8Image, explanation: Explanation, heading: Sequence[str] = ()) -> UInt8Image:
    """The image with superpixels for the label in orange and against it in blue, the top ones outlined and numbered, and a legend.

    Args:
        image_hwc_u8: uint8 RGB, H x W x 3, in original resolution; a small image is enlarged so that the legend is legible.
        explanation: the explanation of this image.
        heading: lines above the legend, such as file name and decision.

    Returns:
        uint8 RGB, with the size of image and legend together.
    """
    scale = max(1.0, MIN_WIDTH / image_hwc_u8.shape[1])
    height, width = (max(1, round(side * scale)) for side in image_hwc_u8.shape[:2])
    picture = np.asarray(cv2.resize(image_hwc_u8, (width, height), interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA), np.float32)
    segments = np.asarray(cv2.resize(explanation.segments.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST), np.int32)
    strongest = float(np.abs(explanation.weights).max(initial=0.0))
    if strongest > 0:
        share = np.abs(explanation.weights) / strongest
        alpha = np.where(share >= MIN_SHARE, MAX_ALPHA * share, 0.0).astype(np.float32)[segments][..., np.newaxis]
        colours = np.where(explanation.weights[:, np.newaxis] >= 0, FOR, AGAINST).astype(np.float32)[segments]
        picture = picture * (1 - alpha) + colours * alpha
        _outline(picture, segments, explanation)
    legend = _legend(width, explanation, heading)
    drawn = picture.clip(0, 255).astype(np.uint8)
    return np.concatenate([_numbered(drawn, segments, explanation) if strongest > 0 else drawn, legend])


def layer(explanation: Explanation, height: int, width: int) -> UInt8Image:
    """The colours and outlines alone, to be laid over the image: uint8 RGBA, `height` x `width` x 4, opaque in strong superpixels."""
    segments = np.asarray(cv2.resize(explanation.segments.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST), np.int32)
    share = np.abs(explanation.weights) / max(float(np.abs(explanation.weights).max(initial=0.0)), 1e-12)
    colours = np.where(explanation.weights[:, np.newaxis] >= 0, FOR, AGAINST)
    alpha = np.where(share >= MIN_SHARE, 255 * share, 0.0)[:, np.newaxis]
    picture = np.ascontiguousarray(np.concatenate([colours, alpha], axis=1).astype(np.uint8)[segments])
    thin = max(1, round(min(height, width) / 300))
    for index in explanation.order[:5]:
        contours, _ = cv2.findContours((segments == index).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, (255, 255, 255, 255), 3 * thin)
        cv2.drawContours(picture, contours, -1, (20, 20, 20, 255), thin)
    return picture


def _outline(picture: npt.NDArray[np.float32], segments: npt.NDArray[np.int32], explanation: Explanation) -> None:
    """Outlines the `NUMBERED` superpixels of largest absolute weight with a dark line and a light rim, visible on any tissue."""
    thin = max(1, round(min(picture.shape[:2]) / 300))
    for index in explanation.order[:NUMBERED]:
        contours, _ = cv2.findContours((segments == index).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, (255.0, 255.0, 255.0), 3 * thin)
        cv2.drawContours(picture, contours, -1, (20.0, 20.0, 20.0), thin)


def _numbered(picture: UInt8Image, segments: npt.NDArray[np.int32], explanation: Explanation) -> UInt8Image:
    """Writes the number of each outlined superpixel, as in page and JSON, at its innermost point."""
    canvas = Image.fromarray(picture)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(max(12, min(picture.shape[:2]) // 28))
    for index in explanation.order[:NUMBERED]:
        inside = cv2.distanceTransform(np.pad((segments == index).astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        y, x = np.unravel_index(int(inside.argmax()), inside.shape)
        pen.text((int(x), int(y)), str(index), fill="black", font=font, anchor="mm", stroke_width=2, stroke_fill="white")
    return np.asarray(canvas, np.uint8)


def _legend(width: int, explanation: Explanation, heading: Sequence[str]) -> UInt8Image:
    size = max(12, min(22, width // 36))
    font = ImageFont.load_default(size)
    outcome = "converged" if explanation.converged else "NOT CONVERGED: other samples could give another result"
    sentences = [
        *heading,
        f"explained: {explanation.label}, p = {explanation.probability:.3f}",
        f"{explanation.explainer}, {explanation.samples} samples, {outcome}",
    ]
    lines = [line for sentence in sentences for line in _wrapped(sentence, font, width - size)]
    step = round(1.5 * size)
    canvas = Image.new("RGB", (width, step * (len(lines) + 1) + size), "white")
    pen = ImageDraw.Draw(canvas)
    for row, line in enumerate(lines):
        pen.text((size // 2, size // 2 + row * step), line, fill="black", font=font)
    at, top = size // 2, size // 2 + len(lines) * step
    for colour, word in ((FOR, f"speaks for {explanation.label}"), (AGAINST, "against")):
        pen.rectangle((at, top, at + size, top + size), fill=colour)
        pen.text((at + round(1.4 * size), top), word, fill="black", font=font)
        at += round(2.6 * size + pen.textlength(word, font=font))
    return np.asarray(canvas, np.uint8)


def _wrapped(sentence: str, font: Font, width: int) -> list[str]:
    """The lines of a sentence, none wider than `width` pixels."""
    lines = [""]
    for word in sentence.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines += [_shortened(word, font, width)]
    return [line for line in lines if line]


def _shortened(word: str, font: Font, width: int) -> str:
    """Shortens a word that is too long in the middle, because the end of a file name says more."""
    if font.getlength(word) <= width:
        return word
    keep = len(word)
    while keep > 4 and font.getlength(word[: keep // 2] + "..." + word[-keep // 2 :]) > width:
        keep -= 2
    return word[: keep // 2] + "..." + word[-keep // 2 :]
