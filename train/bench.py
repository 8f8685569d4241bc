"""`python -m train bench`: does the loader keep up with the step?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bcd_edge.benchmark.statistics import percentile
from bcd_edge.bundle import Input
from bcd_edge.estimates import Estimate
from bcd_edge.interleaved import in_turns
from bcd_edge.readers import raster
from bcd_edge.synthetic import tissue
from train import networks
from train.data.images import Batches, Images, loader
from train.data.split import PARTS
from train.fit import device_named
from train.training import Settings, Training

LIMIT = 0.05  # of the step: what the loader may add before a GPU waits for it
IMAGES = 2048  # enough that gathering them does not stay in a CPU's cache
ROUNDS = 12

Floats = npt.NDArray[np.float64]


def bench(name: str, size: int, batch_size: int, seconds: float, *, device: str, workers: int, compiled: bool) -> None:
    """Prints what `rates` measures."""
    _show(rates(name, size, batch_size, seconds, device=device, workers=workers, compiled=compiled), device_named(device))


def rates(
    name: str, size: int, batch_size: int, seconds: float, *, device: str, workers: int, compiled: bool, rounds: int = ROUNDS
) -> dict[str, Floats]:
    """Images per second of the loader alone, of the step on one batch that is there already, and of both, in each of `rounds` turns.

    The pixels lie where training keeps them: on the GPU, if there is one. A B C A B C, because a machine's speed drifts. Loading
    comes before both: it empties the queue of batches that filled during the step, which would else hide what the loader costs.
    """
    target = device_named(device)
    images = _images(size)
    settings = Settings(data=(), network=name, size=size, batch_size=batch_size, head_epochs=0)
    training = Training(settings, networks.build(name=name), dict.fromkeys(PARTS, images), target, workers, compiled)
    training.unfreeze(0)
    ready = next(iter(loader(training.batches, 1, batch_size, 0, target)))
    measures: dict[str, Callable[[], None]] = {}
    stream = _endless(training.batches, batch_size, workers, target)
    measures["step alone"] = lambda: training.step(iter([ready]))
    measures["loader alone"] = lambda: _touch(next(stream))
    measures["both"] = lambda: training.step(stream)
    for call in measures.values():
        call()  # compiles, allocates, starts workers
    turns = in_turns({name: partial(_per_second, call, seconds / rounds, target) for name, call in measures.items()}, rounds)
    return {name: batch_size * np.array(per_second) for name, per_second in turns.items()}


def added(rate: dict[str, Floats]) -> Estimate:
    """Which share of the step the loader adds: the median of the turns."""
    return percentile(rate["step alone"] / rate["both"] - 1, 0.5)


def interval(cost: Estimate) -> str:
    """A share with its interval, in percent."""
    low, high = (" ? " if end is None else f"{end:+.1%}" for end in (cost.low, cost.high))
    return f"{cost.value:+.1%} [{low}, {high}]"


def _images(size: int) -> Images:
    """Drawn tissue, as many as fit the purpose: what is measured does not depend on what they show."""
    kinds = np.stack([raster.resize(tissue(seed), Input(size, size)) for seed in range(8)])
    names = np.array([str(index) for index in range(IMAGES)])
    source = np.full(IMAGES, "synthetic")
    return Images(np.tile(kinds, (IMAGES // 8, 1, 1, 1)), np.arange(IMAGES) % 2 == 1, source, names, source, names)


def _endless(batches: Batches, batch_size: int, workers: int, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    while True:
        yield from loader(batches, 512, batch_size, workers, device)


def _touch(batch: tuple[Tensor, ...]) -> None:
    """Reads one number, so that a batch that was only promised is really there."""
    float(batch[0].flatten()[-1])


def _per_second(measure: Callable[[], None], seconds: float, device: torch.device) -> float:
    """Calls a second; the first call, which finds what the thing before left, is not counted."""
    measure()
    _finish(device)
    count, started = 0, time.perf_counter()
    while not count or time.perf_counter() - started < seconds:
        measure()
        count += 1
    _finish(device)
    return count / (time.perf_counter() - started)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _show(rate: dict[str, Floats], device: torch.device) -> None:
    console = Console()
    table = Table("", "images/s", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for name, values in rate.items():
        table.add_row(name, f"{np.median(values):,.0f}")
    console.print(table)
    console.print(verdict(added(rate), device.type))


def verdict(cost: Estimate, device: str) -> str:
    """What to think of it; nothing where the interval holds the limit."""
    sentence = f"The loader adds {interval(cost)} to the step on {device}"
    if cost.high is not None and cost.high <= LIMIT:
        return f"{sentence}, within the {LIMIT:.0%} it may."
    if cost.low is not None and cost.low > LIMIT:
        return f"{sentence}, more than the {LIMIT:.0%} it may. Give --workers, about one a core, and measure again."
    return f"{sentence}; whether that is within the {LIMIT:.0%} it may is too noisy to tell: give more --seconds on a quiet machine."
