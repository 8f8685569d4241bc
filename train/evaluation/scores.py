"""A trained network beside its labels: logits, validation of an epoch, and the figures of a finished run."""

from __future__ import annotations

import csv
import io
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_expit
from sklearn.metrics import roc_auc_score
from torch import nn

from bcd_edge.decision import DECISIONS, DecisionRule
from train.data.images import Images, class_weights
from train.evaluation import metrics


def autocast(device: torch.device, wanted: bool) -> AbstractContextManager[Any]:
    """bfloat16 where the machine multiplies it in hardware: every CUDA GPU we support, and CPUs with AVX-512 BF16."""
    fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and fast)


def logits(model: nn.Module, images: Images, device: torch.device, *, fast: bool = False) -> npt.NDArray[np.float32]:
    """float32 N x 2 in evaluation mode; `fast` allows bfloat16, for choosing an epoch and never for a reported figure."""
    model.eval()
    results = []
    with torch.inference_mode(), autocast(device, fast):
        for start in range(0, len(images), 64):
            batch = torch.tensor(images.pixels_nhwc_u8[start : start + 64]).to(device).permute(0, 3, 1, 2)
            results.append(model(batch.float() / 255).float().cpu().numpy())
    return np.concatenate(results)


def validate(images: Images, logits_n2: npt.NDArray[np.float32]) -> dict[str, float]:
    """AUROC of each source and their mean weighted by patients, and accuracy at 0.5 and loss with classes weighed alike.

    Apart, so that telling two collections from each other does not pass for telling benign from malignant; weighted,
    so that a handful of patients does not choose the epoch alone.
    """
    difference = (logits_n2[:, 1] - logits_n2[:, 0]).astype(np.float64)
    aurocs, patients = {}, []
    for source in np.unique(images.sources):
        own = images.sources == source
        if 0 < images.malignant[own].sum() < own.sum():
            aurocs[f"auroc_{source}"] = float(roc_auc_score(images.malignant[own], difference[own]))
            patients.append(len(np.unique(images.groups[own])))
    weights = class_weights(images)
    loss = -np.average(log_expit(np.where(images.malignant, 1, -1) * difference), weights=weights)
    accuracy = np.average((difference >= 0) == images.malignant, weights=weights)
    mean = float(np.average(list(aurocs.values()), weights=patients))
    return {"auroc": mean, "validation_loss": float(loss), "accuracy": float(accuracy)} | aurocs


def score_strata(images: Images, p_malignant: npt.NDArray[np.float64], rule: DecisionRule) -> dict[str, Any]:
    """Scores per source and per magnification within one; for a source also by patient and class by class.

    A stratum with fewer than two patients of a class is left out: resampling one patient gives an interval of width
    zero, which would look like certainty.
    """
    chosen = {str(source): images.sources == source for source in np.unique(images.sources)}
    chosen |= {str(stratum): images.strata == stratum for stratum in np.unique(images.strata)}
    results: dict[str, Any] = {}
    for name, own in chosen.items():
        malignant, p, groups = images.malignant[own], p_malignant[own], images.groups[own]
        if any(len(np.unique(groups[malignant == side])) < 2 for side in (False, True)):
            continue
        decisions = rule.decide(p)
        results[name] = {
            **metrics.score(malignant, p, groups, rule.threshold),
            "review": int((decisions == DECISIONS.index("review")).sum()),
            "malignant_called_benign": int((malignant & (decisions == DECISIONS.index("benign"))).sum()),
            "p_malignant": float(p.mean()),
        }
        if name in images.sources:
            results[name] |= {
                "report": metrics.classification_report(malignant, rule.malignant(p)),
                "per_class": metrics.per_class(results[name]["confusion"]),
                "patient_level": metrics.score_patients(malignant, p, groups, rule.threshold),
            }
    return results


def brief(scores: dict[str, Any]) -> dict[str, Any]:
    """Scores of `score_strata` without what follows from the counts: a manifest is read on small machines."""
    return {name: {key: value for key, value in strata.items() if key not in ("report", "per_class")} for name, strata in scores.items()}


def predictions(images: Images, p_malignant: npt.NDArray[np.float64], *, leaky: bool = False) -> str:
    """CSV: one row an image, with what is needed to score it again elsewhere, and whether the split was by image."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["source", "patient", "sha256", "malignant", "p_malignant", "leaky"])
    for source, group, sha256, malignant, p in zip(images.sources, images.groups, images.sha256, images.malignant, p_malignant, strict=True):
        writer.writerow([source, group.partition("/")[2], sha256, int(malignant), f"{p:.6f}", int(leaky)])
    return stream.getvalue()
