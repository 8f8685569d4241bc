"""Alternatives for one image: PyTorch eager and compiled, and Ultralytics' predictor, all with a ResNet-50."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from PIL import Image

from bcd_edge.benchmark.baselines import pytorch_pair

SIZE: Final = 192  # of the embedded bundle
# Its requirement opencv-python would overwrite the files of opencv-python-headless, so it is installed without requirements.
ULTRALYTICS: Final = "pip install --no-deps ultralytics==8.4.190"

Call = Callable[[], float]


def of(png: bytes, folder: Path) -> tuple[dict[str, Call], dict[str, str]]:
    """The baselines that run here, each a call from the bytes of a PNG to a probability, and the reasons why others do not.

    Args:
        png: one image.
        folder: for their files.
    """
    import torch
    from torchvision.models import resnet50

    network = resnet50(num_classes=2).eval()
    calls = {"PyTorch eager": _torch(network, png)}
    missing = {}
    try:
        compiled = _torch(torch.compile(network), png)
        compiled()
        calls["PyTorch compiled"] = compiled
    except Exception as error:  # no C++ compiler, or one that is too old: it says so in many ways
        missing["PyTorch compiled"] = f"torch.compile does not run here ({str(error).splitlines()[0][:120]})"
    if find_spec("ultralytics"):
        calls["Ultralytics' predictor"] = _ultralytics(network, png, folder)
    else:
        missing["Ultralytics' predictor"] = ULTRALYTICS
    return calls, missing


def _torch(network: Any, png: bytes) -> Call:
    """With Pillow and torchvision."""
    import torch

    prepare, infer = pytorch_pair(network, SIZE, SIZE)
    return lambda: float(torch.softmax(infer(prepare(png)), 1)[0, 1])


def _ultralytics(network: Any, png: bytes, folder: Path) -> Call:
    """Its predictor with ONNX Runtime, on the same network exported in the form that it exports; it may not write or fetch elsewhere."""
    import onnx
    import torch

    os.environ |= {"YOLO_CONFIG_DIR": str(folder), "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
    from ultralytics import YOLO

    file = folder / "resnet50.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own future
        torch.onnx.export(network, (torch.zeros(1, 3, SIZE, SIZE),), file, input_names=["images"], output_names=["output0"], dynamo=False)
    graph = onnx.load(file)
    # a stride of 2 takes any even size; the 32 that it assumes where none is told would round others up
    known = {"task": "classify", "stride": "2", "imgsz": f"[{SIZE}, {SIZE}]", "names": "{0: 'benign', 1: 'malignant'}", "batch": "1"}
    onnx.helper.set_model_props(graph, known)
    onnx.save(graph, file)
    model = YOLO(file, task="classify")

    def call() -> float:
        return float(model.predict(Image.open(io.BytesIO(png)), imgsz=SIZE, device="cpu", verbose=False)[0].probs.data[1])

    return call


def versions() -> list[str]:
    """Of the installed ones."""
    return [f"{name} {metadata.version(name)}" for name in ("torch", "torchvision", "ultralytics") if find_spec(name)]
