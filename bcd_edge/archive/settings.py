"""What an archive run was asked for: what decides its answers, and how it works. Light, because the command line imports it."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bcd_edge.options import RunOptions
from bcd_edge.triage.scale import NamePattern, compile_pattern


def absolute(source: str) -> str:
    """A source that means the same from any folder, as a URL does."""
    return source if "://" in source or Path(source).is_absolute() else os.path.normpath(Path.cwd() / source)


def typed(name: str, value: Any) -> str:
    """A setting as it is typed, after *with* or *without*."""
    if name == "sources":
        return f"with {shlex.join(value)}"
    if name == "measures_quality":
        return "with --quality" if value else "with --no-quality"
    option = f"--{name.replace('_', '-')}"
    return f"without {option}" if value is None else f"with {option} {shlex.quote(str(value))}"


@dataclass(frozen=True, slots=True)
class Answers:
    """What decides the rows: a run that goes on must have the same.

    Attributes:
        sources: folders, globs, manifests, URLs; absolute, so that a run goes on from any folder.
        shard_size: inputs of a shard.
        threshold: operating threshold; the bundle's if not given.
        measures_quality: as for `Classifier.load`.
        um_per_pixel: as for `Classifier.load`.
        scale_from_name: as for `Classifier.load`.
        patients: pattern for the patient in a path.
        field_um: side of a whole slide's tiles in µm.
        overlap: of a whole slide's tiles.
        embeddings: type of the column of embeddings, `float32` or `float16`; none if not given.
    """

    sources: tuple[str, ...]
    shard_size: int = 1000
    threshold: float | None = None
    measures_quality: bool = True
    um_per_pixel: float | None = None
    scale_from_name: NamePattern | None = None
    patients: str | None = None
    field_um: float | None = None
    overlap: float = 0.0
    embeddings: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        scale = self.scale_from_name
        pattern = scale and ("breakhis" if scale.widths_um else scale.pattern.pattern)
        return {item.name: getattr(self, item.name) for item in fields(self)} | {"sources": list(self.sources), "scale_from_name": pattern}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Answers:
        """What `as_dict` made."""
        pattern = plain["scale_from_name"]
        return cls(**plain | {"sources": tuple(plain["sources"]), "scale_from_name": pattern and compile_pattern(pattern)})

    @property
    def triage(self) -> dict[str, Any]:
        """Arguments of `Classifier.load`."""
        return {name: getattr(self, name) for name in ("measures_quality", "um_per_pixel", "scale_from_name")}


@dataclass(frozen=True, slots=True)
class Work:
    """How the work is done, which changes no answer.

    Attributes:
        bundle: folder or .zip; the embedded one if not given.
        options: provider, batch and so on, of each machine.
        is_mixed: whether the rows may come from different providers.
        retries_failed: whether shards with failed rows are done again.
        max_failures: number of failed inputs after which the run ends.
        max_rate: bytes per second that are read by all machines together.
        ray_address: of a Ray cluster; `local` for one on this machine; None for no Ray.
    """

    bundle: str | None = None
    options: RunOptions = field(default_factory=RunOptions)
    is_mixed: bool = False
    retries_failed: bool = False
    max_failures: int | None = None
    max_rate: float | None = None
    ray_address: str | None = None
