"""The gate: a variant beside the PyTorch reference on the same held-out test patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from bcd_edge.backends import Options, cpu
from bcd_edge.errors import BundleError
from train.calibrate import Decision, p_malignant
from train.data import Images
from train.evaluate import score_strata

# What a variant may lose; beyond it the bundle is refused.
MAX_DELTA_P_FP32 = 1e-4
MAX_AUROC_DROP = 0.005


def run(model: bytes, images: Images) -> npt.NDArray[np.float32]:
    """float32 logits N x 2 of an ONNX model in the runtime's own backend."""
    backend = cpu.open(model, Options())
    pixels = images.pixels_nhwc_u8
    try:
        return np.concatenate([backend.infer(pixels[start : start + 32]) for start in range(0, len(pixels), 32)])
    finally:
        backend.close()


def compare(
    precision: str, logits: npt.NDArray[np.float32], reference: npt.NDArray[np.float32], test: Images, temperature: float, decision: Decision
) -> tuple[dict[str, Any], list[str]]:
    """Metrics of a variant, its differences from the reference, and the reasons to refuse it (none if it passes).

    Raises:
        BundleError: the variant answers with something other than numbers.
    """
    if not np.isfinite(logits).all():
        raise BundleError(f"{precision} answers with something other than numbers for some test images; nothing was written.")
    p, p_reference = p_malignant(logits, temperature), p_malignant(reference, temperature)
    drops: dict[str, float] = {}
    for source in np.unique(test.sources):
        own = test.sources == source
        if 0 < test.malignant[own].sum() < own.sum():
            before, after = (float(roc_auc_score(test.malignant[own], values[own])) for values in (p_reference, p))
            drops[str(source)] = before - after
    difference = {
        "images": len(test),
        "max_delta_p": float(np.abs(p - p_reference).max()),
        "mean_delta_p": float(np.abs(p - p_reference).mean()),
        "auroc_drop": drops,
        "flipped": int((_decisions(p, decision) != _decisions(p_reference, decision)).sum()),
    }
    refused = [
        f"{precision} lost {drop:.4f} AUROC on {source}; at most {MAX_AUROC_DROP} is allowed"
        for source, drop in drops.items()
        if not drop <= MAX_AUROC_DROP
    ]
    if not drops:
        refused.append(f"{precision} cannot be judged: no set of test images holds both classes")
    if precision == "fp32" and not difference["max_delta_p"] <= MAX_DELTA_P_FP32:
        refused.append(f"fp32 differs by {difference['max_delta_p']:.2g} in p_malignant; at most {MAX_DELTA_P_FP32} is allowed")
    return {"difference": difference, "test": score_strata(test, p, decision)}, refused


def _decisions(p: npt.NDArray[np.float64], decision: Decision) -> npt.NDArray[np.intp]:
    """0 benign, 1 review, 2 malignant."""
    return np.digitize(p, [decision["review_low"], decision["review_high"]])
