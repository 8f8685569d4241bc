"""LIME of a row: which features speak for malignant and which against it, as numbers (JSON) and as a bar chart (PNG).

A perturbed row keeps some features and has the training mean in the place of the others, which is also what a missing value is
replaced by. The surrogate is fitted to the log odds, in which a linear model is a sum: its weights are then coefficient times
(value - mean), and a ridge of the package's size shrinks them a little.
"""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from bcd_edge.cytology.classifier import TableClassifier
from bcd_edge.cytology.table import MISSING, Feature, Row
from bcd_edge.estimates import rounded
from bcd_edge.explain import surrogate
from bcd_edge.explain.overlay import AGAINST, FOR
from bcd_edge.records import Record
from bcd_edge.system.atomic import atomic_write

Floats = npt.NDArray[np.float64]

# All subsets of so many features are tried; of more, as many random ones: 1,024 rows in every case.
EXHAUSTIVE: Final = 10
WIDTH, STEP, MARGIN = 760, 34, 16
EDGE: Final = 1e-12


@dataclass(frozen=True, slots=True)
class RowExplanation:
    """Weights of F features in log odds of malignant, positive for malignant; `r2` is how well their sum follows the model.

    `given` are the cells of the table, `values` what was calculated with.
    """

    features: list[Feature]
    given: list[str]
    values: list[float]
    weights: Floats
    r2: float
    samples: int

    def as_dict(self) -> dict[str, Any]:
        """Features by absolute weight, the largest first."""
        order = np.argsort(-np.abs(self.weights), kind="stable")
        parts = [
            {
                "feature": self.features[i].name,
                "given": self.given[i],
                "value": self.values[i],
                "mean": self.features[i].impute,
                "weight": float(self.weights[i]),
            }
            for i in order
        ]
        return {"explainer": "lime", "of": "log odds of malignant", "samples": self.samples, "r2": rounded(self.r2), "features": parts}


def masks(count: int) -> npt.NDArray[np.bool_]:
    """Which of `count` features each sample keeps, bool N x count; the first keeps all.

    All subsets, of few features several times: the ridge's penalty is a constant, and would shrink weights of a few rows by a lot.
    """
    if count <= EXHAUSTIVE:
        return np.tile(list(itertools.product([True, False], repeat=count)), (2 ** max(0, EXHAUSTIVE - count), 1))
    drawn = np.random.default_rng(0).random((2**EXHAUSTIVE, count)) < 0.5
    drawn[0] = True
    return drawn


def explain(classifier: TableClassifier, row: Row) -> RowExplanation:
    """The explanation of a row.

    Raises:
        InputError: the row cannot be read.
        ProviderError: the package lime is not installed.
    """
    values, _ = row.values(classifier.features)
    kept = masks(len(values))
    p = classifier.probabilities(np.where(kept, values, [feature.impute for feature in classifier.features]))
    fit = surrogate.fit(kept, np.log(np.clip(p, EDGE, 1) / np.clip(1 - p, EDGE, 1)))
    return RowExplanation(
        classifier.features, [row.cells[feature.name].strip() for feature in classifier.features], values, fit.weights, fit.r2, len(kept)
    )


def draw(explanation: RowExplanation, record: Record) -> Image.Image:
    """The bar chart: a bar per feature, the largest weight at the top, orange for malignant and blue against it."""
    parts = explanation.as_dict()["features"]
    canvas = Image.new("RGB", (WIDTH, STEP * (len(parts) + 3) + MARGIN), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    name = Path(record.source).name.encode("ascii", "backslashreplace").decode()[-60:]
    pen.text((MARGIN, MARGIN), f"{name}: {record.decision}, p(malignant) {record.p_malignant:.3f}", fill="black", font=ImageFont.load_default(19))
    pen.text((MARGIN, MARGIN + STEP), "log odds that each value adds, compared with the mean in training", fill="black", font=font)
    longest = max(abs(part["weight"]) for part in parts) or 1.0
    middle, reach = 510, 180
    for number, part in enumerate(parts, 2):
        top, end = MARGIN + number * STEP, middle + reach * part["weight"] / longest
        pen.text((MARGIN, top + 5), _label(part), fill="black", font=font)
        pen.rectangle((min(middle, end), top + 4, max(middle, end), top + STEP - 6), fill=FOR if part["weight"] >= 0 else AGAINST)
        right = part["weight"] >= 0
        pen.text((end + (4 if right else -4), top + 5), f"{part['weight']:+.2f}", fill="black", font=font, anchor="la" if right else "ra")
    pen.line((middle, MARGIN + 2 * STEP, middle, MARGIN + (len(parts) + 2) * STEP), fill="black")
    _legend(pen, MARGIN + (len(parts) + 2) * STEP + 6, font)
    return canvas


def _label(part: dict[str, Any]) -> str:
    """Feature and cell, and what was calculated with where that is another value."""
    given = part["given"].encode("ascii", "backslashreplace").decode()[:12]
    if given.lower() in MISSING:
        return f"{part['feature']} missing ({part['value']:.3g} used)"
    return f"{part['feature']} = {given}" + ("" if float(part["given"]) == part["value"] else f" ({part['value']:g} used)")


def _legend(pen: ImageDraw.ImageDraw, top: int, font: Any) -> None:
    for left, colour, word in ((MARGIN, FOR, "speaks for malignant"), (MARGIN + 240, AGAINST, "speaks against it")):
        pen.rectangle((left, top, left + 16, top + 16), fill=colour)
        pen.text((left + 24, top - 1), word, fill="black", font=font)


def write(classifier: TableClassifier, row: Row, record: Record, out: Path) -> Path:
    """Writes `TABLE-LINE.json` and `.png` of a row; returns the picture's path."""
    explanation = explain(classifier, row)
    file, _, line = row.source.rpartition(":")
    stem = out / f"{'stdin' if file == '-' else Path(file).stem}-{line}"
    atomic_write(stem.with_name(stem.name + ".json"), json.dumps(record.as_dict() | {"explanation": explanation.as_dict()}, indent=1).encode())
    picture = io.BytesIO()
    draw(explanation, record).save(picture, "PNG")
    path = stem.with_name(stem.name + ".png")
    atomic_write(path, picture.getvalue())
    return path
