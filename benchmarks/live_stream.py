"""A stream that ffmpeg serves over HTTP: its frames tell their number, and it is known when each was handed to the server."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from bcd_edge.readers.raster import UInt8Image

# The frame's number: one square per bit along the upper edge.
BITS, SQUARE = 8, 16
# Of the JPEGs, as network cameras have it.
QUALITY: Final = 85

# Plays the parts in a folder again and again into standard output, as multipart JPEG, and writes when each was handed over.
_FEEDER: Final = """
import sys, time
from pathlib import Path
parts = [path.read_bytes() for path in sorted(Path(sys.argv[1]).glob("*.jpg"))]
period_s, due_s = 1 / float(sys.argv[2]), time.perf_counter()
with open(sys.argv[3], "w") as log:
    for count in range(10 ** 9):
        time.sleep(max(0, due_s - time.perf_counter()))
        part = parts[count % len(parts)]
        log.write(f"{count % len(parts)} {time.perf_counter()}\\n")
        log.flush()
        sys.stdout.buffer.write(b"--ffmpeg\\r\\nContent-type: image/jpeg\\r\\nContent-length: %d\\r\\n\\r\\n%b\\r\\n" % (len(part), part))
        sys.stdout.buffer.flush()
        due_s += period_s
"""


def numbered(clip: Path, folder: Path) -> Path:
    """A folder of JPEGs of the clip's frames, each with its number drawn in."""
    video, count = cv2.VideoCapture(str(clip)), 0
    folder.mkdir()
    while count < 1 << BITS and (read := video.read())[0]:
        frame = draw_number(np.asarray(read[1], np.uint8), count)
        cv2.imwrite(str(folder / f"{count:03}.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        count += 1
    return folder


def draw_number(frame: UInt8Image, value: int) -> UInt8Image:
    """With a square for each bit along the upper edge, white for 1."""
    for bit in range(BITS):
        frame[:SQUARE, bit * SQUARE : (bit + 1) * SQUARE] = 255 * (value >> bit & 1)
    return frame


def number(frame: UInt8Image) -> int:
    """What `draw_number` drew."""
    return sum((int(frame[:SQUARE, bit * SQUARE : (bit + 1) * SQUARE].mean()) > 127) << bit for bit in range(BITS))


@contextmanager
def served(parts: Path, fps: float) -> Iterator[tuple[str, Callable[[], list[tuple[int, float]]]]]:
    """The address of a stream for one client, and what tells number and time (`time.perf_counter`, of the machine) of each frame handed over."""
    with socket.socket() as probe, tempfile.NamedTemporaryFile() as log:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        address = f"http://127.0.0.1:{port}/live"
        feeder = subprocess.Popen([sys.executable, "-c", _FEEDER, str(parts), str(fps), log.name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        low_delay = ["-fflags", "nobuffer", "-probesize", "32", "-analyzeduration", "0", "-f", "mpjpeg", "-i", "-"]
        output = ["-c", "copy", "-flush_packets", "1", "-f", "mpjpeg", "-listen", "1", address]
        server = subprocess.Popen(["ffmpeg", "-loglevel", "quiet", *low_delay, *output], stdin=feeder.stdout)
        assert feeder.stdout
        feeder.stdout.close()  # it is the server's
        try:
            _until_listening(port)
            yield address, lambda: [(int(line.split()[0]), float(line.split()[1])) for line in Path(log.name).read_text().splitlines()]
        finally:
            for process in (server, feeder):
                process.kill()
                process.wait()


def _until_listening(port: int) -> None:
    """Without a connection, which would be the one client's."""
    for _ in range(600):
        if f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text(encoding="utf-8"):
            return
        time.sleep(0.05)
    raise AssertionError("ffmpeg does not listen")


def since(answers: Iterable[tuple[float, int]], handed: Iterable[tuple[int, float]]) -> list[float]:
    """Milliseconds from each frame's hand-over to its answer, which is a time and the frame's number."""
    times: dict[int, list[float]] = {}
    for count, at_s in handed:
        times.setdefault(count, []).append(at_s)
    return [1000 * (at_s - max(before for before in times[count] if before < at_s)) for at_s, count in answers]


def as_video(parts: Path, fps: float, file: Path) -> Path:
    """The same JPEGs in a video file."""
    source = ["-framerate", str(fps), "-i", str(parts / "%03d.jpg")]
    subprocess.run(["ffmpeg", "-loglevel", "error", *source, "-c", "copy", str(file)], check=True)
    return file
