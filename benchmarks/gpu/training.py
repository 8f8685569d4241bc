"""A step of training, and what the loader adds to it."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.gpu.setting import Figures, Setting, Steps
from benchmarks.gpu.throughput import memory
from train.bench import added, rates

NETWORK, SIZE, BATCH, WORKERS = "resnet50v2", 192, 192, 4


def steps(setting: Setting) -> Steps:
    """Eager, and compiled."""
    return {"eager": partial(_train, setting, compiled=False), "compiled": partial(_train, setting, compiled=True)}


def _train(setting: Setting, *, compiled: bool) -> Figures:
    """float16 by autocast and channels last, as `train fit` runs on a card."""
    size, batch = (32, 2) if setting.dry_run else (SIZE, BATCH)
    rounds, seconds = (1, 0.0) if setting.dry_run else (12, 5.0)
    rate = rates(NETWORK, size, batch, seconds, device=setting.device, workers=WORKERS, compiled=compiled, rounds=rounds)
    medians = {name: float(np.median(values)) for name, values in rate.items()}
    shape = {"network": NETWORK, "size": size, "batch": batch, "workers": WORKERS}
    return shape | {"images_per_s": medians, "loader_adds": added(rate).as_dict()} | memory()
