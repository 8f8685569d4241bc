"""`python -m train fit`: the loop, its checkpoints, and what a finished run leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, WeightedRandomSampler

from train import baseline, calibrate, metrics, network, plots
from train.data import Augmented, Images, class_weights, decode, part, read_all, sampling_weights
from train.split import PARTS, Part, by_patient, fingerprint

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides a run's result; stored in its checkpoints, so that `--resume` can refuse other ones."""

    data: tuple[str, ...]
    weights: str
    size: int
    epochs: int
    epoch_images: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    averaging: float
    seed: int


def fit(settings: Settings, out: Path, *, resume: bool, device: str, workers: int) -> None:
    """Trains, keeps the best epoch by validation AUROC, calibrates it, scores it on the test patients.

    `out` receives `last.pt` after every epoch, `best.pt`, `metrics.json`, `split.json`, `history.csv` and PNG plots.

    Raises:
        click.ClickException: the run exists and `--resume` was not given, or the other way round; settings differ;
            initial weights were trained on patients that this run holds out; there is no GPU though one was asked for.
    """
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("--device cuda: this PyTorch finds no CUDA GPU; use --device cpu, or check `nvidia-smi`.")
    last = _last(out, settings, resume)
    torch.manual_seed(settings.seed)
    items = read_all(settings.data)
    parts = by_patient(items, settings.seed)
    images = decode(items, settings.size)
    training, validation, test = (part(images, parts, name) for name in PARTS)
    model = network.build(settings.weights)
    meta = _meta(settings, parts, training, validation, test)
    meta |= _ancestry(settings, parts)
    _write(out / "split.json", json.dumps(parts, indent=0, sort_keys=True))

    model = model.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = -(-settings.epoch_images // settings.batch_size) if settings.epoch_images else -(-len(training) // settings.batch_size)
    optimiser = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.epochs * batches, pct_start=0.15, cycle_momentum=False
    )
    averaged = AveragedModel(model, multi_avg_fn=_moving_average(settings.averaging), use_buffers=True)
    history: list[dict[str, float]] = []
    if last:
        averaged.load_state_dict(last["averaged"])
        model.load_state_dict(last["model"])
        optimiser.load_state_dict(last["optimiser"])
        schedule.load_state_dict(last["schedule"])
        history = last["history"]
    dataset, weights = Augmented(training), sampling_weights(training)

    with _progress() as progress:
        bar = progress.add_task("training", total=settings.epochs * batches, completed=len(history) * batches, note="")
        for epoch in range(len(history), settings.epochs):
            torch.manual_seed(settings.seed * 100_003 + epoch)  # an epoch draws the same whether or not the run was cut before it
            sampler = WeightedRandomSampler(weights.tolist(), batches * settings.batch_size)
            loader = DataLoader(dataset, settings.batch_size, sampler=sampler, num_workers=workers, persistent_workers=False)
            started = time.monotonic()
            loss = _train_epoch(model, averaged, loader, optimiser, schedule, where, lambda: progress.advance(bar))
            auroc, by_source = _auroc(validation, logits(averaged.module, validation, where, fast=True))
            row = {"epoch": epoch + 1, "loss": loss, "auroc": auroc} | by_source
            history.append(row | {"seconds": time.monotonic() - started})
            best = row["auroc"] >= max(entry["auroc"] for entry in history)
            meta["epoch"] = epoch + 1
            if best:
                _save(out / "best.pt", {"model": averaged.module.state_dict(), "meta": meta})
            parts_of_state = {"model": model, "averaged": averaged, "optimiser": optimiser, "schedule": schedule}
            state = {name: part_of_state.state_dict() for name, part_of_state in parts_of_state.items()}
            _save(out / "last.pt", state | {"history": history, "meta": meta})
            progress.update(bar, note=f"epoch {epoch + 1} loss {loss:.3f} AUROC {row['auroc']:.3f}{' best' if best else ''}")
            console.log(f"epoch {epoch + 1}/{settings.epochs} " + " ".join(f"{key} {value:.4f}" for key, value in row.items() if key != "epoch"))
    _finish(out, where, history, training, validation, test)


