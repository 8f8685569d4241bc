"""The baselines a network must beat: colour alone, and a linear layer on the features it started from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from train import networks
from train.data.images import Images
from train.evaluation.metrics import score
from train.evaluation.scores import autocast

Floats = npt.NDArray[np.float64]


def colour(training: Images, test: Images) -> dict[str, Any]:
    """AUROC, per source, of a logistic regression on mean and standard deviation of R, G and B: same patients, same intervals."""
    p = linear(colour_features(training), training, colour_features(test), test)
    results: dict[str, Any] = {}
    for source in np.unique(test.sources):
        own = (test.sources == source) & np.isfinite(p)
        malignant, scores, groups = test.malignant[own], p[own], test.groups[own]
        if 0 < malignant.sum() < len(malignant):
            results[str(source)] = {"auroc": score(malignant, scores, groups, 0.5)["metrics"]["auroc"]}
    return results


def linear(training_features: Floats, training: Images, test_features: Floats, test: Images, *, inverse_penalty: float = 1.0) -> Floats:
    """p(malignant) of a logistic regression fitted for each source; float64 N, NaN where a source cannot be fitted.

    Args:
        training_features: N x D.
        training: N images.
        test_features: M x D.
        test: M images.
        inverse_penalty: scikit-learn's `C`; small for many features.
    """
    p = np.full(len(test), np.nan)
    for source in np.unique(test.sources):
        own, held = training.sources == source, test.sources == source
        if 0 < training.malignant[own].sum() < own.sum():
            model = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_penalty, class_weight="balanced", max_iter=1000))
            p[held] = model.fit(training_features[own], training.malignant[own]).predict_proba(test_features[held])[:, 1]
    return p


def colour_features(images: Images) -> Floats:
    """Mean and standard deviation of R, G and B, N x 6."""
    pixels = images.pixels_nhwc_u8
    return np.concatenate([pixels.mean(axis=(1, 2)), pixels.std(axis=(1, 2), dtype=np.float32)], axis=1).astype(np.float64)


def frozen_features(model: nn.Module, name: str, images: Images, device: torch.device) -> Floats:
    """What the head of a network is given, N x D, without augmentation.

    Args:
        model: a network of `train.networks`.
        name: which.
        images: N images.
        device: where the network is.
    """
    model.eval()
    rows = []
    with torch.inference_mode(), autocast(device, True):
        for start in range(0, len(images), 64):
            batch = torch.tensor(images.pixels_nhwc_u8[start : start + 64]).to(device).permute(0, 3, 1, 2)
            rows.append(networks.features(model, name, batch.float() / 255)[1].float().cpu().numpy())
    return np.concatenate(rows).astype(np.float64)
