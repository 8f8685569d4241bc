"""How slides are classified; light, because every `predict` imports it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SlideSettings:
    """How slides are classified.

    Attributes:
        out: folder in which each slide gets one of its name.
        field_um: side of a tile in µm; `bcd_edge.slides.tiling.default_field_um` if not given.
        overlap: share of a tile's side that the next one overlaps, 0..0.75.
        um_per_pixel: width of a pixel in µm, for slides that do not tell it.
        folder: exactly where the files of one slide go, in place of `out`.
        title: the name that heat map and page show; the file's if not given.
    """

    out: Path = Path("slides")
    field_um: float | None = None
    overlap: float = 0.0
    um_per_pixel: float | None = None
    folder: Path | None = None
    title: str | None = None