def logits(model: nn.Module, images: Images, where: torch.device, *, fast: bool = False) -> npt.NDArray[np.float32]:
    """float32 N x 2 in evaluation mode; `fast` allows bfloat16, for choosing an epoch and never for a reported figure."""
    model.eval()
    results = []
    with torch.inference_mode(), _autocast(where, fast):
        for start in range(0, len(images), 64):
            batch = torch.from_numpy(images.pixels_nhwc_u8[start : start + 64]).to(where).permute(0, 3, 1, 2)
            results.append(model(batch.float() / 255).float().cpu().numpy())
    return np.concatenate(results)


def _train_epoch(
    model: nn.Module, averaged: AveragedModel, loader: DataLoader[Any], optimiser: Any, schedule: Any, where: torch.device, step: Any
) -> float:
    model.train()
    total = 0.0
    for image_nchw, target, weight in loader:
        image_nchw = image_nchw.to(where, memory_format=torch.channels_last, non_blocking=True)
        with _autocast(where, True):
            output = model(image_nchw)
        # two logits and cross-entropy are binary cross-entropy on their difference
        losses = nn.functional.cross_entropy(output.float(), target.to(where), reduction="none")
        loss: Tensor = (losses * weight.to(where)).mean()
        if not torch.isfinite(loss):
            raise click.ClickException("The loss is no longer a number; lower --learning-rate and start again in another --out.")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        averaged.update_parameters(model)
        total += float(loss.detach())
        step()
    return total / len(loader)


def _autocast(where: torch.device, wanted: bool) -> AbstractContextManager[Any]:
    """bfloat16 where the machine multiplies it in hardware: every CUDA GPU we support, and CPUs with AVX-512 BF16."""
    fast = where.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(where.type, torch.bfloat16, enabled=wanted and fast)


def _moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average of weights and batch statistics, quick at first (as `(1 + n) / (10 + n)`), then `decay`.

    One epoch's weights swing with the last batches, most of all the batch statistics of a mix of collections; their
    average does not (Polyak & Juditsky, SIAM J. Control Optim. 1992), and it is what is validated and kept.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        weight = 1 - min(decay, (1 + float(count)) / (10 + float(count)))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new, weight)
            else:
                old.copy_(new)

    return update


def _auroc(images: Images, logits_n2: npt.NDArray[np.float32]) -> tuple[float, dict[str, float]]:
    """Validation AUROC, and the one of each source: their mean, weighted by how many patients a source has.

    Apart, so that telling two collections from each other does not pass for telling benign from malignant; weighted,
    so that a handful of patients does not choose the epoch alone.
    """
    difference = logits_n2[:, 1] - logits_n2[:, 0]
    aurocs, patients = {}, []
    for source in np.unique(images.sources):
        own = images.sources == source
        aurocs[f"auroc_{source}"] = float(roc_auc_score(images.malignant[own], difference[own]))
        patients.append(len(np.unique(images.groups[own])))
    return float(np.average(list(aurocs.values()), weights=patients)), aurocs


def _last(out: Path, settings: Settings, resume: bool) -> dict[str, Any] | None:
    path = out / "last.pt"
    if not resume:
        if path.exists() or (out / "metrics.json").exists():
            raise click.ClickException(f"{out} already holds a run; continue it with --resume or give another --out.")
        out.mkdir(parents=True, exist_ok=True)
        return None
    if not path.exists():
        raise click.ClickException(f"{out} holds no run to resume; leave --resume away to start one.")
    last = network.load(path)
    before, now = last["meta"]["settings"], json.loads(json.dumps(asdict(settings)))
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        raise click.ClickException(f"{out} was started with another {', '.join(changed)}; resume with the same or give another --out.")
    return last


def _meta(settings: Settings, parts: dict[str, Part], training: Images, validation: Images, test: Images) -> dict[str, Any]:
    def counts(images: Images) -> dict[str, dict[str, int]]:
        return {
            str(source): {
                "patients": len(np.unique(images.groups[images.sources == source])),
                "benign": int((~images.malignant[images.sources == source]).sum()),
                "malignant": int(images.malignant[images.sources == source].sum()),
            }
            for source in np.unique(images.sources)
        }

    return {
        "settings": json.loads(json.dumps(asdict(settings))),
        "classes": list(network.CLASSES),
        "split": {"fingerprint": fingerprint(parts), "parts": dict(zip(PARTS, map(counts, (training, validation, test)), strict=True))},
        "versions": {name: version(name) for name in ("torch", "torchvision", "numpy", "opencv-python-headless", "scikit-learn")},
        "revision": revision(),
    }


