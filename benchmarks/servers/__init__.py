"""Servers that one would write instead of `bcd-edge serve`, on the same ONNX file: a module each, named like its package."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

# The field of the form in which each takes a picture.
FIELDS: Final = {"fastapi": "file", "litserve": "request"}
START_S: Final = 120.0


def missing(name: str) -> str:
    """The command that installs what a server needs; empty if it is there."""
    return "" if find_spec(name) else f"pip install {name}"


@contextmanager
def running(name: str, model: Path) -> Iterator[str]:
    """Starts a server in a process of its own; its address, as soon as it takes requests."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", f"benchmarks.servers.{name}", str(model), str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            _wait(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # workers, too, which outlive LitServe's first process


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        assert process.poll() is None, "the server ended"
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the server did not start")
