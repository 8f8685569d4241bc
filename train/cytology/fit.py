"""A run: compares the models, chooses one, fits it on every row, and writes what `python -m export cytology` needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from bcd_edge.decision import DecisionRule, probabilities
from train.cytology import report
from train.cytology.models import dense_layers
from train.cytology.tables import Table, diagnostic, original
from train.cytology.validation import Outcome, log_loss, logits, scores, select, simplest, validate
from train.cytology.validation import fit as fit_model
from train.evaluation import calibration

UNIT = "grade from 1, closest to benign, to 10, most anaplastic"
CHOSEN = (
    "on rows that the model had not seen, groups of identical rows or ids weighing the same: "
    f"threshold for sensitivity {calibration.WANTED_SENSITIVITY}; review from the largest probability below which, with {calibration.CONFIDENCE:.0%} "
    f"confidence for exchangeable groups, at most {calibration.MISSED:.0%} of malignant rows lie (Learn-then-Test), to the threshold, "
    f"or to the probability with specificity {calibration.REVIEW_SPECIFICITY} if it is higher"
)


def fit(data: Path, out: Path, folds: int, seed: int, page: Path | None) -> None:
    """Prints and writes the comparison: `results.csv`, `cytology.md` and `model.json` in `out`.

    Args:
        data: the original table.
        out: folder of the run.
        folds: number of outer folds.
        seed: of splits and networks.
        page: also writes the figures between the marks of this page.
    """
    table = original(data)
    random, kept = (validate(table, folds, seed, grouped=grouped) for grouped in (False, True))
    lines = [
        report.Line(table.name, name, by, scores(table, random if by == "row" else kept, name, by=by)) for by in report.PROTOCOLS for name in kept.p
    ]
    second = diagnostic()
    apart = validate(second, folds, seed, grouped=True)
    lines += [report.Line(second.name, name, "group", scores(second, apart, name, by="group")) for name in apart.p]
    model = final(table, kept, seed)
    notes = [
        *report.duplicates(table, random, kept),
        *report.duplicates(second, apart, apart),
        report.selected(table, kept),
        report.selected(second, apart),
    ]
    text = report.markdown(lines, [*notes, _losses(table, kept), model["chosen"], _band(table, kept, model)])
    click.echo(text)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.csv").write_text(report.as_csv(lines), encoding="utf-8")
    (out / "model.json").write_text(json.dumps(model | {"reference": _reference(lines, model["model"])}, indent=1), encoding="utf-8")
    report.write_between(out / "cytology.md", text)
    if page:
        report.write_between(page, text)
    click.echo(f"\nWrote {out}; next: python -m export cytology --run {out} --out {out}-bundle")


def final(table: Table, kept: Outcome, seed: int) -> dict[str, Any]:
    """The chosen model, fitted on every row; temperature and decision rule are from answers to rows that were held out."""
    name, best, worse = simplest(table, kept)
    every = np.arange(len(table.x))
    features = select(table, every, True, seed)
    pipeline = fit_model(name, table, every, features, seed)
    quantiles = np.nanpercentile(table.x[:, features], range(0, 101, 5), axis=0)
    held_out = logits(kept.p[name])
    temperature = calibration.temperature(held_out, table.malignant, np.ones(len(held_out), np.float32))
    rule = calibration.decision(table.malignant, probabilities(held_out, temperature), table.groups)
    reason = "the lowest log loss of all" if name == best else f"log loss not worse than that of the best, {best}: worse in {worse:.0%} of resamples"
    return {
        "model": name,
        "chosen": f"Embedded: {name}, the simplest whose 95 % interval of the difference in log loss to the best contains 0 ({reason}).",
        "features": [
            {"name": feature, "unit": UNIT, "low": 1.0, "high": 10.0, "impute": float(mean), "scale": float(scale), "quantiles": values.tolist()}
            for feature, mean, scale, values in zip(
                np.array(table.features)[features], pipeline[0].statistics_, pipeline[1].scale_, quantiles.T, strict=True
            )
        ],
        "layers": dense_layers(pipeline[-1]),
        "temperature": temperature,
        "decision": {"threshold": rule.threshold, "review_low": rule.review_low, "review_high": rule.review_high, "chosen": CHOSEN},
        "rows": len(table.x),
        "groups": len(np.unique(table.groups)),
        "golden": _golden(table, features, pipeline, temperature),
    }


def _golden(table: Table, features: Any, pipeline: Any, temperature: float) -> list[dict[str, Any]]:
    """Three drawn rows, none of the collection's, with the answers of scikit-learn."""
    rows = np.array([[1.0] * features.sum(), [5.0] * features.sum(), [10.0] * features.sum()])
    p = probabilities(logits(pipeline.predict_proba(rows)[:, 1]), temperature)
    return [{"values": row.tolist(), "p_malignant": float(answer)} for row, answer in zip(rows, p, strict=True)]


def _losses(table: Table, kept: Outcome) -> str:
    """Mean log loss of every model on rows that were held out."""
    losses = ", ".join(f"{name} {log_loss(table.malignant, p).mean():.4f}" for name, p in kept.p.items())
    return f"Log loss on the {table.name} set, identical rows and ids kept together: {losses}."


def _band(table: Table, kept: Outcome, model: dict[str, Any]) -> str:
    """How the rows that were held out would be decided."""
    rule = DecisionRule(*(model["decision"][key] for key in ("threshold", "review_low", "review_high")))
    decided = rule.decide(probabilities(logits(kept.p[model["model"]]), model["temperature"]))
    counts = [
        f"{word} {(own := table.malignant[decided == index]).size} ({own.sum()} of them malignant)"
        for index, word in enumerate(("benign", "review", "malignant"))
    ]
    return f"Held-out rows by its decision rule, which was chosen on the same rows and so looks a little better than it is: {', '.join(counts)}."


def _reference(lines: list[report.Line], model: str) -> dict[str, Any]:
    """Metrics of the chosen model by the two grouped protocols."""
    own = [line for line in lines if (line.table, line.model) == ("original", model) and line.protocol != "row"]
    return {line.protocol: {name: line.scores["metrics"][name] for name in report.METRICS} for line in own}  # type: ignore[literal-required]
