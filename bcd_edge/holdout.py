"""The file that says which patients are trained on and which are held out: `split.json` of a training run and of exported labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

Part = Literal["train", "validation", "test"]
PARTS: Final[tuple[Part, ...]] = ("train", "validation", "test")


def fingerprint(parts: Mapping[str, Part]) -> str:
    """SHA-256 of an assignment, so that two runs can show that they hold out the same people."""
    return hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()


def text(unit: str, parts: Mapping[str, Part]) -> str:
    """JSON, as `read` takes it."""
    return json.dumps({"unit": unit, "fingerprint": fingerprint(parts), "parts": dict(parts)}, indent=0, sort_keys=True)


def read(path: Path) -> tuple[str, dict[str, Part]]:
    """Unit (`patient`: keys are `collection/patient`; `image`: keys are SHA-256 of files) and parts.

    Raises:
        ValueError: missing, not a split, or changed since it was written; the message says which and what to do.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        unit, parts = content["unit"], dict(content["parts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"no split can be read there ({error}); give patient, image, or the split.json of a run.") from None
    if unit not in ("patient", "image") or not set(parts.values()) <= set(PARTS):
        raise ValueError(f"units are patient and image, parts {', '.join(PARTS)}; give the split.json of a run.")
    if fingerprint(parts) != content.get("fingerprint"):
        raise ValueError("its parts are not those of its fingerprint, so it was changed by hand; make it again.")
    return unit, parts
