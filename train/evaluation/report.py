"""`report.html`: a finished run on one page that opens anywhere, without a network.

It holds pictures of the data set (the worst errors), so it stays in the run's folder and is never committed.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bcd_edge.decision import DecisionRule
from train import checkpoint
from train.data.images import Images
from train.evaluation import metrics, plots

Floats = npt.NDArray[np.float64]

WORST = 6
THUMBNAIL = 96
NAMES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "precision": "precision of malignant",
    "f1": "F1 of malignant",
    "balanced_accuracy": "balanced accuracy",
    "mcc": "MCC (Matthews correlation)",
    "brier": "Brier score",
    "ece": "ECE (expected calibration error)",
}
NOTES = {
    "idc": "Class 0 of IDC is 'no invasive carcinoma in this patch', which is not 'benign tumour'; it is called benign here for want of a third name."
}


def write(out: Path, result: dict[str, Any], history: list[dict[str, float]], test: Images, p_malignant: Floats) -> None:
    """Writes `report.html`, one file with everything in it, and beside it the PNG plots that it shows.

    Args:
        out: the run's folder.
        result: what `metrics.json` holds.
        history: a row per epoch.
        test: N images of the test part.
        p_malignant: N calibrated probabilities, 0..1.
    """
    leaky = bool(result.get("leaky"))
    plots.draw(out, history, test, p_malignant, result["decision"]["threshold"], kept=result["epoch"], leaky=leaky)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"metric": _metric, "shown": _shown}
    environment.globals |= {"names": NAMES}
    sources = [_source(out, str(source), result, test, p_malignant) for source in np.unique(test.sources)]
    text = environment.get_template("report.html.j2").render(
        run=out.resolve().name,
        result=result,
        leaky=leaky,
        history=_embedded(out / "history.png"),
        epochs=len(history),
        sources=sources,
        scored={source["name"]: source["scores"] for source in sources if source["scores"]},
        strata={name: scores for name, scores in result["test"].items() if name not in set(test.sources)},
    )
    checkpoint.write(out / "report.html", text)


def _source(out: Path, name: str, result: dict[str, Any], test: Images, p_malignant: Floats) -> dict[str, Any]:
    """What the page says of one source; `scores` is None where there are too few test patients for any."""
    own = test.sources == name
    scores = result["test"].get(name)
    both = 0 < test.malignant[own].sum() < own.sum()
    return {
        "name": name,
        "note": NOTES.get(name),
        "scores": scores,
        "per_class": scores and (scores.get("per_class") or metrics.per_class(scores["confusion"])),
        "baseline": result["baseline"].get(name),
        "doubts": doubts(scores, result["baseline"].get(name)),
        "curves": _embedded(out / f"{name}_curves.png") if both else None,
        "confusion": _embedded(out / f"{name}_confusion.png") if both else None,
        "errors": worst_errors(test.select(own), p_malignant[own], DecisionRule(**result["decision"])),
    }


def doubts(scores: dict[str, Any] | None, colour: dict[str, Any] | None) -> list[str]:
    """What a run that learned nothing, or nothing but colour, must not hide, in sentences.

    Args:
        scores: of the network on one source, from `evaluate.score_strata`.
        colour: of colour alone on the same patients, from `baseline.colour`.
    """
    if not scores or not colour:
        return []
    auroc, plain = scores["metrics"]["auroc"], colour["auroc"]["value"]
    guessing = f"Not shown to be better than guessing: the interval of the AUROC begins at {auroc['low']:.3f}."
    coloured = f"No better than colour alone, whose AUROC on the same patients is {plain:.3f}."
    return [sentence for sentence, holds in ((guessing, auroc["low"] <= 0.5), (coloured, auroc["value"] <= plain)) if holds]


def worst_errors(test: Images, p_malignant: Floats, rule: DecisionRule) -> dict[str, list[dict[str, Any]]]:
    """The most confident errors at the operating threshold, worst first, at most six of a kind.

    Returns:
        `malignant called benign` and `benign called malignant`, each a list of `p`, `patient`, `decision` and
        `picture`, a PNG data URI of 96 pixels.
    """
    called = rule.malignant(p_malignant)
    missed = np.flatnonzero(test.malignant & ~called)
    alarms = np.flatnonzero(~test.malignant & called)
    kinds = {
        "malignant called benign": missed[np.argsort(p_malignant[missed], kind="stable")],
        "benign called malignant": alarms[np.argsort(-p_malignant[alarms], kind="stable")],
    }
    return {
        kind: [
            {
                "p": float(p_malignant[index]),
                "patient": str(test.groups[index]),
                "decision": rule.predict(float(p_malignant[index])).decision,
                "picture": _thumbnail(test.pixels_nhwc_u8[index]),
            }
            for index in chosen[:WORST]
        ]
        for kind, chosen in kinds.items()
    }


def _thumbnail(image_hwc_u8: npt.NDArray[np.uint8]) -> str:
    """A PNG data URI, its longer side 96 pixels."""
    height, width = image_hwc_u8.shape[:2]
    scale = THUMBNAIL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image_hwc_u8, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return _data_uri(cv2.imencode(".png", small[..., ::-1])[1].tobytes())


def _embedded(path: Path) -> str:
    return _data_uri(path.read_bytes())


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _metric(metric: dict[str, float] | None) -> str:
    """Value and 95 % interval."""
    return f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]" if metric else "–"


def _shown(value: object) -> str:
    """A setting as a person would write it."""
    return (", ".join(map(str, value)) or "–") if isinstance(value, list | tuple) else str(value)
