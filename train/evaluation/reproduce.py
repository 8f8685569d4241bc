"""`python -m train reproduce-published`: what a split by image promises, and what is left of it when patients are held out."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from train import checkpoint
from train.data import split
from train.data.images import read_all
from train.data.sources import Item
from train.data.split import Part, Split
from train.evaluation import metrics
from train.evaluation.cross_validation import cell, run, same_settings, written
from train.training import Settings

BENIGN, MALIGNANT = 60, 80  # test images of the published protocol
ARGMAX = 0.5  # the published figures call an image by its likelier class
PUBLISHED = {
    "accuracy": 0.97,
    "benign": {"precision": 0.98, "recall": 0.95, "tp": 57, "tn": 79, "fp": 1, "fn": 3},
    "malignant": {"precision": 0.96, "recall": 0.99, "tp": 79, "tn": 57, "fp": 3, "fn": 1},
}
DRAWS = 20_000
SHOWN = ("accuracy", "auroc", "sensitivity", "specificity", "mcc")


def reproduce(settings: Settings, out: Path, *, device: str, workers: int, compiled: bool) -> None:
    """Two fits with one recipe on the same images: tested on random images, then on people; writes `published.json` and `.md`.

    Raises:
        click.ClickException: too few images or patients for the protocol, or `out` holds other settings.
    """
    items = read_all(settings.data, settings.magnification, settings.label)
    same_settings(out / "settings.json", json.loads(json.dumps(asdict(settings))))
    protocols = {"image": by_image(items, settings.seed), "patient": by_patient(items, settings.seed)}
    results = {}
    for name, divided in protocols.items():
        file = written(out / f"split-{name}.json", divided)
        run(replace(settings, split=str(file)), out / f"by-{name}", device, workers, compiled)
        results[name] = measured(out / f"by-{name}" / "predictions.csv") | {"shared_patients": shared(items, divided), "leaky": divided.leaky}
    checkpoint.write(out / "published.json", json.dumps({"published": PUBLISHED, **results}, indent=2))
    checkpoint.write(out / "published.md", markdown(results))
    show(results)
    click.echo(f"Wrote {out / 'published.json'} and {out / 'published.md'}.")


def by_image(items: Sequence[Item], seed: int) -> Split:
    """60 benign and 80 malignant images drawn one by one to test, a sixth of the others to validation: patients on two sides.

    Raises:
        click.ClickException: there are too few images.
    """
    random = np.random.default_rng(seed)
    parts: dict[str, Part] = {}
    for malignant, wanted in ((False, BENIGN), (True, MALIGNANT)):
        keys = sorted(item.sha256 for item in items if item.malignant == malignant)
        if len(keys) < 2 * wanted:
            raise click.ClickException(f"The published protocol tests on {BENIGN} benign and {MALIGNANT} malignant images; {len(keys)} are too few.")
        random.shuffle(keys)
        validation = wanted + (len(keys) - wanted) // 6
        parts |= {key: "test" if at < wanted else "validation" if at < validation else "train" for at, key in enumerate(keys)}
    return Split("image", parts)


def by_patient(items: Sequence[Item], seed: int) -> Split:
    """Patients whose images come as near to 60 benign and 80 malignant as any of many random draws, at least two of each class.

    The others are divided into training and validation the same way, a sixth of the images to validation.

    Raises:
        click.ClickException: there are too few patients.
    """
    groups = sorted({item.group for item in items})
    counts = np.zeros((len(groups), 2), int)
    for item in items:
        counts[groups.index(item.group), int(item.malignant)] += 1
    random = np.random.default_rng(seed)
    test = nearest(counts, np.ones(len(groups), bool), np.array([BENIGN, MALIGNANT]), random)
    rest = counts[~test].sum(axis=0)
    validation = nearest(counts, ~test, rest // 6, random)
    return Split("patient", {group: "test" if test[at] else "validation" if validation[at] else "train" for at, group in enumerate(groups)})


def nearest(
    counts: npt.NDArray[np.intp], free: npt.NDArray[np.bool_], wanted: npt.NDArray[np.intp], random: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """The draw of patients whose image counts come nearest to `wanted`, with two patients of each class in it and left over.

    Args:
        counts: patients x 2, benign and malignant images.
        free: who may be drawn.
        wanted: benign and malignant images.
        random: decides the draws.
    """
    share = wanted.sum() / counts[free].sum()
    chosen = (random.random((DRAWS, len(counts))) < share) & free
    left = free & ~chosen
    has = counts > 0
    enough = ((chosen @ has.astype(int)) >= 2).all(axis=1) & ((left @ has.astype(int)) >= 2).all(axis=1)
    if not enough.any():
        raise click.ClickException("The published protocol by patient needs at least six patients of each class; give more images.")
    distance = np.abs(chosen @ counts - wanted).sum(axis=1)
    return np.asarray(chosen[np.where(enough, distance, np.iinfo(int).max).argmin()])


def shared(items: Sequence[Item], divided: Split) -> int:
    """How many test patients have images in training too."""
    groups = {name: {item.group for item in items if divided.part(item) == name} for name in split.PARTS}
    return len(groups["test"] & groups["train"])


def measured(predictions: Path) -> dict[str, Any]:
    """Scores, classification report and per-class table of a run's test images, each called by its likelier class."""
    with predictions.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    malignant = np.array([row["malignant"] == "1" for row in rows])
    p = np.array([float(row["p_malignant"]) for row in rows])
    scores = metrics.score(malignant, p, np.array([row["patient"] for row in rows]), ARGMAX)
    return {**scores, "report": metrics.classification_report(malignant, p >= ARGMAX), "per_class": metrics.per_class(scores["confusion"])}


