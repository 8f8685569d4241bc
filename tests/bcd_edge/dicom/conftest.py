"""A watcher that receives and returns DICOM, in a process of its own, and real peers for it: DCMTK, Orthanc, dciodvfy."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bcd_edge.cli import main
from bcd_edge.options import RunOptions
from bcd_edge.synthetic import tissue
from bcd_edge.watch.run import watch
from bcd_edge.watch.settings import ControlSignals, Settings, Stats

pytest.importorskip("pynetdicom")
pytest.importorskip("highdicom")

QUICK = ("--provider", "null", "--stable-for", "50ms", "--scan", "200ms", "--min-free", "0", "--poll", "-v")
WAIT_S = 120
ROUTE = """
function OnStoredInstance(instanceId, tags, metadata, origin)
  if tags['Modality'] == 'GM' or tags['Modality'] == 'SM' then
    SendToModality(instanceId, 'bcd-edge')
  end
end
"""
# Of Debian's dciodvfy, of 2022, about all annotations in 2D: it does not look whether the attribute is there.
NOT_THERE = "Error - Only valid for AnnotationCoordinateType of 3D - attribute <CommonZCoordinateValue> = <>"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Node:
    """An inbox and results with a watcher that receives.

    Attributes:
        make: makes a DICOM file, see the fixture `dicom`.
        port: where it receives.
    """

    folder: Path
    make: Callable[..., bytes]
    port: int = field(default_factory=free_port)

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def images(self, count: int, **attributes: Any) -> list[Path]:
        """Files of as many images, small and all different."""
        (self.folder / "images").mkdir(exist_ok=True)
        paths = []
        for number in range(count):
            paths.append(self.folder / "images" / f"{number:03d}.dcm")
            paths[-1].write_bytes(self.make(tissue(number, height=24, width=24, glands=0, scattered=2), InstanceNumber=number + 1, **attributes))
        return paths

    @staticmethod
    def free_port() -> int:
        return free_port()

    @staticmethod
    def until(condition: Callable[[], object], awaited: str) -> None:
        ends = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < ends, f"waited in vain for: {awaited}"
            time.sleep(0.05)

    @staticmethod
    def is_open(port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    @staticmethod
    def program(name: str, package: str) -> str:
        """Where Debian's program is; pynetdicom has some of the same names, and does not count as another's."""
        place = shutil.which(name, path="/usr/bin:/usr/sbin")
        if place is None:
            pytest.skip(f"needs {name}: apt-get install {package}")
        return place

    @contextmanager
    def watching(self, *options: str, python: tuple[str, ...] = ("-m", "bcd_edge")) -> Iterator[subprocess.Popen[bytes]]:
        """A watcher that receives, until the block ends; it is asked to stop then, unless it has ended."""
        where = ("watch", str(self.inbox), "--out", str(self.results), "--dicom-port", str(self.port))
        command = [sys.executable, *python, *where, *QUICK, *options]
        with (self.folder / "log").open("ab") as log, subprocess.Popen(command, stderr=log) as process:
            try:
                self.until(lambda: self.is_open(self.port) or process.poll() is not None, "the port to open")
                assert process.poll() is None, self.log()
                yield process
                process.terminate()
                process.wait(WAIT_S)
            finally:
                process.kill()

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    def store(
        self, *files: Path, called: str = "BCD_EDGE", calling: str = "STORESCU", options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Sends files by DCMTK's storescu."""
        titles = ("-v", "-aec", called, "-aet", calling, *options)
        command = [self.program("storescu", "dcmtk"), *titles, "127.0.0.1", str(self.port), *map(str, files)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def query(self, sql: str) -> list[Any]:
        """Rows of the journal; single columns without their tuples."""
        if not (self.results / "journal.sqlite3").exists():
            return []
        try:
            with closing(sqlite3.connect(self.results / "journal.sqlite3", timeout=30)) as db:
                rows = db.execute(sql).fetchall()
        except sqlite3.OperationalError:  # being made
            return []
        return [row[0] if len(row) == 1 else row for row in rows]

    @contextmanager
    def orthanc(self, **more: Any) -> Iterator[tuple[str, int]]:
        """An Orthanc that routes every image to the node: its web address and the port of its AE."""
        http, port = self.free_port(), self.free_port()
        program = self.program("Orthanc", "orthanc orthanc-dicomweb")
        plugins = [path for path in (Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),) if path.exists()]
        (self.folder / "route.lua").write_text(ROUTE)
        settings = {
            **{"Name": "test", "HttpPort": http, "DicomPort": port, "DicomAet": "ORTHANC", "AuthenticationEnabled": False, "SynchronousCMove": True},
            **{"StorageDirectory": str(self.folder / "orthanc"), "IndexDirectory": str(self.folder / "orthanc"), "LuaScripts": ["route.lua"]},
            **{"DicomModalities": {"bcd-edge": ["BCD_EDGE", "127.0.0.1", self.port]}, "Plugins": [str(path) for path in plugins]},
        }
        (self.folder / "orthanc.json").write_text(json.dumps(settings | more))
        command = [program, str(self.folder / "orthanc.json")]
        with (self.folder / "orthanc.log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
            try:
                self.until(lambda: self.is_open(http) and self.is_open(port), "Orthanc")
                yield f"http://127.0.0.1:{http}", port
            finally:
                process.kill()  # asked to stop, it takes five seconds

    def done(self) -> int:
        return len(self.query("SELECT 1 FROM images WHERE state = 'done'"))

    def returned(self) -> int:
        return len(self.query("SELECT 1 FROM returns WHERE sent_at IS NOT NULL"))

    def answer(self, **how: Any) -> None:
        """Answers what lies in the inbox, in this process and without the network."""
        model = {"options": RunOptions(provider="null")}
        settings = Settings(self.inbox, self.results, model, stable_for_s=0.05, scan_s=0.2, events=False, once=True, **how)
        watch(settings, ControlSignals(), Stats(), lambda: settings)

    def run(self, *arguments: str) -> Result:
        """A command of bcd-edge, in this process, whose umask it may change and gets back."""
        mask = os.umask(0o022)
        try:
            return CliRunner().invoke(main, [str(argument) for argument in arguments])
        finally:
            os.umask(mask)

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((self.results / "records").rglob("*.json")) if "." in path.stem]


@pytest.fixture
def node(tmp_path: Path, dicom: Callable[..., bytes]) -> Node:
    (tmp_path / "inbox").mkdir()
    return Node(tmp_path, dicom)


@pytest.fixture
def is_valid() -> Callable[[Path], None]:
    """Has dciodvfy find no error in a file: Debian's, and a current one where it is installed."""

    def errors(program: str, file: Path) -> set[str]:
        done = subprocess.run([program, str(file)], capture_output=True, text=True, check=False)
        return {line for line in done.stderr.splitlines() if line.startswith("Error")}

    def check(file: Path) -> None:
        current = shutil.which("dciodvfy", path=Path(sys.executable).parent)
        if current is None or shutil.which("dciodvfy", path="/usr/bin"):
            assert errors(Node.program("dciodvfy", "dicom3tools"), file) <= {NOT_THERE}
        assert current is None or errors(current, file) == set()

    return check
