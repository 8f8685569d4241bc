"""The loop: a network, its optimiser and schedule, and what an epoch does to them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.swa_utils import AveragedModel

from train import checkpoint, networks, optimise, subtypes
from train.data.augment import augment, mix
from train.data.images import Batches, Images, loader, sampling_weights
from train.evaluation import scores
from train.teacher import Distillation

console = Console(stderr=True, log_path=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides a run's result; stored in its checkpoints, so that `--resume` can refuse other ones."""

    data: tuple[str, ...]
    magnification: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    split: str = "patient"
    seed: int = 0
    network: str = "resnet50"
    init: str = "none"
    size: int = 150
    head_epochs: int = 1
    epochs: int = 12
    unfreeze: str = "auto"
    epoch_images: int = 2000
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 4e-4
    layer_decay: float = 0.8
    warm_up: float = 0.15
    weight_decay: float = 0.05
    label_smoothing: float = 0.0
    mixup: float = 0.0
    jitter: float = 0.1
    ema_decay: float = 0.99
    patience: int = 0
    teacher: str = "none"
    distillation: float = 1.0
    labels: str = "class"
    backbone_rate: float = 1.0
    batch_norm: str = "adapt"
    soften: float = 0.0
    dropout: float = 0.0


def of_subtypes(settings: Settings, training: Images) -> dict[str, bool] | None:
    """What the head tells apart, see `train.subtypes.mapping`; None if it is the two classes."""
    return subtypes.mapping(training) if settings.labels == "subtype" else None


def start(settings: Settings, training: Images) -> nn.Module:
    """The network before its first step."""
    torch.manual_seed(settings.seed)
    return networks.build(settings.init, settings.network, of_subtypes(settings, training), settings.dropout)