def rows(results: dict[str, Any]) -> list[list[str]]:
    """A row each for the published figures, ours by image and ours by patient."""
    table = [["published, by image", "60 + 80", "not given", f"{PUBLISHED['accuracy']}", "not given", "0.99", "0.95", "not given"]]
    for name, label in (("image", "ours, by image (LEAKY)"), ("patient", "ours, by patient")):
        result = results[name]
        images = f"{result['images'] - result['malignant']} + {result['malignant']}"
        people = f"{result['shared_patients']} of {result['patients']}"
        table.append([label, images, people, *(cell(result["metrics"][metric]) for metric in SHOWN)])
    return table


HEADINGS = ["protocol", "test images, benign + malignant", "test patients also trained on", "accuracy", "AUROC", "sensitivity", "specificity", "MCC"]


def show(results: dict[str, Any]) -> None:
    """The comparison on the terminal, a column for each protocol, since three columns fit 80 characters."""
    table = Table("", *(row[0] for row in rows(results)), box=None, pad_edge=False)
    for heading, *values in list(zip(HEADINGS, *rows(results), strict=True))[1:]:
        table.add_row(heading, *values)
    Console().print(table)


def markdown(results: dict[str, Any]) -> str:
    """The comparison, and precision, recall and TP/TN/FP/FN of each class."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS), *(f"| {' | '.join(row)} |" for row in rows(results))]
    lines += ["", "| protocol | class | precision | recall | TP | TN | FP | FN |", "|---|---|---:|---:|---:|---:|---:|---:|"]
    tables: list[tuple[str, dict[str, Any]]] = [("published, by image", PUBLISHED)]
    for name in ("image", "patient"):
        result = results[name]
        tables.append((f"ours, by {name}", {side: result["report"][side] | result["per_class"][side] for side in ("benign", "malignant")}))
    for label, sides in tables:
        for side in ("benign", "malignant"):
            row = sides[side]
            counts = " | ".join(str(row[key]) for key in ("tp", "tn", "fp", "fn"))
            lines.append(f"| {label} | {side} | {row['precision']:.2f} | {row['recall']:.2f} | {counts} |")
    return "\n".join(lines) + "\n"
