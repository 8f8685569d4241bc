"""Pictures made once, and damaged copies of the embedded bundle."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bcd_edge import bundle
from bcd_edge.classifier import Classifier
from bcd_edge.synthetic import tissue


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    return tissue(5, height=90, width=120, glands=1, scattered=30)


@pytest.fixture(scope="session")
def png(picture: np.ndarray) -> bytes:
    return encode(Image.fromarray(picture), "PNG")


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return Classifier.load()


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the embedded bundle whose manifest went through a function."""

    def change(edit: Callable[[dict[str, Any]], None] = lambda manifest: None) -> Path:
        copy = tmp_path / "bundle"
        shutil.copytree(bundle.embedded(), copy)
        manifest = json.loads((copy / "manifest.json").read_text())
        edit(manifest)
        (copy / "manifest.json").write_text(json.dumps(manifest))
        return copy

    return change
