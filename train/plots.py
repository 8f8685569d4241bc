"""Curves and matrices of a run, as PNG files."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay, RocCurveDisplay

from train.data import Images
from train.network import CLASSES


def draw(out: Path, history: list[dict[str, float]], test: Images, p_malignant: npt.NDArray[np.float64], threshold: float) -> None:
    """Writes `history.png`, and per source of the test part `SOURCE_confusion.png` and `SOURCE_curves.png`."""
    figure, (loss, auroc) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    epochs = [row["epoch"] for row in history]
    loss.plot(epochs, [row["loss"] for row in history])
    loss.set(title="training loss", xlabel="epoch")
    for name in (key for key in history[0] if key.startswith("auroc_")):
        auroc.plot(epochs, [row[name] for row in history], label=name.removeprefix("auroc_"))
    auroc.set(title="validation AUROC", xlabel="epoch")
    auroc.legend()
    figure.savefig(out / "history.png", dpi=120)
    plt.close(figure)
    for source in np.unique(test.sources):
        own = test.sources == source
        labels, p = test.malignant[own], p_malignant[own]
        if not 0 < labels.sum() < len(labels):
            continue
        figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
        RocCurveDisplay.from_predictions(labels, p, ax=axes[0], plot_chance_level=True)
        PrecisionRecallDisplay.from_predictions(labels, p, ax=axes[1])
        CalibrationDisplay.from_predictions(labels, p, n_bins=8, strategy="quantile", ax=axes[2])
        figure.suptitle(f"{source}: {len(p)} images of {len(np.unique(test.groups[own]))} test patients")
        figure.savefig(out / f"{source}_curves.png", dpi=120)
        plt.close(figure)
        figure, axis = plt.subplots(figsize=(4.5, 4), layout="constrained")
        ConfusionMatrixDisplay.from_predictions(labels, p >= threshold, display_labels=CLASSES, ax=axis, colorbar=False)
        axis.set_title(f"{source}, at or above {threshold:.3f}")
        figure.savefig(out / f"{source}_confusion.png", dpi=120)
        plt.close(figure)
