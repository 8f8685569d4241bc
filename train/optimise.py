"""How weights move: which stages learn when, at what rate, and which average of them is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from train.choices import STAGES
from train.networks import Architecture


def parameter_groups(
    network: nn.Module, architecture: Architecture, learning_rate: float, layer_decay: float, weight_decay: float, backbone_rate: float = 1.0
) -> list[dict[str, Any]]:
    """Groups for AdamW: the head learns at `learning_rate`, each stage before it at `layer_decay` times the next one's.

    All but the head also at `backbone_rate` of that, which keeps pretrained features while a new head finds its place.

    Discriminative rates as in Howard & Ruder (ACL 2018, section 3.2). Norms and biases, everything of one dimension,
    are not decayed (He et al., CVPR 2019, "Bag of tricks", section 3.1).
    """
    chosen: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        chosen.setdefault((architecture.stage(name), parameter.ndim > 1), []).append(parameter)
    head = len(STAGES) - 1
    return [
        {
            "params": parameters,
            "lr": learning_rate * layer_decay ** (head - stage) * (1.0 if stage == head else backbone_rate),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (stage, decays), parameters in sorted(chosen.items(), key=lambda entry: entry[0])
    ]


def unfreeze(network: nn.Module, architecture: Architecture, learning: str, adapting: str) -> None:
    """Lets weights learn from one stage on, and batch statistics follow the images from another on; before, both stay.

    Statistics are let go before weights: a head that learned on those of another collection would see other features
    the moment they move (on BreaKHis the loss doubled and validation AUROC fell to 0.24 for some epochs).

    Args:
        network: of `architecture`.
        architecture: whose stages are meant.
        learning: first of `STAGES` whose weights learn.
        adapting: first of `STAGES` whose batch norms use and update the batch's statistics.
    """
    network.train()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(architecture.stage(name) >= STAGES.index(learning))
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d) and architecture.stage(name) < STAGES.index(adapting):
            module.eval()


def rate(step: int, phases: tuple[int, ...], warm_up: float) -> float:
    """Share of the peak rate at a step: in each phase a linear warm-up, then half a cosine to zero (Loshchilov & Hutter, ICLR 2017).

    Args:
        step: 0, 1, ...
        phases: steps of each phase; their sum is the run's.
        warm_up: share of a phase that the warm-up takes, 0..1.
    """
    for length in phases:
        if step < length:
            rising = max(1, round(warm_up * length))
            return (step + 1) / rising if step < rising else (1 + math.cos(math.pi * (step - rising) / max(1, length - rising))) / 2
        step -= length
    return 0.0


def moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average of weights and batch statistics, quick at first (as `(1 + n) / (10 + n)`), then `decay`.

    One epoch's weights swing with the last batches, most of all the batch statistics of a mix of collections; their
    average does not (Polyak & Juditsky, SIAM J. Control Optim. 1992), and it is what is validated and kept.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        # on the device: reading the count would make every step wait for the one before
        kept = torch.clamp((1 + torch.as_tensor(count)) / (10 + torch.as_tensor(count)), max=decay)
        floating = [(old, new) for old, new in zip(averaged, current, strict=True) if old.is_floating_point()]
        olds, news = [old for old, _ in floating], [new for _, new in floating]
        if olds:
            changes = torch._foreach_sub(news, olds)  # what does not learn stays what it is, to the last bit
            torch._foreach_mul_(changes, 1 - kept)
            torch._foreach_add_(olds, changes)
        for old, new in zip(averaged, current, strict=True):
            if not old.is_floating_point():
                old.copy_(new)

    return update
