"""Curves and matrices of a run, as PNG files."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay, RocCurveDisplay

from train.data.images import Images
from train.networks import CLASSES


def draw(
    out: Path,
    history: list[dict[str, float]],
    test: Images,
    p_malignant: npt.NDArray[np.float64],
    threshold: float,
    *,
    kept: int | None = None,
    leaky: bool = False,
) -> None:
    """Writes `history.png`, and per source of the test part with both classes `SOURCE_confusion.png` and `SOURCE_curves.png`.

    Args:
        out: the run's folder.
        history: a row per epoch; whatever it has of losses, accuracies and AUROCs is drawn.
        test: N images.
        p_malignant: N calibrated probabilities, 0..1.
        threshold: of the confusion matrices.
        kept: the epoch whose weights were kept, marked in the curves.
        leaky: the split was by image; every title says so, since a picture travels without its page.
    """
    warning = "LEAKY (split by image), " if leaky else ""
    _history(out / "history.png", history, kept, warning)
    for source in np.unique(test.sources):
        own = test.sources == source
        labels, p = test.malignant[own], p_malignant[own]
        if not 0 < labels.sum() < len(labels):
            continue
        title = f"{warning}{source}: {len(p)} images of {len(np.unique(test.groups[own]))} test patients"
        _curves(out / f"{source}_curves.png", labels, p, title)
        _confusion(out / f"{source}_confusion.png", labels, p >= threshold, f"{warning}{source}, at or above {threshold:.3f}")


def _history(path: Path, history: list[dict[str, float]], kept: int | None, warning: str) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    names = list(dict.fromkeys(key for row in history for key in row))
    aurocs = {name: name.removeprefix("auroc_") for name in names if name.startswith("auroc_")}
    _lines(axes[0], "loss", history, {"loss": "train", "validation_loss": "validation"}, kept)
    _lines(axes[1], "accuracy", history, {"train_accuracy": "train", "accuracy": "validation"}, kept)
    _lines(axes[2], "validation AUROC", history, aurocs or {"auroc": "all"}, kept)
    if warning:
        figure.suptitle(warning.rstrip(", "))
    _save(figure, path)


def _lines(axis: Axes, title: str, history: list[dict[str, float]], labels: dict[str, str], kept: int | None) -> None:
    """One line per column that the history has; a run begun with an older version has fewer."""
    for name, label in labels.items():
        points = [(row["epoch"], row[name]) for row in history if name in row]
        if points:
            axis.plot(*zip(*points, strict=True), label=label, marker="o", markersize=3)
    if kept is not None:
        axis.axvline(kept, color="grey", linestyle=":", label=f"kept: epoch {kept}")
    axis.set(title=title, xlabel="epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend()


def _curves(path: Path, labels: npt.NDArray[np.bool_], p: npt.NDArray[np.float64], title: str) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
    RocCurveDisplay.from_predictions(labels, p, ax=axes[0], name="network", plot_chance_level=True)
    PrecisionRecallDisplay.from_predictions(labels, p, ax=axes[1], name="network", plot_chance_level=True)
    CalibrationDisplay.from_predictions(labels, p, n_bins=8, strategy="quantile", ax=axes[2], name="network")
    for axis, name in zip(axes, ("ROC", "precision-recall", "calibration, 8 bins of equal count"), strict=True):
        axis.set_title(name)
    # scikit-learn's own labels name the class by its number, and are too long for the width
    axes[0].set(xlabel="1 - specificity", ylabel="sensitivity")
    axes[1].set(xlabel="recall (sensitivity)", ylabel="precision")
    axes[2].set(xlabel="mean p(malignant)", ylabel="share of malignant", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    figure.suptitle(title)
    _save(figure, path)


def _confusion(path: Path, labels: npt.NDArray[np.bool_], called: npt.NDArray[np.bool_], title: str) -> None:
    figure, axis = plt.subplots(figsize=(4.8, 4), layout="constrained")
    ConfusionMatrixDisplay.from_predictions(labels, called, labels=[False, True], display_labels=CLASSES, ax=axis, colorbar=False, cmap="Blues")
    axis.set_title(title, fontsize="medium")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=120)
    plt.close(figure)
