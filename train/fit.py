"""`python -m train fit` and `pretrain`: the loop, and what a finished run leaves behind."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from torch import nn

from bcd_edge.decision import probabilities
from bcd_edge.system.atomic import atomic_file
from train import checkpoint, networks, provenance, subtypes
from train.data import split
from train.data.images import Images, class_weights, decode, part, read_all
from train.evaluation import baselines, calibration, report, scores
from train.training import Settings, Training, console, of_subtypes, start

UNSEEN = "unseen.npz"  # of a run: its calibrated answers for the patients that it was calibrated with


def fit(settings: Settings, out: Path, *, resume: bool, device: str, workers: int, compiled: bool = False) -> None:
    """Trains, keeps the best epoch by validation AUROC, calibrates it, scores it on the test patients.

    `out` receives `last.pt` after every epoch, `best.pt`, `metrics.json`, `predictions.csv`, `split.json`,
    `history.csv`, `report.html` and its PNG plots.

    Raises:
        click.ClickException: the run exists and `--resume` was not given, or the other way round; settings differ;
            initial weights were trained on patients that this run holds out; there is no GPU though one was asked for.
    """
    target = device_named(device)
    smallest = networks.get_architecture(settings.network).smallest
    if settings.size < smallest:
        raise click.ClickException(f"--size {settings.size}: {settings.network} needs at least {smallest} pixels.")
    if compiled and settings.teacher != "none":
        raise click.ClickException(
            "--compile: the features that --teacher wants are read inside the network, which cannot be compiled; leave one away."
        )
    plain = json.loads(json.dumps(asdict(settings)))
    last = _last(out, plain, resume)
    items = read_all(settings.data, settings.magnification, settings.label)
    divided = split.make(items, settings.split, settings.seed)
    for item in items:
        divided.part(item)
    images = decode(items, settings.size)
    parts = {name: part(images, divided, name) for name in split.PARTS}
    for name, own in parts.items():
        if not any(0 < own.malignant[own.sources == source].sum() < (own.sources == source).sum() for source in np.unique(own.sources)):
            raise click.ClickException(f"--split {settings.split}: no collection has both classes in its {name} part; give more images.")
    model = start(settings, parts["train"])
    meta = provenance.describe(plain, divided, parts) | {"subtypes": of_subtypes(settings, parts["train"])}
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.write(out / "split.json", divided.text())
    if divided.leaky:
        console.print("[bold red]LEAKY[/]: split by image, so patients are on both sides; every output says so.")
    history = Training(settings, model, parts, target, workers, compiled).run(out, meta, last)
    finish(out, target, history, parts)


def finish(
    out: Path,
    device: torch.device,
    history: list[dict[str, float]],
    parts: dict[str, Images],
    unseen: tuple[Images, npt.NDArray[np.float32]] | None = None,
) -> None:
    """Calibrates the best epoch, scores it on test, and writes everything a reader needs.

    Args:
        out: folder of the run.
        device: where the network answers.
        history: of the epochs.
        parts: the images.
        unseen: images and logits N x 2 to calibrate with: of networks trained alike on other people (cross-fitting), where
            the run has no validation part because every patient is worth more to training. The validation part if not given.
    """
    kept = checkpoint.load(out / "best.pt")
    model = networks.build(name=kept["meta"]["settings"]["network"], subtypes=kept["meta"].get("subtypes"))
    model.load_state_dict(kept["model"])
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    validation, raw = unseen or (parts["validation"], scores.logits(model, parts["validation"], device))
    temperature, unseen_p, collections = _calibrate(model, kept["meta"], validation, raw)
    rule = calibration.decision(validation.malignant, unseen_p, validation.groups)
    p_test = probabilities(scores.logits(model, parts["test"], device), temperature)
    result = {
        **kept["meta"],
        "revision": provenance.revision(),
        "temperature": temperature,
        "calibration": collections,
        "decision": asdict(rule),
        "test": scores.score_strata(parts["test"], p_test, rule),
        "baseline": baselines.colour(parts["train"], parts["test"]),
    }
    checkpoint.save(out / "best.pt", {"model": model.state_dict(), "meta": result})
    with atomic_file(out / UNSEEN) as file:  # for the decision rule of an ensemble with this run
        np.savez(file, sha256=validation.sha256, p=unseen_p, malignant=validation.malignant, groups=validation.groups)
    report.write(out, result, history, parts["test"], p_test)
    columns = list(dict.fromkeys(key for row in history for key in row))
    rows = [",".join([*(f"{row[key]:.6g}" for key in columns), str(int(result["leaky"]))]) for row in history]
    checkpoint.write(out / "history.csv", "\n".join([",".join([*columns, "leaky"]), *rows]) + "\n")
    checkpoint.write(out / "predictions.csv", scores.predictions(parts["test"], p_test, leaky=result["leaky"]))
    checkpoint.write(out / "metrics.json", json.dumps(result, indent=2))
    leaky = "LEAKY " if result["leaky"] else ""
    for source, rates in result["test"].items():
        line = ", ".join(f"{name} {m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]" for name, m in rates["metrics"].items())
        console.print(f"[bold]{leaky}{source}[/]: {rates['images']} images of {rates['patients']} test patients: {line}", highlight=False)
        for sentence in report.doubts(rates, result["baseline"].get(source)):
            console.print(f"[bold yellow]{source}: {sentence}[/]", highlight=False)
    if not result["leaky"]:
        console.print(f"Next: python -m export bundle --run {out} --name NAME --out BUNDLE")


def _calibrate(
    model: nn.Module, meta: dict[str, Any], images: Images, logits: npt.NDArray[np.float32]
) -> tuple[float, npt.NDArray[np.float64], dict[str, dict[str, float]]]:
    """Temperature, calibrated p of the images, and scale and bias of each collection, which a head of subtypes takes into itself."""
    if not meta.get("subtypes"):
        temperature = calibration.temperature(logits, images.malignant, class_weights(images))
        return temperature, probabilities(logits, temperature), {}
    head: subtypes.SubtypeHead = model.get_submodule(networks.get_architecture(meta["settings"]["network"]).head)  # type: ignore[assignment]
    difference = (logits[:, 1] - logits[:, 0]).astype(np.float64)
    collections = {}
    for source in np.unique(images.sources):
        own = images.sources == source
        scale, bias = calibration.platt(difference[own], images.malignant[own], images.groups[own])
        head.calibrate(str(source), scale, bias)
        difference[own] = scale * difference[own] + bias
        collections[str(source)] = {"scale": scale, "bias": bias}
    return 1.0, expit(difference), collections


def device_named(name: str) -> torch.device:
    """`cpu`, `cuda` or `auto` to a device, with deterministic kernels on CUDA."""
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("--device cuda: this PyTorch finds no CUDA GPU; use --device cpu, or check `nvidia-smi`.")
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
    return device


def _last(out: Path, settings: dict[str, Any], resume: bool) -> dict[str, Any] | None:
    path = out / "last.pt"
    if not resume:
        if path.exists() or (out / "metrics.json").exists():
            raise click.ClickException(f"{out} already holds a run; continue it with --resume or give another --out.")
        return None
    if not path.exists():
        raise click.ClickException(f"{out} holds no run to resume; leave --resume away to start one.")
    last = checkpoint.load(path)
    before = last["meta"]["settings"]
    changed = [name for name in settings if before.get(name) != settings[name]]
    if changed:
        raise click.ClickException(
            f"{out} was started with another {', '.join(changed)}; type the command that started it and add --resume, or give another --out."
        )
    return last
