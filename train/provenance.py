"""Where a run's weights come from: settings, data, code, libraries, and every patient they were trained on."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np

from train import checkpoint, networks
from train.data.images import Images
from train.data.split import Split

LIBRARIES = ("torch", "torchvision", "numpy", "opencv-python-headless", "scikit-learn")


def describe(settings: dict[str, Any], split: Split, parts: dict[str, Images]) -> dict[str, Any]:
    """What is known of a run before it starts, for its checkpoints and its manifest.

    Raises:
        click.ClickException: the initial weights were trained on patients that this run holds out.
    """
    return {
        "settings": settings,
        "classes": list(networks.CLASSES),
        "leaky": split.leaky,
        "split": {"fingerprint": split.fingerprint, "unit": split.unit, "parts": {name: _counts(images) for name, images in parts.items()}},
        "versions": {name: version(name) for name in LIBRARIES},
        "revision": revision(),
        **_ancestry(settings["init"], parts),
    }


def revision() -> str:
    """The source revision, with `-dirty` if files differ from it, or `unknown` outside a repository."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
        )
    except OSError:
        return "unknown"
    return run.stdout.strip() or "unknown"


def _counts(images: Images) -> dict[str, dict[str, int]]:
    return {
        str(source): {
            "patients": len(np.unique(images.groups[images.sources == source])),
            "benign": int((~images.malignant[images.sources == source]).sum()),
            "malignant": int(images.malignant[images.sources == source].sum()),
        }
        for source in np.unique(images.sources)
    }


def _ancestry(init: str, parts: dict[str, Images]) -> dict[str, Any]:
    """Every patient the weights have seen and the settings of the runs before."""
    seen = set(map(str, parts["train"].groups))
    if init in ("none", "imagenet"):
        return {"trained_on": sorted(seen), "before": []}
    meta = checkpoint.load(Path(init)).get("meta", {})
    held_out = {str(group) for name in ("validation", "test") for group in parts[name].groups} - seen
    leaked = sorted(held_out & set(meta.get("trained_on", [])))
    if leaked:
        raise click.ClickException(
            f"The initial weights {init}: trained on {len(leaked)} patients that this run holds out ({', '.join(leaked[:3])} ...); "
            "use the same --seed as that run."
        )
    before = [{"settings": meta["settings"], "epoch": meta["epoch"]}] if meta else []
    return {"trained_on": sorted(seen | set(meta.get("trained_on", []))), "before": [*meta.get("before", []), *before]}
