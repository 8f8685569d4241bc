"""What a run keeps: files that are whole or not there, where a checkpoint came from, and whom its weights have seen."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from train import networks
from train.data.images import Images
from train.data.split import Split

LIBRARIES = ("torch", "torchvision", "numpy", "opencv-python-headless", "scikit-learn")


def save(path: Path, content: dict[str, Any]) -> None:
    """Writes beside, then renames: a run killed or a disk filled while writing leaves the last good file.

    Raises:
        click.ClickException: it could not be written; the old file is untouched.
    """
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


def write(path: Path, text: str) -> None:
    """Text, the same way."""
    beside = path.with_suffix(".part")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise click.ClickException(f"{path} could not be written ({error}); free some space and go on with --resume.") from None


def origin(settings: dict[str, Any], split: Split, parts: dict[str, Images]) -> dict[str, Any]:
    """Everything about a run that is known before it starts, for its checkpoints and its manifest.

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
        **_ancestry(settings["weights"], parts),
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


def _ancestry(weights: str, parts: dict[str, Images]) -> dict[str, Any]:
    """Every patient the weights have seen and the settings of the runs before."""
    seen = set(map(str, parts["train"].groups))
    if weights in ("none", "imagenet"):
        return {"trained_on": sorted(seen), "before": []}
    meta = networks.load(Path(weights)).get("meta", {})
    held_out = {str(group) for name in ("validation", "test") for group in parts[name].groups} - seen
    leaked = sorted(held_out & set(meta.get("trained_on", [])))
    if leaked:
        raise click.ClickException(
            f"The initial weights {weights}: trained on {len(leaked)} patients that this run holds out ({', '.join(leaked[:3])} ...); "
            "use the same --seed as that run."
        )
    before = [{"settings": meta["settings"], "epoch": meta["epoch"]}] if meta else []
    return {"trained_on": sorted(seen | set(meta.get("trained_on", []))), "before": [*meta.get("before", []), *before]}
