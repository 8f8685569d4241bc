"""Records: one per image, with the same keys in Python, JSONL and CSV (dots for nesting).

Keys are added, never renamed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

Label = Literal["benign", "malignant"]
Verdict = Literal["benign", "malignant", "review"]
# In the folder of a slide's files: all of it at low resolution, without answers.
THUMBNAIL: Final = "thumbnail.jpg"


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's result for one image.

    Attributes:
        label: `malignant` if the probability is at or above the operating threshold, else `benign`.
        p_malignant: calibrated probability, 0..1.
        decision: the label, or `review` where a pathologist must decide.
        reasons: sentences that explain the decision.
    """

    label: Label
    p_malignant: float
    decision: Verdict
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds; `decode` includes reading the file.

    In a stream, `infer` is the time of the batch divided by its images, and `total` does not include waiting.
    """

    decode: float
    resize: float
    infer: float
    total: float


@dataclass(frozen=True, slots=True)
class Execution:
    """What exactly ran: provider and device as the engine reports them, precision of the model file, the bundle
    with the SHA-256 of its manifest, the version of bcd-edge, and the requested provider, `auto` or a name.
    """

    provider: str
    device: str
    precision: str
    bundle: str
    bundle_sha256: str
    version: str
    requested: str


@dataclass(frozen=True, slots=True)
class Quality:
    """What the pixels alone say of an image, see `bcd_edge.triage.quality`.

    Attributes:
        focus: energy of the finest detail beside coarser detail, from 0.
        exposure: brightness that 2 % of the pixels reach, 0..1.
        contrast: standard deviation of brightness, 0..1.
        tissue: share of the picture that is denser than glass, 0..1.
        stain: share of its colour that is that of haematoxylin and eosin, 0..1.
        reasons: why it should not be classified; with any, the decision is `review`.
    """

    focus: float
    exposure: float
    contrast: float
    tissue: float
    stain: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SlideSummary:
    """What the answer of a whole slide is made of, see `bcd_edge.slides`.

    Attributes:
        width: of its full resolution, in pixels.
        height: of its full resolution, in pixels.
        vendor: who made the scanner, or the format's name.
        field_um: side of a tile on the slide.
        overlap: share of a tile's side that the next one overlaps, 0..1.
        tiles: number of tiles with an answer.
        benign: how many of them are benign.
        review: how many of them need review.
        malignant: how many of them are malignant.
        left_out: number of further tiles with something on them: ink, folds, blur.
        coverage: share of the tiles with something on them that have an answer, 0..1.
        aggregation: how `p_malignant` of the slide comes from its tiles.
        files: folder with tiles, regions, heat map, page and `THUMBNAIL`; of a watcher's answers below its results.
    """

    width: int
    height: int
    vendor: str
    field_um: float
    overlap: float
    tiles: int
    benign: int
    review: int
    malignant: int
    left_out: int
    coverage: float
    aggregation: str
    files: str


@dataclass(frozen=True, slots=True)
class Record:
    """One image's answer; when `status` is `failed`, `error` says why and label, probability, decision, timing and quality are None.

    `sha256` is that of the file's bytes (of the pixels, for an array), or None if they could not be read. `quality` is None too
    where it was not asked for. `novelty` is how unlike the training pictures it is, from 0; above 1 the decision is `review`; None
    where the bundle cannot tell. `um_per_pixel` is the width of a pixel on the slide in µm; None where it is not known. `kind` is `image`, or
    `slide` for a whole slide, whose `slide` says what its answer is made of, and whose decision is always `review`, or `row` for a row of a
    table (see `bcd_edge.cytology`), whose `source` is the file and the line, and whose `sha256` is that of its features.
    """

    source: str
    sha256: str | None
    status: Literal["ok", "failed"]
    error: str | None
    label: Label | None
    p_malignant: float | None
    decision: Verdict | None
    reasons: tuple[str, ...]
    timing_ms: Timing | None
    execution: Execution
    quality: Quality | None = None
    novelty: float | None = None
    um_per_pixel: float | None = None
    kind: Literal["image", "slide", "row"] = "image"
    slide: SlideSummary | None = None

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values, with the keys in documented order."""
        # not `dataclasses.asdict`: it copies what is inside one by one, in ten times as long (19 beside 1.9 microseconds)
        timing = self.timing_ms and _plain(self.timing_ms)
        quality = self.quality and _plain(self.quality)
        slide = self.slide and _plain(self.slide)
        return _plain(self) | {"timing_ms": timing, "execution": _plain(self.execution), "quality": quality, "slide": slide}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Record:
        """What `as_dict` made, also after it went through JSON."""
        timing = plain["timing_ms"] and Timing(**plain["timing_ms"])
        measures = plain.get("quality")  # none in records from before it was measured
        quality = measures and Quality(**measures | {"reasons": tuple(measures["reasons"])})
        slide = plain.get("slide")  # none in records from before slides were read
        nested = {
            "timing_ms": timing,
            "execution": Execution(**plain["execution"]),
            "quality": quality,
            "slide": slide and SlideSummary(**slide),
        }
        return cls(**plain | nested | {"reasons": tuple(plain["reasons"])})


def _plain(value: Timing | Execution | Quality | SlideSummary | Record) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}
