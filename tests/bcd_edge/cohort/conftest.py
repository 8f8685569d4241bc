"""Twelve drawn patients with a picture each: those that relapse have twice the nuclei."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import pytest

from bcd_edge.synthetic import tissue


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `images/PATIENT/field.png` at 0.5 µm per pixel, and `clinical.csv`."""
    root = tmp_path_factory.mktemp("cohort")
    rows = []
    for number in range(12):
        folder = root / "images" / f"P{number:02}"
        folder.mkdir(parents=True)
        relapses = number % 2
        pixels = tissue(number, height=200, width=200, glands=0, scattered=30 + 30 * relapses)
        assert cv2.imwrite(str(folder / "field.png"), pixels[..., ::-1])
        row = {"patient": f"P{number:02}", "relapse": ("no", "yes")[relapses], "grade": 1 + number % 3, "age": 40.5 + number}
        rows.append(row | {"months": 30 - 2 * number, "died": int(number != 3), "site": "one", "comment": f"text {number}"})
    with (root / "clinical.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return root
