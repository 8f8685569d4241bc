"""`python -m train study`: which recipe is best for people it has not seen, and what that choice is worth.

Test patients are set aside first and never looked at. The others are divided into folds; every trial trains once a fold and
answers for the people of that fold, so that all of them have an answer from a network that never saw them. The trial with the
best answers is chosen; the honest figure of that choice is the nested one, where each fold is answered by the trial that was
best on the other folds. `--final` then trains the chosen one on all folds, calibrates it with those answers, and tests it once
on the patients set aside.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from bcd_edge.system.atomic import atomic_file
from train import checkpoint, provenance
from train.data import split
from train.data.images import Images, decode, part, read_all
from train.evaluation import scores
from train.fit import device_named, finish
from train.training import Settings, Training, of_subtypes, start

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Logits = npt.NDArray[np.float32]
FIGURES = ("image", "each_patient", "patient")


def study(settings: Settings, trials: Path, out: Path, folds: int, *, device: str, only: str = "", final: bool = False) -> None:
    """Runs every trial that is not done yet, and writes `study.csv`; run it again to go on after an interruption.

    Args:
        settings: what all trials share; `split` says who is set aside.
        trials: TOML, a `[[trial]]` each with a `name` and the settings that it changes.
        out: receives a folder a trial, `study.csv` and, with `final`, `final/`, a run that can be exported.
        folds: how many.
        device: `auto`, `cpu` or `cuda`.
        only: run this trial and nothing else, so that several processes can share the work.
        final: train the best on all folds.

    Raises:
        click.ClickException: unknown settings, or initial weights that have seen a patient who is held out.
    """
    target = device_named(device)
    recipes = {name: recipe for name, recipe in read_trials(trials, settings).items() if only in ("", name)}
    items = read_all(settings.data, settings.magnification)
    outer = split.make(items, settings.split, settings.seed)
    divided = split.folds([item for item in items if outer.part(item) != "test"], folds, settings.seed)
    rows = []
    for name, recipe in recipes.items():
        images = decode(items, recipe.size)
        kept = images.select(np.array([outer.parts[group] != "test" for group in images.groups]))
        for number, fold in enumerate(divided):
            answer(recipe, kept, fold, out / name / f"fold-{number}.npz", target)
        rows.append((name, recipe, kept, *collect(out / name, kept, folds)))
    if only:
        return
    best = max(rows, key=lambda row: objective(row[2], row[3]))
    write_table(out / "study.csv", rows, nested(rows), settings)
    click.echo(f"Chosen: {best[0]}. Wrote {out / 'study.csv'}.")
    if final:
        train_final(best[1], decode(items, best[1].size), outer, (best[2], best[3]), out / "final", target)


def read_trials(path: Path, shared: Settings) -> dict[str, Settings]:
    """Name to settings of each trial.

    Raises:
        click.ClickException: the file cannot be read, or changes something that is no setting.
    """
    try:
        listed = tomllib.loads(path.read_text(encoding="utf-8"))["trial"]
        recipes = {entry["name"]: {key: value for key, value in entry.items() if key != "name"} for entry in listed}
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise click.ClickException(f"{path} lists no trials ({error}); write a [[trial]] with a name for each.") from None
    known = {field.name for field in fields(Settings)}
    if unknown := sorted({key for recipe in recipes.values() for key in recipe} - known):
        raise click.ClickException(f"{path} sets {', '.join(unknown)}, which is no setting; there are {', '.join(sorted(known))}.")
    return {name: replace(shared, **recipe) for name, recipe in recipes.items()}


def answer(recipe: Settings, images: Images, fold: split.Split, path: Path, device: torch.device) -> None:
    """Trains on all but the fold's test patients and keeps the logits of theirs in `path`, unless they are there."""
    if path.exists():
        return
    held = np.array([fold.parts[group] == "test" for group in images.groups])
    parts = {"train": images.select(~held), "validation": images.select(np.zeros(len(images), bool)), "test": images.select(held)}
    provenance.describe(asdict(recipe), fold, parts)  # refuses weights that have seen somebody who is held out
    started = time.monotonic()
    training = Training(recipe, start(recipe, parts["train"]), parts, device, 0, False)
    training.run()
    logits = scores.logits(training.averaged.module, parts["test"], device)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        np.savez(file, sha256=parts["test"].sha256, logits=logits, seconds=time.monotonic() - started)


