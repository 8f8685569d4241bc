"""Recordings of drawn tissue, and streams that ffmpeg serves."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from bcd_edge.readers.raster import UInt8Image
from bcd_edge.synthetic import tissue

FFMPEG = shutil.which("ffmpeg")
WIDTH, HEIGHT = 320, 240


def field(seed: int = 5) -> UInt8Image:
    """uint8 RGB."""
    return tissue(seed, height=HEIGHT, width=WIDTH, glands=3, scattered=80)


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own objectives stay as they are."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Path]:
    """Writes frames, uint8 RGB, into a video file."""

    def write(frames: list[UInt8Image], fps: float = 25.0) -> Path:
        path = tmp_path / "recording.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (frames[0].shape[1], frames[0].shape[0]))
        assert writer.isOpened()
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
        return path

    return write


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def serve(record: Callable[..., Path]) -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """Starts to serve an endless stream over HTTP at a port, to one client."""
    if not FFMPEG:
        pytest.skip("needs ffmpeg: apt-get install ffmpeg")
    video = record([field()] * 50)
    running: list[subprocess.Popen[bytes]] = []

    def start(port: int) -> subprocess.Popen[bytes]:
        output = ["-c", "copy", "-f", "avi", "-listen", "1", f"http://127.0.0.1:{port}/live"]
        running.append(subprocess.Popen([str(FFMPEG), "-loglevel", "quiet", "-re", "-stream_loop", "-1", "-i", str(video), *output]))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()
