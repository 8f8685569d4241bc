"""Explanations of a prediction. Each file of `explainers` is an explainer; its module defines

ALIASES = ("old-name",)  # optional: other names that `--explainer` accepts and `--help` does not list
def explain(predict: PredictFn, image_hwc_u8: UInt8Image, segments: Segments, settings: Settings) -> Explanation: ...

Every explainer hides superpixels of the network input and measures how the probability changes. A hidden superpixel is
filled with its own mean colour, as in the `lime` package.
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

# Network inputs, uint8 RGB N x H x W x 3, to p_malignant, float64 N.
PredictFn = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float64]]


# The package whose modules are the explainers, see `bcd_edge.plugins`.
EXPLAINERS: Final = f"{__name__}.explainers"


@dataclass(frozen=True, slots=True)
class Settings:
    """How to explain.

    Attributes:
        label: the class whose probability is explained; the more probable one if None.
        samples: exact number of perturbed images; 0 lets the explainer stop when it has converged.
        max_samples: maximum number of perturbed images if `samples` is 0.
        time_budget_s: maximum time per image in seconds; 0 for no limit.
        confidence: level at which order and sign of the `top` superpixels must be certain, 0..1.
        top: number of superpixels whose order and sign must have converged.
        segmentation: `slic` or `quickshift`.
        segments: number of superpixels requested from `slic`.
        seed: for masks and segmentation; the same seed gives the same explanation.
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
    """How much each superpixel contributes to a label.

    Attributes:
        explainer: name of the explainer.
        label: the class that is explained.
        probability: of that class for the whole image, 0..1.
        segments: int, H x W of the network input: the superpixel of each pixel, 0..S-1.
        weights: float64 S, positive for the label; what the probability gains by showing the superpixel.
        standard_errors: float64 S; NaN where an explainer has none.
        samples: number of images that the model evaluated.
        converged: whether order and sign of the top superpixels are certain, or nothing was sampled at random.
        reason: why it stopped.
        r2: weighted R2 of the local linear fit, or NaN.
        shrinkage: factor by which the ridge penalty shrinks a weight at this number of samples, 0..1; divide by it to
            compare weights from different numbers of samples.
        model_s: seconds spent in the model.
        total_s: seconds in total, without decoding.
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
        """Indices of the superpixels by decreasing absolute weight."""
        return by_weight(self.weights)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; superpixels by decreasing absolute weight, with their share of the image's area."""
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
    """A `PredictFn` that counts images and seconds, and returns the probability of one label."""

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
        image_hwc_u8: the network input, uint8 RGB, H x W x 3.
        explainer: a name from `bcd_edge.plugins.names("bcd_edge.explain.explainers")`.
        settings: how to explain; the defaults if not given.

    Raises:
        UsageError: there is no such explainer or segmentation.
        ProviderError: the engine failed, or a package that the explainer needs is not installed.
    """
    chosen = settings or Settings()
    segments = segment(image_hwc_u8, chosen.segmentation, chosen.segments, chosen.seed)
    explanation: Explanation = load(explainer).explain(predict, image_hwc_u8, segments, chosen)
    return explanation


def load(explainer: str) -> ModuleType:
    """The module of an explainer, by its name or one of its `ALIASES`.

    Raises:
        UsageError: there is no explainer of that name.
    """
    names = plugins.names(EXPLAINERS)
    if explainer not in names:
        for module in (plugins.load(EXPLAINERS, name) for name in names):
            if explainer in getattr(module, "ALIASES", ()):
                return module
    return plugins.load(EXPLAINERS, explainer)


def by_weight(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Indices of superpixels by decreasing absolute weight."""
    return np.argsort(-np.abs(weights), kind="stable")


def explained_label(p_malignant: float, label: Label | None) -> Label:
    """The label to explain: `label` if given, else the more probable one."""
    return label or ("malignant" if p_malignant >= 0.5 else "benign")


def _number(value: float) -> float | None:
    """Rounded for JSON, which has no NaN."""
    return None if np.isnan(value) else round(float(value), 6)
