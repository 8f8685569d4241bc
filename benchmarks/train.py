"""The cost of the data loader beside the training step."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.baselines import versions
from benchmarks.tables import Row, markdown, put, shown
from train.bench import LIMIT, ROUNDS, added, interval, rates

NETWORK: Final = "resnet50"
SIZE: Final = 150
BATCH: Final = 32
WORKERS: Final = 2


def compare(seconds: float, device: str, out: Path | None) -> None:
    """Measures the loader, the step, and both in turns; puts the table between the marks `train` of `out`.

    Args:
        seconds: for each of the three.
        device: as `python -m train bench` takes it.
        out: a Markdown file.
    """
    rates_by_part = rates(NETWORK, SIZE, BATCH, seconds, device=device, workers=WORKERS, compiled=False)
    detail = ", ".join(f"{part} {np.median(values):,.0f} images/s" for part, values in rates_by_part.items())
    work = f"what the loader adds to a step of {NETWORK} at {SIZE} pixels, batch {BATCH}, {WORKERS} workers, on {device}"
    rows = shown([Row(work, f"at most {LIMIT:.0%}", interval(added(rates_by_part)), f"medians of {ROUNDS} turns: {detail}")])
    put(markdown(f"{NETWORK} in training", rows, *versions()), out, "train")
