"""LIME of a row: which features speak for malignant and which against it, as numbers (JSON) and as a bar chart (PNG).

By the tabular explainer of the `lime` package with its defaults: it draws rows, each feature by its frequency in the quarters of the
training values, and a weight is what lying in this quarter adds, compared with lying in another. It is fitted to the log odds, in
which a linear model is a sum.
"""

from __future__ import annotations

import io
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

# The package's default.
SAMPLES: Final = 5000
WIDTH, STEP, MARGIN = 760, 34, 16
EDGE: Final = 1e-12


@dataclass(frozen=True, slots=True)
class RowExplanation:
    """Weights of F features in log odds of malignant, positive for malignant; `r2` is how well their sum follows the model.

    `given` are the cells of the table, `values` what was calculated with, and `conditions` the quarters of the training values in which
    these lie, such as `bare_nuclei > 6.00`.
    """

    features: list[Feature]
    given: list[str]
    values: list[float]
    conditions: list[str]
    weights: list[float]
    r2: float

    def as_dict(self) -> dict[str, Any]:
        """Features by absolute weight, the largest first."""
        names = ("given", "value", "condition", "weight")
        rows = zip(self.features, self.given, self.values, self.conditions, self.weights, strict=True)
        parts = [{"feature": feature.name} | dict(zip(names, row, strict=True)) for feature, *row in sorted(rows, key=lambda row: -abs(row[-1]))]
        return {"explainer": "lime", "of": "log odds of malignant", "samples": SAMPLES, "r2": rounded(self.r2), "features": parts}


def explain(classifier: TableClassifier, row: Row) -> RowExplanation:
    """The explanation of a row, the same each time.

    Raises:
        InputError: the row cannot be read.
        ProviderError: the package lime is not installed.
    """
    features = classifier.features
    values, _ = row.values(features)
    training = np.array([feature.quantiles for feature in features]).T
    explainer = surrogate.package("lime_tabular").LimeTabularExplainer(
        training, mode="regression", feature_names=[feature.name for feature in features], feature_selection="none", random_state=0
    )

    def log_odds(rows: Floats) -> Floats:
        # the package draws 0 in the place of the value where a quarter holds a single one, the least
        rows = np.vstack([rows[:1], np.clip(rows[1:], training[0], training[-1])])
        p = np.clip(classifier.probabilities(rows), EDGE, 1 - EDGE)
        return np.asarray(np.log(p / (1 - p)))

    fit = explainer.explain_instance(np.array(values), log_odds, num_features=len(features), num_samples=SAMPLES)
    weights = dict(fit.local_exp[1])
    conditions = [explainer.discretizer.names[i][int(explainer.discretizer.lambdas[i](value))] for i, value in enumerate(values)]
    given = [row.cells[feature.name].strip() for feature in features]
    return RowExplanation(features, given, values, conditions, [float(weights[i]) for i in range(len(features))], float(fit.score))


def draw(explanation: RowExplanation, record: Record) -> Image.Image:
    """The bar chart: a bar per feature, the largest weight at the top, orange for malignant and blue against it."""
    parts = explanation.as_dict()["features"]
    canvas = Image.new("RGB", (WIDTH, STEP * (len(parts) + 3) + MARGIN), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    name = Path(record.source).name.encode("ascii", "backslashreplace").decode()[-60:]
    pen.text((MARGIN, MARGIN), f"{name}: {record.decision}, p(malignant) {record.p_malignant:.3f}", fill="black", font=ImageFont.load_default(19))
    words = f"what each feature adds to the log odds, compared with other values in training; r2 {explanation.r2:.2f}"
    pen.text((MARGIN, MARGIN + STEP), words, fill="black", font=font)
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
    """Where the value lies, and the cell, or what was calculated with where that is another value."""
    given = part["given"].encode("ascii", "backslashreplace").decode()[:12]
    if given.lower() in MISSING:
        return f"{part['condition']} (missing; {part['value']:.3g} used)"
    return f"{part['condition']} ({given}" + (")" if float(part["given"]) == part["value"] else f"; {part['value']:g} used)")


def _legend(pen: ImageDraw.ImageDraw, top: int, font: Any) -> None:
    for left, colour, word in ((MARGIN, FOR, "speaks for malignant"), (MARGIN + 240, AGAINST, "speaks against it")):
        pen.rectangle((left, top, left + 16, top + 16), fill=colour)
        pen.text((left + 24, top - 1), word, fill="black", font=font)


def write(classifier: TableClassifier, row: Row, record: Record, out: Path) -> Path:
    """Writes `TABLE-LINE-HASH.json` and `.png` of a row, with the first digits of its `sha256`; returns the picture's path."""
    explanation = explain(classifier, row)
    file, _, line = row.source.partition(" id ")[0].rpartition(":")
    stem = out / f"{'stdin' if file == '-' else Path(file).stem}-{line}-{row.sha256[:8]}"
    atomic_write(stem.with_name(stem.name + ".json"), json.dumps(record.as_dict() | {"explanation": explanation.as_dict()}, indent=1).encode())
    picture = io.BytesIO()
    draw(explanation, record).save(picture, "PNG")
    path = stem.with_name(stem.name + ".png")
    atomic_write(path, picture.getvalue())
    return path