def collect(folder: Path, images: Images, folds: int) -> tuple[Logits, npt.NDArray[np.intp], float]:
    """Logits N x 2 of networks that did not see the image's patient, the fold of each, and seconds of all trainings."""
    index = {sha256: at for at, sha256 in enumerate(images.sha256)}
    logits, fold, seconds = np.full((len(images), 2), np.nan, np.float32), np.zeros(len(images), np.intp), 0.0
    for number in range(folds):
        with np.load(folder / f"fold-{number}.npz") as kept:
            at = [index[sha256] for sha256 in kept["sha256"]]
            logits[at], fold[at] = kept["logits"], number
            seconds += float(kept["seconds"])
    return logits, fold, seconds


def figures(images: Images, logits: Logits) -> dict[str, dict[str, float]]:
    """Per source, AUROC of images, of images with each patient the same, and of patients by their mean logit where they have a label."""
    difference = (logits[:, 1] - logits[:, 0]).astype(np.float64)
    results = {}
    for source in np.unique(images.sources):
        own = images.sources == source
        malignant, score = images.malignant[own], difference[own]
        _, person, count = np.unique(images.groups[own], return_inverse=True, return_counts=True)
        share = np.bincount(person, malignant) / count
        values = [roc_auc_score(malignant, score), roc_auc_score(malignant, score, sample_weight=1 / count[person])]
        values.append(roc_auc_score(share > 0.5, np.bincount(person, score) / count) if set(share) <= {0.0, 1.0} else np.nan)
        results[str(source)] = dict(zip(FIGURES, map(float, values), strict=True))
    return results


def objective(images: Images, logits: Logits) -> float:
    """What a trial is chosen by: AUROC with each patient the same, mean of the sources."""
    return float(np.mean([values["each_patient"] for values in figures(images, logits).values()]))


def nested(rows: list[tuple[str, Settings, Images, Logits, npt.NDArray[np.intp], float]]) -> tuple[Images, Logits, list[str]]:
    """Logits where each fold is answered by the trial that was best on the other folds, and that trial of each fold."""
    _, _, images, first, fold, _ = rows[0]
    logits, chosen = np.empty_like(first), []
    for number in np.unique(fold):
        others = fold != number
        best = max(rows, key=lambda row: objective(images.select(others), row[3][others]))
        logits[~others] = best[3][~others]
        chosen.append(best[0])
    return images, logits, chosen


def write_table(path: Path, rows: list[Any], outer: tuple[Images, Logits, list[str]], shared: Settings) -> None:
    """`study.csv` and the same on the terminal: a row a trial, and the nested estimate of choosing among them."""
    images, logits, chosen = outer
    entries = [(name, changes(recipe, shared), figures(own, answers), seconds) for name, recipe, own, answers, _, seconds in rows]
    entries.append(("nested choice", "fold by fold: " + ", ".join(chosen), figures(images, logits), 0.0))
    sources = sorted(entries[0][2])
    header = ["trial", "settings", *(f"{source} {figure}" for source in sources for figure in FIGURES), "seconds"]
    table = [
        [name, settings, *("" if np.isnan(f[source][key]) else f"{f[source][key]:.4f}" for source in sources for key in FIGURES), f"{seconds:.0f}"]
        for name, settings, f, seconds in entries
    ]
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([header, *table])
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write(path, stream.getvalue())
    printed = Table(*(title for title in header if title != "settings"), box=None)
    for row in table:
        printed.add_row(row[0], *row[2:])
    Console().print(printed)


def changes(recipe: Settings, shared: Settings) -> str:
    """The settings of a trial that others do not share, as JSON."""
    return json.dumps({key: value for key, value in asdict(recipe).items() if value != getattr(shared, key)})


def train_final(recipe: Settings, images: Images, outer: split.Split, unseen: tuple[Images, Logits], out: Path, device: torch.device) -> None:
    """The chosen recipe on everybody but the patients set aside; a run as `fit` leaves one."""
    divided = split.Split("patient", {group: "test" if name == "test" else "train" for group, name in outer.parts.items()})
    parts = {name: part(images, divided, name) for name in split.PARTS}
    plain = json.loads(json.dumps(asdict(recipe)))
    meta = provenance.describe(plain, divided, parts) | {"subtypes": of_subtypes(recipe, parts["train"])}
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.write(out / "split.json", divided.text())
    history = Training(recipe, start(recipe, parts["train"]), parts, device, 0, False).run(out, meta)
    finish(out, device, history, parts, unseen)
