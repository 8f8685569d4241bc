"""Where frames come from: a camera, a stream of the network, a GStreamer pipeline, a video file, a folder of pictures."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import cv2
import numpy as np

from bcd_edge.errors import InputError, UsageError
from bcd_edge.inputs import Inputs
from bcd_edge.readers import raster
from bcd_edge.readers.raster import UInt8Image

Kind = Literal["camera", "stream", "pipeline", "video", "folder"]

# Until a stream is open, and until its next frame.
TIMEOUT_S: Final = 5.0
# Of videos that do not tell theirs, and of folders.
DEFAULT_FPS: Final = 25.0
STREAM: Final = re.compile(r"(?:rtsps?|rtmps?|https?|tcp|udp|srt)://", re.IGNORECASE)
# For FFmpeg inside OpenCV: UDP loses packets of RTSP. Its `nobuffer` would end video files early. A user's own setting holds.
FFMPEG: Final = "rtsp_transport;tcp|flags;low_delay"


class Reader(Protocol):
    """An opened source."""

    def grab(self) -> float | None:
        """Waits for the next frame; when it was there, by `time.perf_counter`, or None where none comes any more."""

    def retrieve(self) -> UInt8Image | None:
        """The frame that was grabbed, uint8 BGR, H x W x 3; None if it cannot be decoded."""

    def close(self) -> None:
        """Releases the device or connection."""


@dataclass(frozen=True, slots=True)
class Source:
    """What was asked for; made by `parse`.

    Attributes:
        text: as it was given.
        kind: what it is.
        fps: frames per second of a video or folder; None as the video has them, 0 as fast as they are decoded.
        repeats: whether a video or folder begins again at its end.
    """

    text: str
    kind: Kind
    fps: float | None = None
    repeats: bool = False

    @property
    def name(self) -> str:
        """For records and messages: without the password of a stream's address."""
        return re.sub(r"(?<=://)[^/@\s]*@", "", self.text)

    @property
    def is_endless(self) -> bool:
        """Whether its end is a loss."""
        return self.kind in ("camera", "stream", "pipeline")

    def open(self) -> Reader:
        """Opens it.

        Raises:
            InputError: it cannot be opened.
            UsageError: it can never be opened by this build of OpenCV.
        """
        return _Folder(self) if self.kind == "folder" else _Video(self)


def parse(text: str, fps: float | None = None, *, repeats: bool = False) -> Source:
    """A camera's number or device, an address, a pipeline with `!`, a video file or a folder.

    Raises:
        UsageError: it is none of these.
    """
    if text.isdecimal() or text.startswith("/dev/"):
        return Source(text, "camera", fps)
    if STREAM.match(text):
        return Source(text, "stream", fps)
    if " ! " in text:
        return Source(text, "pipeline", fps)
    path = Path(text)
    if path.is_dir():
        return Source(text, "folder", fps, repeats)
    if path.is_file():
        return Source(text, "video", fps, repeats)
    raise UsageError(
        f"{text!r} is no source of frames: there is no such file or folder; give a camera's number, /dev/video0, an rtsp:// or http:// "
        "address, a GStreamer pipeline, a video file, or a folder of pictures."
    )


class _Clock:
    """When the frames of a recording are due."""

    def __init__(self, fps: float) -> None:
        self._period_s = 1 / fps if fps else 0.0
        self._next_s = time.perf_counter()

    def wait(self) -> float:
        """Until the next frame is due; returns that time."""
        now = time.perf_counter()
        if now - self._next_s > max(1.0, 2 * self._period_s):  # the computer slept, or decoding is too slow
            self._next_s = now
        time.sleep(max(0.0, self._next_s - now))
        due_s, self._next_s = self._next_s, self._next_s + self._period_s
        return due_s if self._period_s else now


class _Video:
    """By OpenCV: camera, stream, pipeline or file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._video = _capture(source)
        if not self._video.isOpened():
            self._video.release()
            if source.kind == "video":
                raise InputError(f"{source.name} is no video that can be read; give a video file such as MP4, AVI or MKV, or a folder of pictures.")
            raise InputError(f"{source.name} cannot be opened; check that it is connected, switched on, and used by no other program.")
        self._clock = None if source.is_endless else _Clock(_fps(self._video, source))

    def grab(self) -> float | None:
        due_s = self._clock.wait() if self._clock else None
        if not self._video.grab() and not (self._source.repeats and self._again()):
            return None
        # the moment at which a recorded frame appears includes its decoding; that of a stream is when it has come
        return time.perf_counter() if due_s is None else due_s

    def _again(self) -> bool:
        self._video.release()
        self._video = _capture(self._source)
        return bool(self._video.grab())

    def retrieve(self) -> UInt8Image | None:
        is_read, frame = self._video.retrieve()
        if not is_read or frame is None:
            return None
        return np.asarray(frame if frame.ndim == 3 else cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR), np.uint8)

    def close(self) -> None:
        self._video.release()


def _fps(video: cv2.VideoCapture, source: Source) -> float:
    if source.fps is not None:
        return source.fps
    told = video.get(cv2.CAP_PROP_FPS)
    return told if 0 < told <= 1000 else DEFAULT_FPS


def _capture(source: Source) -> cv2.VideoCapture:
    """Raises:
    UsageError: OpenCV was built without GStreamer.
    """
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # a lost stream is said once, by `Capture`
    if source.kind == "pipeline":
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise UsageError(
                "A GStreamer pipeline needs an OpenCV that was built with GStreamer, as JetPack's is, and this one was not; give a device or an "
                "address."
            )
        return cv2.VideoCapture(source.text, cv2.CAP_GSTREAMER)
    if source.kind == "camera":
        video = cv2.VideoCapture(int(source.text)) if source.text.isdecimal() else cv2.VideoCapture(source.text, cv2.CAP_V4L2)
        video.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if source.fps:
            video.set(cv2.CAP_PROP_FPS, source.fps)
        return video
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", FFMPEG)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # more threads would decode several frames at a time, and give each later
    milliseconds = int(1000 * TIMEOUT_S)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds, cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds, cv2.CAP_PROP_N_THREADS, 1]
    return cv2.VideoCapture(source.text, cv2.CAP_FFMPEG, limits)


class _Folder:
    """Pictures in the order of their names, decoded by the one policy."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._clock = _Clock(DEFAULT_FPS if source.fps is None else source.fps)
        self._paths = self._list()
        self._path: Path | None = None
        if next(self._list(), None) is None:
            raise InputError(f"The folder {source.name} has no pictures; give another one.")

    def _list(self) -> Iterator[Path]:
        return (path for _, path in Inputs([self._source.text]) if isinstance(path, Path))

    def grab(self) -> float | None:
        due_s = self._clock.wait()
        self._path = next(self._paths, None)
        if self._path is None and self._source.repeats:
            self._paths = self._list()
            self._path = next(self._paths, None)
        return None if self._path is None else due_s

    def retrieve(self) -> UInt8Image | None:
        try:
            assert self._path is not None
            return np.ascontiguousarray(raster.decode(raster.read(self._path))[..., ::-1])
        except InputError:
            return None

    def close(self) -> None:
        pass
