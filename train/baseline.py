"""The baseline a network must beat: colour alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from train.data import Images
from train.metrics import interval, resamples


def colour(training: Images, test: Images) -> dict[str, Any]:
    """AUROC, per source, of a logistic regression on mean and deviation of R, G and B: same patients, same intervals."""
    results: dict[str, Any] = {}
    for source in np.unique(test.sources):
        own, held = training.select(training.sources == source), test.select(test.sources == source)
        if not 0 < held.malignant.sum() < len(held) or not 0 < own.malignant.sum() < len(own):
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
        p = model.fit(_features(own), own.malignant).predict_proba(_features(held))[:, 1]
        draws = [float(roc_auc_score(held.malignant[chosen], p[chosen])) for chosen in resamples(held.malignant, held.groups, 0)]
        results[str(source)] = {"auroc": interval(float(roc_auc_score(held.malignant, p)), draws)}
    return results


def _features(images: Images) -> npt.NDArray[np.float64]:
    pixels = images.pixels_nhwc_u8
    return np.concatenate([pixels.mean(axis=(1, 2)), pixels.std(axis=(1, 2), dtype=np.float32)], axis=1)
