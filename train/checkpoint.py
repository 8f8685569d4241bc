"""Checkpoints, and the other files of a run: written whole or not at all, read without running code in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import load_file

from bcd_edge.system.atomic import atomic_file, atomic_write


def save(path: Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint atomically: a run killed or a disk filled while writing leaves the last good file.

    Raises:
        click.ClickException: it could not be written; the old file is untouched.
    """
    try:
        with atomic_file(path, durable=True) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError for a full disk
        raise _unwritten(path, error) from None


def write(path: Path, text: str) -> None:
    """Text, the same way."""
    try:
        atomic_write(path, text.encode())
    except OSError as error:
        raise _unwritten(path, error) from None


def _unwritten(path: Path, error: Exception) -> click.ClickException:
    return click.ClickException(f"{path} could not be written ({error}); free some space and go on with --resume.")


def load(path: Path) -> dict[str, Any]:
    """Reads a checkpoint or state dict, torch's or safetensors', without running any code in it.

    Raises:
        click.ClickException: missing, truncated, or holding more than tensors and plain values.
    """
    try:
        if path.suffix == ".safetensors":
            state: dict[str, Any] = load_file(path)
            return state
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise click.ClickException(f"{path} does not exist; give a checkpoint, for example runs/NAME/best.pt.") from None
    except Exception as error:  # a damaged zip or pickle can raise nearly anything; torch's own text advises to run its code
        raise click.ClickException(
            f"{path} is no usable checkpoint ({type(error).__name__}): damaged, or more than tensors and plain values; "
            "give the best.pt of a run, or a state dict saved by torch."
        ) from None
    if not isinstance(content, dict):
        raise click.ClickException(f"{path} holds a {type(content).__name__}, not a state dict.")
    return content
