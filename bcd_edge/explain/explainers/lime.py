"""The `lime` package unchanged, with its own masks; the model evaluates them in batches."""

from __future__ import annotations

from collections.abc import Iterable
from types import FunctionType, MethodType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bcd_edge.explain import CountingPredict, Explanation, PredictFn, Settings, explained_label
from bcd_edge.explain.segments import Segments
from bcd_edge.explain.surrogate import package, shrinkage
from bcd_edge.readers.raster import UInt8Image

SAMPLES: Final = 1000
BATCH: Final = 32


def explain(predict: PredictFn, image_hwc_u8: UInt8Image, segments: Segments, settings: Settings) -> Explanation:
    """See `bcd_edge.explain.explain`. Evaluates `settings.samples` random masks, or the package's default of 1,000 if 0."""
    counting = CountingPredict(predict)
    module = package("lime_image")
    masks: list[npt.NDArray[Any]] = []

    def rows(data: Iterable[Any]) -> Iterable[Any]:
        masks.append(np.asarray(data).astype(bool))
        return data

    def probabilities(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        p = counting(images)
        return np.stack([1 - p, p], axis=1)

    explainer = module.LimeImageExplainer(random_state=settings.seed)
    # the progress bar cannot be disabled: the same code runs with another `tqdm` among its globals
    sampler = type(explainer).data_labels
    explainer.data_labels = MethodType(FunctionType(sampler.__code__, vars(module) | {"tqdm": rows}, argdefs=sampler.__defaults__), explainer)
    package_explanation = explainer.explain_instance(
        image_hwc_u8,
        probabilities,
        labels=(0, 1),
        top_labels=None,
        num_samples=settings.samples or SAMPLES,
        batch_size=BATCH,
        segmentation_fn=lambda _: segments,
    )
    whole = float(predict(image_hwc_u8[np.newaxis])[0])
    label = explained_label(whole, settings.label)
    weights = np.zeros(int(segments.max()) + 1)
    for index, weight in package_explanation.local_exp[int(label == "malignant")]:
        weights[index] = weight
    return Explanation(
        explainer="lime",
        label=label,
        probability=whole if label == "malignant" else 1 - whole,
        segments=segments,
        weights=weights,
        standard_errors=np.full(len(weights), np.nan),
        samples=counting.images,
        converged=len(weights) == 1,
        reason="the package draws a fixed number of masks and estimates no uncertainty",
        r2=float(package_explanation.score) if np.isfinite(package_explanation.score) else float("nan"),
        shrinkage=shrinkage(masks[0]),
        model_s=counting.seconds,
        total_s=counting.elapsed,
    )
