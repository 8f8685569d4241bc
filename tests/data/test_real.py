"""The embedded model on real images of patients it never saw, through the command line."""

from __future__ import annotations

import csv
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from bcd_edge import bundle
from bcd_edge.readers import raster
from train.data import split
from train.data.images import read_all

SPLIT = Path(__file__).parents[2] / "docs" / "resnet50-breast-split.json"
IMAGES = Path(__file__).parents[3] / "shared" / "data"
SETS = {"breakhis": IMAGES / "breakhis" / "images.zip", "idc": IMAGES / "idc" / "idc_patches.zip"}

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif(not all(path.exists() for path in SETS.values()), reason="the real images are not in ../shared/data beside this checkout"),
]


def test_predictions_on_the_test_patients_equal_the_model_card(tmp_path: Path) -> None:
    data = [f"{name}={path}" for name, path in SETS.items()]
    items = read_all(data)
    held_out = [item for item in items if split.read(SPLIT).part(item) == "test"]
    assert len(held_out) >= 400
    for item in held_out:
        file = tmp_path / "images" / item.source / item.name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(item.data)
    predictions = tmp_path / "predictions.csv"
    with predictions.open("wb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "bcd_edge", "predict", tmp_path / "images", "--no-quality", "--format", "csv", "--provider", "cpu"], stdout=stream
        )
    assert done.returncode == 0
    with predictions.open(newline="") as stream:
        assert sum(row["status"] == "ok" for row in csv.DictReader(stream)) == len(held_out)
    options = [option for entry in data for option in ("--data", entry)] + ["--split", str(SPLIT)]
    scored = subprocess.run([sys.executable, "-m", "export", "score", predictions, *options], capture_output=True, text=True)
    assert scored.returncode == 0, scored.stdout + scored.stderr


def test_pixels_are_those_of_a_plain_decoder() -> None:
    for path in SETS.values():
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith((".jpg", ".png")))
            for data in map(archive.read, names[::50]):
                plain = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
                assert np.array_equal(raster.decode(data), plain)


def test_the_originals_are_read_at_their_published_size() -> None:
    originals = sorted((IMAGES / "breakhis" / "originals").glob("*.png"))
    done = subprocess.run([sys.executable, "-m", "bcd_edge", "predict", *originals, "--format", "csv"], capture_output=True, text=True, check=True)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert len(rows) == len(originals) == 22
    assert {row["execution.bundle_sha256"] for row in rows} == {bundle.open().sha256}