class Training:
    """The state that changes while a network learns: weights, their average, optimiser and schedule."""

    def __init__(self, settings: Settings, model: nn.Module, parts: dict[str, Images], device: torch.device, workers: int, compiled: bool) -> None:
        self.settings, self.parts, self.device, self.workers = settings, parts, device, workers
        self.architecture = networks.get_architecture(settings.network)
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # of a million photographs, what is near the pixels is worth keeping (Yosinski et al., NeurIPS 2014); of our own thousands, it still improves
        self.unfreeze_from = ("layer3" if networks.of_imagenet(settings.init) else "stem") if settings.unfreeze == "auto" else settings.unfreeze
        step = settings.batch_size * settings.accumulate
        self.steps = max(1, -(-(settings.epoch_images or len(parts["train"])) // step))
        head_epochs = min(settings.head_epochs, settings.epochs - 1)
        self.phases = (head_epochs * self.steps, (settings.epochs - head_epochs) * self.steps)
        rates = (settings.learning_rate, settings.layer_decay, settings.weight_decay, settings.backbone_rate)
        groups = optimise.parameter_groups(model, self.architecture, *rates)
        self.distillation = None
        if settings.teacher != "none":
            width = model.get_submodule(self.architecture.head).in_features
            self.distillation = Distillation(settings.teacher, int(width)).to(device)  # type: ignore[arg-type]
            groups.append({"params": list(self.distillation.parameters()), "lr": settings.learning_rate, "weight_decay": 0.0})
        self.optimiser = torch.optim.AdamW(groups, fused=device.type == "cuda")
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda at: optimise.rate(at, self.phases, settings.warm_up))
        self.averaged = AveragedModel(self.model, multi_avg_fn=optimise.moving_average(settings.ema_decay), use_buffers=True)
        self.network = torch.compile(self.model) if compiled else self.model
        self.batches = Batches(parts["train"], *self._targets(), device=device if device.type == "cuda" else None)

    def _targets(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]] | tuple[()]:
        """One-hot subtypes, float32 N x S, and how often each image is drawn; nothing where the head tells two classes."""
        if self.settings.labels != "subtype":
            return ()
        names = subtypes.names(self.parts["train"])
        _, index = np.unique(names, return_inverse=True)
        return np.eye(index.max() + 1, dtype=np.float32)[index], sampling_weights(self.parts["train"], names)

    def run(self, out: Path | None = None, meta: dict[str, Any] | None = None, last: dict[str, Any] | None = None) -> list[dict[str, float]]:
        """All epochs that are not done yet; returns the history. `out`, if given, receives `last.pt` and `best.pt`.

        Without validation images nothing is chosen: the last epoch is the best.
        """
        history: list[dict[str, float]] = []
        if last:
            history = last["history"]
            for name, part_of_state in self._state().items():
                part_of_state.load_state_dict(last[name])
        with _progress() as progress:
            bar = progress.add_task("training", total=self.settings.epochs * self.steps, completed=len(history) * self.steps, note="")
            for epoch in range(len(history), self.settings.epochs):
                if self._stalled(history):
                    console.log(f"no better epoch in {self.settings.patience}: stopping early")
                    break
                torch.manual_seed(self.settings.seed * 100_003 + epoch)  # an epoch draws the same whether or not the run was cut before it
                started = time.monotonic()
                row = {"epoch": epoch + 1} | self._epoch(epoch, lambda: progress.advance(bar)) | self._validate()
                history.append(row | {"seconds": time.monotonic() - started})
                if out:
                    self._keep(out, (meta or {}) | {"epoch": epoch + 1}, history)
                progress.update(bar, note=f"epoch {epoch + 1} loss {row['loss']:.3f} AUROC {row.get('auroc', math.nan):.3f}")
                figures = " ".join(f"{key} {value:.4f}" for key, value in row.items() if key != "epoch")
                console.log(f"epoch {epoch + 1}/{self.settings.epochs} {figures}")
        return history

    def _validate(self) -> dict[str, float]:
        images = self.parts["validation"]
        if not len(images):
            return {}
        return scores.validate(images, scores.logits(self.averaged.module, images, self.device, fast=True))

    def _keep(self, out: Path, meta: dict[str, Any], history: list[dict[str, float]]) -> None:
        """Writes `last.pt`, and before it `best.pt` if no epoch was better: killed between the two, the epoch is run again."""
        if "auroc" not in history[-1] or history[-1]["auroc"] >= max(row["auroc"] for row in history):
            checkpoint.save(out / "best.pt", {"model": self.averaged.module.state_dict(), "meta": meta})
        state = {name: part_of_state.state_dict() for name, part_of_state in self._state().items()}
        checkpoint.save(out / "last.pt", state | {"history": history, "meta": meta})

    def _state(self) -> dict[str, Any]:
        state = {"model": self.model, "averaged": self.averaged, "optimiser": self.optimiser, "schedule": self.schedule}
        return state | ({"distillation": self.distillation} if self.distillation else {})

    def _stalled(self, history: list[dict[str, float]]) -> bool:
        """Whether the best epoch lies `patience` epochs back; while only the head learns, nothing has stalled."""
        if not self.settings.patience or len(history) <= self.settings.head_epochs:
            return False
        best = max(range(len(history)), key=lambda index: history[index]["auroc"])
        return len(history) - 1 - max(best, self.settings.head_epochs) >= self.settings.patience

    def unfreeze(self, epoch: int) -> None:
        """Lets what learns in an epoch learn: only the head in the first phase."""
        learning = "head" if epoch * self.steps < self.phases[0] else self.unfreeze_from
        optimise.unfreeze(self.model, self.architecture, learning, self.unfreeze_from if self.settings.batch_norm == "adapt" else "head")

    def step(self, batches: Iterator[tuple[Tensor, ...]]) -> Tensor:
        """One step of the optimiser over `accumulate` batches: mean loss, weight of what was right, weight of all.

        They stay on the device, since reading them would make a GPU wait.
        """
        accumulate = self.settings.accumulate
        sums = torch.zeros(3, device=self.device)
        self.optimiser.zero_grad(set_to_none=True)
        for _ in range(accumulate):
            pixels, target, weight = (value.to(self.device, non_blocking=True) for value in next(batches))
            images = augment(pixels, self.settings.jitter, self.settings.soften).contiguous(memory_format=torch.channels_last)
            loss, right = self._loss(images, target, weight)
            (loss / accumulate).backward()
            sums += torch.stack([loss.detach() / accumulate, (right * weight).sum(), weight.sum()])
        self.optimiser.step()
        self.schedule.step()
        self.averaged.update_parameters(self.model)
        return sums

    def _epoch(self, epoch: int, advance: Callable[[], None]) -> dict[str, float]:
        self.unfreeze(epoch)
        count = self.steps * self.settings.accumulate
        batches = iter(loader(self.batches, count, self.settings.batch_size, self.workers, self.device))
        sums = torch.zeros(3, device=self.device)
        for _ in range(self.steps):
            sums += self.step(batches)
            advance()
        loss, right, seen = sums.tolist()
        if not np.isfinite(loss):
            raise click.ClickException("The loss is no longer a number; lower --learning-rate and start again in another --out.")
        return {"loss": loss / self.steps, "train_accuracy": right / seen}

    def _loss(self, images: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy and what distillation adds to it; and which images were right, N.

        Of the two classes, or, where `target` is N x S, of the subtypes.
        """
        if self.settings.mixup:
            images, target, weight = mix(images, target, weight, self.settings.mixup)
        smooth = self.settings.label_smoothing
        if target.ndim == 2:
            logits = self._subtypes(images)
            wanted = target * (1 - smooth) + smooth / target.shape[1]
            return -(wanted * logits.log_softmax(dim=1)).sum(dim=1).mean(), logits.detach().argmax(dim=1) == target.argmax(dim=1)
        logits, features = self._forward(images)
        losses = binary_cross_entropy_with_logits(logits, target * (1 - smooth) + smooth / 2, reduction="none")
        loss = (losses * weight).mean()
        if self.distillation:
            with scores.autocast(self.device, True):
                loss = loss + self.settings.distillation * self.distillation(features, images)
        return loss, (logits.detach() >= 0) == (target >= 0.5)

    def _subtypes(self, images: Tensor) -> Tensor:
        """Logits of the subtypes, float32 N x S."""
        head = self.model.get_submodule(self.architecture.head)
        with scores.autocast(self.device, True):
            _, features = networks.features(self.model, self.settings.network, images)
            logits: Tensor = head.subtypes(features).float()  # type: ignore[operator]
        return logits

    def _forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Difference of the logits, float32 N, and the features that a teacher wants to see."""
        with scores.autocast(self.device, True):
            if self.distillation:
                logits, features = networks.features(self.model, self.settings.network, images)
            else:
                logits, features = self.network(images), None
        return logits[:, 1].float() - logits[:, 0].float(), features


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
