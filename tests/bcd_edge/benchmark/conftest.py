"""Trees of /proc, /sys and /etc, kept as path to content in trees/."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

TREES = Path(__file__).parent / "trees"


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Lays out a tree of trees/, with further or other files; an empty one without a name."""

    def lay(name: str = "", **changes: str) -> Path:
        root = tmp_path / (name or "empty")
        root.mkdir(exist_ok=True)
        content = json.loads((TREES / f"{name}.json").read_text(encoding="utf-8")) if name else {}
        for path, text in (content | changes).items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return root

    return lay
