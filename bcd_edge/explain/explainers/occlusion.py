"""Occlusion: how much the probability falls when a single superpixel is hidden (Zeiler & Fergus, ECCV 2014)."""

from __future__ import annotations

import numpy as np

from bcd_edge.explain import CountingPredict, Explanation, PredictFn, Settings, explained_label
from bcd_edge.explain.segments import Segments, baseline, perturbed
from bcd_edge.readers.raster import UInt8Image


def explain(predict: PredictFn, image_hwc_u8: UInt8Image, segments: Segments, settings: Settings) -> Explanation:
    """See `bcd_edge.explain.explain`. Deterministic: one sample per superpixel and the whole image, whatever the settings."""
    counting = CountingPredict(predict)
    count = int(segments.max()) + 1
    masks = np.concatenate([np.ones((1, count), bool), ~np.eye(count, dtype=bool)])
    p = counting(perturbed(image_hwc_u8, baseline(image_hwc_u8, segments), segments, masks))
    label = explained_label(float(p[0]), settings.label)
    weights = p[0] - p[1:] if label == "malignant" else p[1:] - p[0]
    return Explanation(
        explainer="occlusion",
        label=label,
        probability=float(p[0] if label == "malignant" else 1 - p[0]),
        segments=segments,
        weights=weights,
        standard_errors=np.full(count, np.nan),
        samples=counting.images,
        converged=True,
        reason="each superpixel was hidden once",
        model_s=counting.seconds,
        total_s=counting.elapsed,
    )
