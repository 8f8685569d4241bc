"""A collection with copies, broken files and what is to be left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest

from bcd_edge.archive import folders
from bcd_edge.archive.progress import Progress
from bcd_edge.archive.run import Summary, archive
from bcd_edge.archive.settings import Answers, Work
from bcd_edge.options import RunOptions
from bcd_edge.synthetic import tissue

WORK = Work(options=RunOptions(provider="cpu"))


def encoded(seed: int) -> bytes:
    return cv2.imencode(".png", tissue(seed, height=60, width=80, glands=0, scattered=10)[..., ::-1])[1].tobytes()


@pytest.fixture(scope="session")
def pictures() -> list[bytes]:
    return [encoded(seed) for seed in range(20)]


@pytest.fixture
def collection(tmp_path: Path, pictures: list[bytes]) -> Path:
    """28 inputs: 20 pictures, 5 copies, 2 damaged ones and 1 empty; in two patients' folders, one of them with a folder below it."""
    folder = tmp_path / "collection"
    for name in ("P1", "P2", "P2/below", "@eaDir", ".hidden"):
        (folder / name).mkdir(parents=True)
    for index in range(25):
        (folder / ("P1", "P2", "P2/below")[index % 3] / f"{index:02}.png").write_bytes(pictures[(7 * index) % 20])
    (folder / "P1/cut.png").write_bytes(pictures[0][:300])
    (folder / "P2/cut.png").write_bytes(pictures[0][:300])
    (folder / "P1/empty.png").touch()
    for name in ("@eaDir/00.png", ".hidden/00.png", "P1/notes.txt", "P1/.00.png"):
        (folder / name).write_bytes(pictures[0])
    return folder


def run(out: Path | str, *sources: Any, work: Work = WORK, resume: bool = False, **answers: Any) -> Summary:
    """An archive in shards of 5."""
    return archive(out, Answers(tuple(map(str, sources)), **{"shard_size": 5} | answers), work, Progress(out, print), resume=resume)


def rows(out: Path | str) -> list[dict[str, Any]]:
    """All rows in the order of the listing, without the times."""
    table = folders.open(out).dataset("records").to_table().sort_by("row")
    return table.drop_columns(["timing_ms", "part"]).to_pylist()


def same(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the digits that do not depend on the pictures that are in a batch with it."""
    return row | {key: row[key] and round(row[key], 5) for key in ("p_malignant", "novelty")}