def _ancestry(settings: Settings, parts: dict[str, Part]) -> dict[str, Any]:
    """Every patient the weights have seen and the settings of the runs before; refuses weights that saw one held out here."""
    seen = {group for group, name in parts.items() if name == "train"}
    if settings.weights in ("none", "imagenet"):
        return {"trained_on": sorted(seen), "before": []}
    meta = network.load(Path(settings.weights)).get("meta", {})
    leaked = sorted(group for group in meta.get("trained_on", []) if parts.get(group, "train") != "train")
    if leaked:
        raise click.ClickException(
            f"--weights {settings.weights}: trained on {len(leaked)} patients that this run holds out ({', '.join(leaked[:3])} ...); "
            "use the same --seed as that run."
        )
    before = [{"settings": meta["settings"], "epoch": meta["epoch"]}] if meta else []
    return {"trained_on": sorted(seen | set(meta.get("trained_on", []))), "before": [*meta.get("before", []), *before]}


def _finish(out: Path, where: torch.device, history: list[dict[str, float]], training: Images, validation: Images, test: Images) -> None:
    """Calibrates the best epoch on validation, scores it on test, and writes everything a reader needs."""
    checkpoint = network.load(out / "best.pt")
    model = network.build()
    model.load_state_dict(checkpoint["model"])
    model.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    raw = logits(model, validation, where)
    temperature = calibrate.temperature(raw, validation.malignant, class_weights(validation))
    p_validation = calibrate.p_malignant(raw, temperature)
    decision = calibrate.decision(validation.malignant, p_validation, validation.groups)
    raw_test = logits(model, test, where)
    p_test = calibrate.p_malignant(raw_test, temperature)
    result = {
        **checkpoint["meta"],
        "revision": revision(),
        "temperature": temperature,
        "decision": decision,
        "test": score_strata(test, p_test, decision),
        "baseline": baseline.colour(training, test),
    }
    _save(out / "best.pt", {"model": checkpoint["model"], "meta": result})
    plots.draw(out, history, test, p_test, decision["threshold"])
    _write(out / "history.csv", "\n".join([",".join(history[0]), *(",".join(f"{value:.6g}" for value in row.values()) for row in history)]) + "\n")
    _write(out / "metrics.json", json.dumps(result, indent=2))
    for source, scores in result["test"].items():
        line = ", ".join(f"{name} {m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]" for name, m in scores["metrics"].items())
        console.print(f"[bold]{source}[/]: {scores['images']} images of {scores['patients']} test patients: {line}", highlight=False)
    console.print(f"Next: python -m export bundle --run {out} --out BUNDLE")


def score_strata(images: Images, p_malignant: npt.NDArray[np.float64], decision: calibrate.Decision) -> dict[str, Any]:
    """Scores per source and per magnification within one.

    A stratum with fewer than two patients of a class is left out: resampling one patient gives an interval of width
    zero, which would look like certainty.
    """
    chosen = {str(source): images.sources == source for source in np.unique(images.sources)}
    chosen |= {str(stratum): images.strata == stratum for stratum in np.unique(images.strata)}
    results: dict[str, Any] = {}
    for name, own in chosen.items():
        malignant, p, groups = images.malignant[own], p_malignant[own], images.groups[own]
        if all(len(np.unique(groups[malignant == side])) >= 2 for side in (False, True)):
            review = (p >= decision["review_low"]) & (p < decision["review_high"])
            results[name] = {
                **metrics.score(malignant, p, groups, decision["threshold"]),
                "review": int(review.sum()),
                "malignant_called_benign": int((malignant & (p < decision["review_low"])).sum()),
            }
    return results


def revision() -> str:
    """The source revision, with `-dirty` if files differ from it, or `unknown` outside a repository."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
        )
    except OSError:
        return "unknown"
    return run.stdout.strip() or "unknown"


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def _save(path: Path, content: dict[str, Any]) -> None:
    """Writes beside, then renames: a run killed or a disk filled while writing leaves the last good file."""
    beside = path.with_suffix(".part")
    try:
        with beside.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except (OSError, RuntimeError) as error:
        beside.unlink(missing_ok=True)
        raise click.ClickException(f"{path} could not be written ({error}); free some space and go on with --resume.") from None


def _write(path: Path, text: str) -> None:
    beside = path.with_suffix(".part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
