"""Cross-validation by patient: everybody is tested once by a network that never saw them."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from train import checkpoint, networks, provenance
from train.data import split
from train.data.images import Images, decode, part, read_all
from train.evaluation import baselines, metrics
from train.fit import device_named, fit
from train.training import Settings

# Of the frozen features' regression: 2048 features of a few hundred images need a strong penalty.
FROZEN_INVERSE_PENALTY = 1e-3
SHOWN = ("auroc", "average_precision", "sensitivity", "specificity", "balanced_accuracy", "mcc", "brier", "ece")

Floats = npt.NDArray[np.float64]


def cross_validate(settings: Settings, out: Path, count: int, *, device: str, workers: int, compiled: bool) -> None:
    """Runs `count` fits in `out`/fold-1 ..., or those that are not finished; writes `crossval.json` and `crossval.md`.

    Raises:
        click.ClickException: `out` holds a cross-validation with other settings, or a source has too few patients.
    """
    items = read_all(settings.data, settings.magnification, settings.label)
    divided = split.folds(items, count, settings.seed)
    plain = json.loads(json.dumps({**asdict(settings), "folds": count}))
    same_settings(out / "settings.json", plain)
    for number, fold_split in enumerate(divided, 1):
        run(replace(settings, split=str(written(out / f"split-{number}.json", fold_split))), out / f"fold-{number}", device, workers, compiled)
    images = decode(items, settings.size)
    answers = collect([out / f"fold-{number}" for number in range(1, count + 1)], images)
    result = {"settings": plain, "revision": provenance.revision(), "sources": summary(images, divided, answers, settings, device_named(device))}
    checkpoint.write(out / "crossval.json", json.dumps(result, indent=2))
    checkpoint.write(out / "crossval.md", markdown(result["sources"]))
    show(result["sources"])
    click.echo(f"Wrote {out / 'crossval.json'} and {out / 'crossval.md'}.")


def same_settings(path: Path, settings: dict[str, Any]) -> None:
    """Writes the settings of a set of runs, or checks that the ones there are the same.

    Raises:
        click.ClickException: they differ.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        checkpoint.write(path, json.dumps(settings, indent=2))
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = sorted(name for name in settings if before.get(name) != settings[name])
    if changed:
        raise click.ClickException(f"{path.parent} was started with another {', '.join(changed)}; go on with the same or give another --out.")


def written(path: Path, divided: split.Split) -> Path:
    """The path of a split file, which is written now if it is not there."""
    if not path.exists():
        checkpoint.write(path, divided.text())
    return path


def run(settings: Settings, out: Path, device: str, workers: int, compiled: bool) -> None:
    """One fit: started, resumed, or left alone because it is finished."""
    if not (out / "metrics.json").exists():
        fit(settings, out, resume=(out / "last.pt").exists(), device=device, workers=workers, compiled=compiled)


def collect(runs: list[Path], images: Images) -> dict[str, Floats]:
    """Out-of-fold answers in the order of `images`: `p`, the calibrated probability, and `threshold`, the one its run chose."""
    index = {sha256: at for at, sha256 in enumerate(images.sha256)}
    answers = {name: np.full(len(images), np.nan) for name in ("p", "threshold")}
    for folder in runs:
        threshold = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["decision"]["threshold"]
        with (folder / "predictions.csv").open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                answers["p"][index[row["sha256"]]] = float(row["p_malignant"])
                answers["threshold"][index[row["sha256"]]] = threshold
    return answers


def summary(images: Images, divided: list[split.Split], answers: dict[str, Floats], settings: Settings, device: torch.device) -> dict[str, Any]:
    """Per source: the network's scores over all folds, each fold's AUROC, and the AUROC of both baselines in the same folds."""
    torch.manual_seed(settings.seed)
    model = networks.build(settings.init, settings.network).to(device)
    features = {"colour": baselines.colour_features(images), "frozen features": baselines.frozen_features(model, settings.network, images, device)}
    others: dict[str, Floats] = {name: np.full(len(images), np.nan) for name in features}
    fold = np.zeros(len(images), int)
    for number, fold_split in enumerate(divided):
        test = np.array([fold_split.parts[group] == "test" for group in images.groups])
        training = np.array([fold_split.parts[group] == "train" for group in images.groups])
        fold[test] = number
        for name, values in features.items():
            penalty = FROZEN_INVERSE_PENALTY if name != "colour" else 1.0
            fitted = (values[training], part(images, fold_split, "train"), values[test], part(images, fold_split, "test"))
            others[name][test] = baselines.linear(*fitted, inverse_penalty=penalty)
    results: dict[str, Any] = {}
    for source in np.unique(images.sources):
        own = images.sources == source
        malignant, groups = images.malignant[own], images.groups[own]
        results[str(source)] = {
            "images": int(own.sum()),
            "malignant": int(malignant.sum()),
            "patients": len(np.unique(groups)),
            "network": metrics.score(malignant, answers["p"][own], groups, answers["threshold"][own])["metrics"],
            "patient_level": metrics.score_patients(malignant, answers["p"][own], groups, 0.5),
            "folds": {name: by_fold(malignant, values[own], fold[own]) for name, values in {"network": answers["p"], **others}.items()},
            "baselines": {name: metrics.score(malignant, values[own], groups, 0.5)["metrics"]["auroc"] for name, values in others.items()},
        }
    return results


def by_fold(malignant: npt.NDArray[np.bool_], p: Floats, fold: npt.NDArray[np.intp]) -> list[float]:
    """AUROC inside each fold, which no difference between the folds' networks can help or harm."""
    return [float(roc_auc_score(malignant[fold == number], p[fold == number])) for number in np.unique(fold)]


def rows(sources: dict[str, Any]) -> list[list[str]]:
    """Source, what, AUROC with interval, mean and standard deviation over folds."""
    listed = []
    for source, result in sources.items():
        for name in ("network", *result["baselines"]):
            auroc = result["network"]["auroc"] if name == "network" else result["baselines"][name]
            inside = result["folds"][name]
            listed.append([source, name, cell(auroc), f"{np.mean(inside):.3f} ± {np.std(inside, ddof=1):.3f}"])
    return listed


def cell(metric: dict[str, float]) -> str:
    """`0.812 [0.700, 0.901]`."""
    return f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]"


def show(sources: dict[str, Any]) -> None:
    """The table on the terminal."""
    table = Table("set", "what", "AUROC, all folds", "mean ± sd of folds", box=None, pad_edge=False)
    for row in rows(sources):
        table.add_row(*row)
    Console().print(table)


def markdown(sources: dict[str, Any]) -> str:
    """Two tables: AUROC beside the baselines, and the other figures of the network."""
    lines = ["| set | what | AUROC over all folds, 95 % interval by patient | mean ± sd of the folds' AUROC |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(sources)]
    lines += ["", "| set | images (malignant) | patients | " + " | ".join(SHOWN[1:]) + " |", "|---|---:|---:|" + "---|" * len(SHOWN[1:])]
    for source, result in sources.items():
        cells = " | ".join(cell(result["network"][name]) for name in SHOWN[1:])
        lines.append(f"| {source} | {result['images']} ({result['malignant']}) | {result['patients']} | {cells} |")
    return "\n".join(lines) + "\n"
