"""Accuracy beside speed: the predictions of a provider and variant for labelled images."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bcd_edge.benchmark import statistics
from bcd_edge.classifier import Classifier
from bcd_edge.errors import UsageError
from bcd_edge.inputs import Inputs
from bcd_edge.labels import LABELS, class_folder, patient_folder


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image; images of one `patient` are resampled together."""

    file: Path
    malignant: bool
    patient: str


def collection(folder: Path) -> list[LabelledImage]:
    """The labelled images of a folder: the rows of its manifest.csv (file, label, patient), or its class folders.

    Raises:
        UsageError: a row is invalid, or a label is missing.
    """
    images = _manifest(folder) if (folder / "manifest.csv").is_file() else _folders(folder)
    labels = {image.malignant for image in images}
    if len(labels) < 2:
        only = f"only {'malignant' if labels.pop() else 'benign'} images" if labels else "no labelled image"
        raise UsageError(
            f"--data {folder} holds {only}; give a folder with benign/ and malignant/, or with a manifest.csv of file, label and patient."
        )
    return images


def _folders(folder: Path) -> list[LabelledImage]:
    """`.../malignant/PATIENT/a.png`; an image outside of a patient's folder counts as a patient of its own."""
    images = []
    for name, _ in Inputs([str(folder)]):
        path = Path(name).relative_to(folder)
        depth = class_folder(path)
        if depth is not None:
            images.append(LabelledImage(Path(name), LABELS[path.parts[depth].lower()], patient_folder(path, depth) or name))
    return images


def _manifest(folder: Path) -> list[LabelledImage]:
    path = folder / "manifest.csv"
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            return [_row(path, line, row) for line, row in enumerate(csv.DictReader(lines), 2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} could not be read ({error}); give a CSV in UTF-8.") from None


def _row(path: Path, line: int, row: dict[str, Any]) -> LabelledImage:
    file, label, patient = (str(row.get(name) or "").strip() for name in ("file", "label", "patient"))
    if not file or label.lower() not in LABELS:
        raise UsageError(f"{path}, line {line}: file {file!r} has the label {label!r}; write benign or malignant.")
    return LabelledImage(path.parent / file, LABELS[label.lower()], patient or file)


def measure(classifier: Classifier, images: Sequence[LabelledImage]) -> dict[str, Any]:
    """AUROC and accuracy with 95 % intervals, and the counts of images, as plain values.

    Raises:
        UsageError: the readable images have only one label.
    """
    records = classifier.classify_many(((image, image.file) for image in images), name=lambda image: str(image.file))
    read = [(image, record.p_malignant) for image, record in records if record.p_malignant is not None]
    malignant = np.array([image.malignant for image, _ in read], bool)
    if malignant.all() or not malignant.any():
        raise UsageError("The images of --data that can be read do not have both labels; see which fail: bcd-edge predict DIR")
    patients = [image.patient for image, _ in read]
    scores = statistics.scores(malignant, np.array([p for _, p in read]), patients, classifier.rule.threshold)
    counts = {"images": len(read), "patients": len(set(patients)), "malignant": int(malignant.sum()), "failed": len(images) - len(read)}
    return {name: estimate.as_dict() for name, estimate in scores.items()} | counts
