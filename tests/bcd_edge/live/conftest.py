"""Recordings of drawn tissue, and streams that ffmpeg serves."""

from __future__ import annotations

import dataclasses
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
# The system's own, for which Debian packages GStreamer.
PYTHON = "/usr/bin/python3"
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


@dataclasses.dataclass
class Stream:
    """An endless stream; `start` serves it to one client at a time."""

    address: str
    command: list[str]
    running: list[subprocess.Popen[bytes]] = dataclasses.field(default_factory=list)

    def start(self) -> subprocess.Popen[bytes]:
        self.running.append(subprocess.Popen(self.command, stderr=subprocess.DEVNULL))
        return self.running[-1]


@pytest.fixture(params=["http", "rtsp"])
def stream(request: pytest.FixtureRequest, record: Callable[..., Path]) -> Iterator[Stream]:
    """Over HTTP from ffmpeg, or as a network camera serves it: H.264 over RTSP, with a password."""
    if not FFMPEG:
        pytest.skip("needs ffmpeg: apt-get install ffmpeg")
    video, port = record([field()] * 50), free_port()
    stream = _http(port, video) if request.param == "http" else _rtsp(port, video)
    yield stream
    for process in stream.running:
        process.kill()
        process.wait()


def _http(port: int, video: Path) -> Stream:
    address = f"http://127.0.0.1:{port}/live"
    output = ["-c", "copy", "-f", "avi", "-listen", "1", address]
    return Stream(address, [str(FFMPEG), "-loglevel", "quiet", "-re", "-stream_loop", "-1", "-i", str(video), *output])


def _rtsp(port: int, video: Path) -> Stream:
    if subprocess.run([PYTHON, "-c", "import gi; gi.require_version('GstRtspServer', '1.0')"], capture_output=True).returncode:
        pytest.skip("needs GStreamer's RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good python3-gi")
    short, recording = video.with_suffix(".short.mp4"), video.with_suffix(".mp4")
    encode = ["-i", str(video), "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast", "-g", "25", str(short)]
    repeat = ["-stream_loop", "100", "-i", str(short), "-c", "copy", str(recording)]
    for arguments in (encode, repeat):
        subprocess.run([str(FFMPEG), "-loglevel", "error", *arguments], check=True)
    server = str(Path(__file__).with_name("rtsp_server.py"))
    return Stream(f"rtsp://reader:secret@127.0.0.1:{port}/camera", [PYTHON, server, str(port), str(recording)])
