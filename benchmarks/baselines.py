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

import numpy as np
from PIL import Image

from bcd_edge import bundle
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
    predict = ultralytics(network, folder)
    return lambda: float(predict(Image.open(io.BytesIO(png))))


def ultralytics(network: Any, folder: Path) -> Callable[[Any], Any]:
    """Its predictor with ONNX Runtime, on the same network exported in the form that it exports: from a Pillow image or BGR pixels to p."""
    import onnx
    import torch

    file = folder / "resnet50.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own future
        torch.onnx.export(network, (torch.zeros(1, 3, SIZE, SIZE),), file, input_names=["images"], output_names=["output0"], dynamo=False)
    return predictor(onnx.load(file), file)


def predictor(graph: Any, file: Path) -> Callable[[Any], Any]:
    """Of Ultralytics, for an ONNX graph that is written into this file; it may not write or fetch elsewhere."""
    import onnx

    os.environ |= {"YOLO_CONFIG_DIR": str(file.parent), "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
    from ultralytics import YOLO

    # a stride of 2 takes any even size; the 32 that it assumes where none is told would round others up
    known = {"task": "classify", "stride": "2", "imgsz": f"[{SIZE}, {SIZE}]", "names": "{0: 'benign', 1: 'malignant'}", "batch": "1"}
    onnx.helper.set_model_props(graph, known)
    onnx.save(graph, file)
    model = YOLO(file, task="classify")
    return lambda picture: model.predict(picture, imgsz=SIZE, device="cpu", verbose=False)[0].probs.data[1]


def same_model() -> Any:
    """The embedded graph between nodes that take what the predictor gives, float RGB of 0..1, N x 3 x H x W, and give the probabilities it takes."""
    import onnx
    from onnx import TensorProto, helper

    opened = bundle.open()
    model = onnx.load_from_string(opened.model(None, "cpu")[1][0])
    graph, side = model.graph, opened.input.height
    constants = {"white": np.float32(255), "first": np.array([0]), "last": np.array([2]), "axis": np.array([1])}
    graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items())
    nodes = [
        helper.make_node("Mul", ["images", "white"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["bytes"], [graph.input[0].name], perm=[0, 2, 3, 1]),
        *graph.node,
        helper.make_node("Slice", [graph.output[0].name, "first", "last", "axis"], ["logits_of_two"]),
        helper.make_node("Softmax", ["logits_of_two"], ["output0"], axis=1),
    ]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side]))
    graph.output.append(helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 2]))
    return model


def versions() -> list[str]:
    """Of the installed ones."""
    return [f"{name} {metadata.version(name)}" for name in ("torch", "torchvision", "ultralytics") if find_spec(name)]
