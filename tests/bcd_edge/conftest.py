"""Pictures made once, and damaged copies of the embedded bundle."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from bcd_edge import bundle
from bcd_edge.classifier import Classifier
from bcd_edge.options import RunOptions
from bcd_edge.synthetic import tissue

# A busy machine makes no example wrong.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every command that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is compiled and tuned stays out of the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("BCD_EDGE_CACHE", str(folder))
        yield folder


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
def dicom() -> Callable[..., bytes]:
    """Makes DICOM files, see `benchmarks.dicom_files.made`; skips what uses it where pydicom or the source tree is missing."""
    pytest.importorskip("pydicom")
    maker: Callable[..., bytes] = pytest.importorskip("benchmarks.dicom_files").made
    return maker


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return Classifier.load(options=RunOptions(provider="cpu"))


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the embedded bundle, without its golden images, whose manifest went through a function."""

    def change(edit: Callable[[dict[str, Any]], None] = lambda manifest: None) -> Path:
        copy = tmp_path / "bundle"
        shutil.copytree(bundle.embedded(), copy, ignore=shutil.ignore_patterns("golden-*.png"))
        manifest = json.loads((copy / "manifest.json").read_text())
        del manifest["golden"]
        edit(manifest)
        (copy / "manifest.json").write_text(json.dumps(manifest))
        return copy

    return change


@pytest.fixture
def golden(changed: Callable[..., Path], classifier: Classifier) -> Callable[..., Path]:
    """A copy of the embedded bundle with two golden images, answered here, whose manifest then went through a function."""

    def change(edit: Callable[[dict[str, Any]], None] = lambda manifest: None) -> Path:
        folder = changed()
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["golden"] = []
        for seed in (1, 2):
            data = encode(Image.fromarray(tissue(seed, height=90, width=120)), "PNG")
            (folder / f"golden-{seed}.png").write_bytes(data)
            p = classifier.classify(data).p_malignant
            entry = {"file": f"golden-{seed}.png", "sha256": hashlib.sha256(data).hexdigest(), "p_malignant": p}
            manifest["golden"].append(entry | {"variants": {variant["file"]: p for variant in manifest["variants"]}})
        edit(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return change


@pytest.fixture
def ensemble(changed: Callable[..., Path]) -> Callable[..., Path]:
    """A bundle of schema 2: the embedded model twice, at temperatures 1 and 3, whose manifest then went through a function."""

    def change(edit: Callable[[dict[str, Any]], None] = lambda manifest: None) -> Path:
        def join(manifest: dict[str, Any]) -> None:
            taken = manifest["input"]
            del manifest["novelty"]
            manifest.update(schema=2, members=[{"name": f"t{t}", "input": dict(taken), "temperature": t} for t in (1, 3)])
            manifest["output"]["temperature"] = 1
            for variant in manifest["variants"]:
                file = {key: variant.pop(key) for key in ("file", "sha256", "bytes", "opset", "ir_version")}
                variant["members"] = [file, dict(file)]
            edit(manifest)

        return changed(join)

    return change
