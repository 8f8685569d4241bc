"""Servers that one would write instead of `bcd-edge serve`, on the same ONNX file: `python -m benchmarks.servers NAME MODEL PORT`."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

PACKAGES: Final = {"fastapi": "fastapi", "litserve": "litserve"}
# Of the form in which each takes a picture.
FIELDS: Final = {"fastapi": "file", "litserve": "request"}
BATCH: Final = 8
BATCH_WAIT_S: Final = 0.005
START_S: Final = 120.0


def missing(name: str) -> str:
    """The command that installs what a server needs; empty if it is there."""
    return "" if find_spec(PACKAGES[name]) else f"pip install {PACKAGES[name]}"


@contextmanager
def running(name: str, model: Path) -> Iterator[str]:
    """Starts a server in a process of its own; its address, as soon as it takes requests."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([sys.executable, "-m", "benchmarks.servers", name, str(model), str(port)], stdout=subprocess.DEVNULL) as process:
        try:
            _wait(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        assert process.poll() is None, "the server ended"
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the server did not start")


class _Model:
    """ONNX Runtime with its defaults."""

    def __init__(self, path: str) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._size = self._session.get_inputs()[0].shape[1]

    def prepare(self, file: Any) -> npt.NDArray[np.uint8]:
        """H x W x 3."""
        return np.asarray(Image.open(file).convert("RGB").resize((self._size, self._size), Image.Resampling.BOX))

    def predict(self, images_nhwc_u8: npt.NDArray[np.uint8]) -> list[float]:
        """Probabilities of malignant."""
        logits = self._session.run(["logits"], {"image": images_nhwc_u8})[0]
        return [float(p) for p in 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))]


def fastapi(path: str, port: int) -> None:
    """As FastAPI's documentation on uploads has it: a function in its pool of threads."""
    import uvicorn
    from fastapi import FastAPI, UploadFile

    app, model = FastAPI(), _Model(path)

    def predict(file: UploadFile) -> dict[str, float]:
        return {"p_malignant": model.predict(model.prepare(file.file)[None])[0]}

    predict.__annotations__ = {"file": UploadFile, "return": dict[str, float]}  # which are texts here, and FastAPI cannot look up
    app.post("/predict")(predict)
    uvicorn.run(app, port=port, log_level="warning")


def litserve(path: str, port: int) -> None:
    """As LitServe's documentation has it, with its batching."""
    import litserve as ls
    from starlette.datastructures import UploadFile

    class Api(ls.LitAPI):
        def setup(self, device: str) -> None:
            self._model = _Model(path)

        def decode_request(self, request: UploadFile) -> npt.NDArray[np.uint8]:
            return self._model.prepare(request.file)

        def predict(self, batch: npt.NDArray[np.uint8]) -> list[float]:
            return self._model.predict(batch)

        def encode_response(self, output: float) -> dict[str, float]:
            return {"p_malignant": output}

    api = Api(max_batch_size=BATCH, batch_timeout=BATCH_WAIT_S)
    ls.LitServer(api, accelerator="cpu").run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    {"fastapi": fastapi, "litserve": litserve}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
