"""`python -m train bench`: does the loader keep up with the step?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bcd_edge import imaging
from bcd_edge.bundle import Input
from bcd_edge.synthetic import tissue
from train import network
from train.data import Images, loader
from train.fit import Settings, Training, device_named
from train.split import PARTS

LIMIT = 0.05  # of the step: what the loader may add before a GPU waits for it
IMAGES = 2048  # enough that gathering them does not stay in a CPU's cache
ROUNDS = 3


def bench(name: str, size: int, batch_size: int, seconds: float, *, device: str, workers: int, compiled: bool) -> None:
    """Prints what `rates` measures."""
    _show(rates(name, size, batch_size, seconds, device=device, workers=workers, compiled=compiled), device_named(device))


def rates(name: str, size: int, batch_size: int, seconds: float, *, device: str, workers: int, compiled: bool) -> dict[str, float]:
    """Images per second of the loader alone, of the step on one batch that is there already, and of both.

    A B C A B C: each is measured in `ROUNDS` turns and the median is quoted, because a machine's speed drifts.
    """
    where = device_named(device)
    images = _images(size)
    settings = Settings(data=(), network=name, size=size, batch_size=batch_size, head_epochs=0)
    training = Training(settings, network.build(name=name), dict.fromkeys(PARTS, images), where, workers, compiled)
    training.thaw(0)
    ready = next(iter(loader(images, 1, batch_size, 0, where)))
    measures: dict[str, Callable[[], None]] = {}
    stream = _endless(images, batch_size, workers, where)
    measures["loader alone"] = lambda: _touch(next(stream))
    measures["step alone"] = lambda: training.step(iter([ready]))
    measures["both"] = lambda: training.step(stream)
    found: dict[str, list[float]] = {what: [] for what in measures}
    for one in measures.values():
        one()  # compiles, allocates, starts workers
    for _ in range(ROUNDS):
        for what, one in measures.items():
            found[what].append(batch_size * _per_second(one, seconds / ROUNDS, where))
    return {what: float(np.median(values)) for what, values in found.items()}


def added(rate: dict[str, float]) -> float:
    """Which share of the step the loader adds."""
    return rate["step alone"] / rate["both"] - 1


def _images(size: int) -> Images:
    """Drawn tissue, as many as fit the purpose: what is measured does not depend on what they show."""
    kinds = np.stack([imaging.fit(tissue(seed), Input(size, size)) for seed in range(8)])
    names = np.array([str(index) for index in range(IMAGES)])
    source = np.full(IMAGES, "synthetic")
    return Images(np.tile(kinds, (IMAGES // 8, 1, 1, 1)), np.arange(IMAGES) % 2 == 1, source, names, source, names)


def _endless(images: Images, batch_size: int, workers: int, where: torch.device) -> Iterator[tuple[Tensor, ...]]:
    while True:
        yield from loader(images, 512, batch_size, workers, where)


def _touch(batch: tuple[Tensor, ...]) -> None:
    """Reads one number, so that a batch that was only promised is really there."""
    float(batch[0].flatten()[-1])


def _per_second(one: Callable[[], None], seconds: float, where: torch.device) -> float:
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        one()
        count += 1
    if where.type == "cuda":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - started)


def _show(rate: dict[str, float], where: torch.device) -> None:
    console = Console()
    table = Table("", "images/s", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for what, value in rate.items():
        table.add_row(what, f"{value:,.0f}")
    console.print(table)
    cost = added(rate)
    verdict = "within" if cost <= LIMIT else "more than"
    console.print(f"The loader adds {cost:+.1%} to the step on {where.type}, {verdict} the {LIMIT:.0%} it may.")
    if cost > LIMIT:
        console.print("Give --workers, about one a core, and measure again.")
