"""Why: explainers, one file of `explainers` each. An explainer's module has one name:

def explain(predict: PredictFn, image_hwc_u8: UInt8Image, segments: Segments, settings: Settings) -> Explanation: ...

All of them hide superpixels of the network input and look at how the probability changes. A hidden superpixel gets its
own mean colour, as the `lime` package does it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bcd_edge import plugins
from bcd_edge.explain.segments import Segments, segment
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.records import Label

# uint8 RGB, N x H x W x 3, of the network's input size, to p_malignant, float64 N.
PredictFn = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float64]]


# The package whose modules are explainers, see `bcd_edge.plugins`, and former names of theirs.
EXPLAINERS: Final = f"{__name__}.explainers"
ALIASES: Final = {"edge": "hadamard"}


@dataclass(frozen=True, slots=True)
class Settings:
    """How to explain.

    Attributes:
        label: the class whose probability is explained; by probability the likelier one if None.
        samples: perturbed images, exactly; 0 lets the explainer stop once it has converged.
        max_samples: at most so many, if `samples` is 0.
        time_budget_s: and at most for so long; 0 for no limit.
        confidence: that the order and sign of the `top` superpixels are what they seem, 0..1.
        top: superpixels whose order and sign must have converged.
        segmentation: `slic` or `quickshift`.
        segments: superpixels wanted from `slic`.
        seed: of masks and segmentation: the same seed gives the same explanation.
    """

    label: Label | None = None
    samples: int = 0
    max_samples: int = 512
    time_budget_s: float = 0.0
    confidence: float = 0.95
    top: int = 5
    segmentation: str = "slic"
    segments: int = 40
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """How each superpixel speaks for a label.

    Attributes:
        explainer: its name.
        label: the class that is explained.
        probability: of that class for the whole image, 0..1.
        segments: int, H x W of the network input: the superpixel of each pixel, 0..S-1.
        weights: float64 S, positive for the label; what the probability gains by showing the superpixel.
        standard_errors: float64 S; NaN where an explainer has none.
        samples: perturbed images that the model was asked about.
        converged: whether order and sign of the top superpixels are beyond doubt, or nothing random was drawn.
        reason: why it stopped.
        r2: of the local linear fit, weighted, or NaN.
        shrinkage: factor that the ridge penalty leaves of a weight at this number of samples, 0..1; to compare weights of
            different numbers divide by it.
        model_s: seconds inside the model; `total_s` with everything else but decoding.
    """

    explainer: str
    label: Label
    probability: float
    segments: Segments
    weights: npt.NDArray[np.float64]
    standard_errors: npt.NDArray[np.float64]
    samples: int
    converged: bool
    reason: str
    r2: float = float("nan")
    shrinkage: float = 1.0
    model_s: float = 0.0
    total_s: float = 0.0

    @property
    def order(self) -> npt.NDArray[np.intp]:
        """Superpixels, the weightiest first."""
        return by_weight(self.weights)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; superpixels the weightiest first, with their share of the image's area."""
        areas = np.bincount(self.segments.ravel(), minlength=len(self.weights)) / self.segments.size
        plain = {name: getattr(self, name) for name in ("explainer", "label", "probability", "samples", "converged", "reason")}
        numbers = {name: _number(getattr(self, name)) for name in ("r2", "shrinkage", "model_s", "total_s")}
        superpixels = [
            {
                "superpixel": int(index),
                "weight": float(self.weights[index]),
                "standard_error": _number(self.standard_errors[index]),
                "area": float(areas[index]),
            }
            for index in self.order
        ]
        return plain | numbers | {"superpixels": superpixels}


@dataclass
class CountingPredict:
    """`PredictFn` that counts images and seconds, and answers for one label."""

    predict: PredictFn
    label: Label = "malignant"
    images: int = 0
    seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def __call__(self, images_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        began = time.perf_counter()
        p = self.predict(images_nhwc_u8)
        self.seconds += time.perf_counter() - began
        self.images += len(images_nhwc_u8)
        return p if self.label == "malignant" else 1 - p

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started


def explain(predict: PredictFn, image_hwc_u8: UInt8Image, explainer: str = "hadamard", settings: Settings | None = None) -> Explanation:
    """Explains one image.

    Args:
        predict: the model, see `PredictFn`.
        image_hwc_u8: of the network's input size.
        explainer: a name from `bcd_edge.plugins.names("bcd_edge.explain.explainers")`.
        settings: how.

    Raises:
        UsageError: there is no such explainer or segmentation.
        ProviderError: the engine failed, or the package that the explainer needs is missing.
    """
    chosen = settings or Settings()
    segments = segment(image_hwc_u8, chosen.segmentation, chosen.segments, chosen.seed)
    explanation: Explanation = load(explainer).explain(predict, image_hwc_u8, segments, chosen)
    return explanation


def load(explainer: str) -> ModuleType:
    """The module of an explainer.

    Raises:
        UsageError: there is none of that name.
    """
    return plugins.load(EXPLAINERS, ALIASES.get(explainer, explainer))


def by_weight(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Superpixels in the order of the size of their weights, the largest first."""
    return np.argsort(-np.abs(weights), kind="stable")


def explained_label(p_malignant: float, wanted: Label | None) -> Label:
    """The label to explain."""
    return wanted or ("malignant" if p_malignant >= 0.5 else "benign")


def _number(value: float) -> float | None:
    """NaN is no JSON."""
    return None if np.isnan(value) else round(float(value), 6)
