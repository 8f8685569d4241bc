"""Receiving DICOM from DCMTK: killed again and again while images arrive, and how many a second are acknowledged and answered."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bcd_edge import bundle
from bcd_edge.errors import UsageError
from bcd_edge.synthetic import tissue
from benchmarks.dicom_files import made
from benchmarks.fault_injection import answered, check_accounts, until, watching
from benchmarks.tables import Row, markdown, put, shown

# How long a watcher receives before it is killed.
LIFE_S: Final = (0.05, 1.0)


def measure(out: Path | None, seed: int, images: int) -> None:
    """Runs both, prints the table, and puts it between the marks `dicom` of `out`.

    Args:
        out: a Markdown file.
        seed: of the moments of killing.
        images: how many are sent while the watcher is killed, and a fifth as many to see how quick it is.
    """
    rows: tuple[Callable[[], Row], ...] = (lambda: killed(images, seed), lambda: speed(max(1, images // 5)))
    put(f"Seed {seed}. " + markdown(bundle.open().name, shown(row() for row in rows)), out, "dicom")


def killed(count: int, seed: int) -> Row:
    """SIGKILL at random moments while DCMTK sends what was not acknowledged, until everything is."""
    moments, kills = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), _free_port()
        left = _files(folder, count, side=24)
        options = ("--dicom-port", str(port), "--poll")
        while left:
            with watching(folder / "inbox", folder / "results", *options) as process:
                _wait_for(port)
                sending = subprocess.Popen(_storescu(port, left), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                time.sleep(moments.uniform(*LIFE_S))
                if sending.poll() is None:
                    process.kill()
                    process.wait()
                    kills += 1
                left = left[_acknowledged(sending.communicate()[1]) :]
        with watching(folder / "inbox", folder / "results", *options):
            until(lambda: answered(folder / "results") == count, f"{count} answers")
        stored = {path.name: _sha256(path) for path in (folder / "inbox").glob("*.dcm")}
        detail = check_accounts(folder / "results", set(stored.values()))
    work = f"{count:,} instances from storescu, the watcher killed (SIGKILL) {kills} times meanwhile"
    return Row(work, "acknowledged is answered once", f"{len(stored):,} of {count:,}, each once", detail)


def speed(count: int) -> Row:
    """Images of a microscope camera's size, acknowledged after they are flushed, and answered by no model (provider null)."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), _free_port()
        files = _files(folder, count, side=576)
        with watching(folder / "inbox", folder / "results", "--dicom-port", str(port), "--poll"):
            _wait_for(port)
            began = time.monotonic()
            sent = subprocess.run(_storescu(port, files), capture_output=True, text=True, check=True)
            stored_s = time.monotonic() - began
            until(lambda: answered(folder / "results") == count, f"{count} answers")
            answered_s = time.monotonic() - began
    assert _acknowledged(sent.stderr) == count
    detail = f"answered (provider null) {count / answered_s:.0f} images/s, after files held still for 0.3 s"
    return Row(f"{count} images of 576 x 576 (1 MB) in one association, acknowledged", "10 images/s", f"{count / stored_s:.0f} images/s", detail)


def _files(folder: Path, count: int, side: int) -> list[Path]:
    (folder / "inbox").mkdir()
    (folder / "images").mkdir()
    files = [folder / "images" / f"{number:04d}.dcm" for number in range(count)]
    for number, file in enumerate(files):
        file.write_bytes(made(tissue(number % 50, height=side, width=side, glands=0, scattered=2), InstanceNumber=number + 1))
    return files


def _storescu(port: int, files: list[Path]) -> list[str]:
    program = shutil.which("storescu", path="/usr/bin")  # pynetdicom installs another of this name
    if program is None:
        raise UsageError("There is no storescu here; install DCMTK: apt-get install dcmtk")
    return [program, "-v", "-aec", "BCD_EDGE", "127.0.0.1", str(port), *map(str, files)]


def _acknowledged(log: str) -> int:
    return log.count("Received Store Response (Success)")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    def is_open() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(is_open, "the port to open")


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
