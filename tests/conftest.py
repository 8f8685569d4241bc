"""A small collection drawn by the generator, and one finished training run on it, shared by the tests of both stages."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from bcd_edge.synthetic import tissue


def write_collection(path: Path, patients: int = 10, images: int = 3, side: int = 64) -> Path:
    """In BreaKHis's naming: benign pictures have a gland, malignant ones are crowded with irregular nuclei."""
    with zipfile.ZipFile(path, "w") as archive:
        for patient in range(2 * patients):
            malignant = patient % 2 == 1
            for index in range(images):
                picture = tissue(
                    100 * patient + index, height=side, width=side, glands=0 if malignant else 1, scattered=60 if malignant else 3, irregular=0.6
                )
                name = f"SOB_{'M_DC' if malignant else 'B_A'}-14-{1000 + patient}{'AB' if index else ''}-100-{index:03d}.png"
                archive.writestr(name, cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
    return path


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images of tests stay out of the developer's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BCD_EDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A command that runs in this process sets up the log, and `--quiet` would hide the next test's warnings."""
    logger = logging.getLogger("bcd_edge")
    handlers, propagates, level = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate = handlers, propagates
    logger.setLevel(level)


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"breakhis={write_collection(tmp_path_factory.mktemp('images') / 'images.zip')}"


def training_options(collection: str, out: Path) -> list[str]:
    """Of a run that learns to tell the drawn classes apart in a second."""
    return (
        f"--data {collection} --out {out} --network tiny --size 32 --epochs 2 --head-epochs 0 --epoch-images 240 --batch-size 8 "
        "--learning-rate 5e-3 --device cpu"
    ).split()


@pytest.fixture(scope="session")
def run(collection: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `python -m train fit`."""
    from train.__main__ import main

    out = tmp_path_factory.mktemp("runs") / "small"
    done = CliRunner().invoke(main, ["fit", *training_options(collection, out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return out
