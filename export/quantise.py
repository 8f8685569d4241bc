"""Static INT8 in QDQ form, calibrated on training images only.

| scheme | weights | activations | for |
|---|---|---|---|
| `u8s8` | int8 per channel | uint8 | CPUs that multiply both exactly: AVX-512 VNNI, AVX-VNNI, AMX, Arm dot product; OpenVINO |
| `u8s7` | int8 per channel, 7 bits used | uint8 | x86 CPUs without VNNI, whose `vpmaddubsw` adds two products in 16 bits and saturates |
| `s8s8` | int8 per channel | int8, symmetric | TensorRT, which takes nothing else |

The choice is ONNX Runtime's own advice (its documentation, "Quantize ONNX Models", section on U8S8 and saturation).
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from export import norms
from export.graph import IR_VERSION
from train.data.images import Images, drawn

CALIBRATION_IMAGES = 256
BATCH = 16
METHODS = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy, "percentile": CalibrationMethod.Percentile}
SCHEMES = ("u8s8", "u8s7", "s8s8")


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Batches of `BATCH` images; `set_range` lets the tool take one after the other, see `write`."""

    def __init__(self, pixels_nhwc_u8: npt.NDArray[np.uint8]) -> None:
        self._batches = np.array_split(pixels_nhwc_u8, max(1, len(pixels_nhwc_u8) // BATCH))
        self._left = iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        batch = next(self._left, None)
        return None if batch is None else {"image": batch}


def calibration_set(training: Images, test: Images, seed: int) -> Images:
    """Training images drawn without replacement with the sampling weights of training: no patient or source dominates.

    Raises:
        click.ClickException: there are none, or a test patient is among them.
    """
    if not len(training):
        raise click.ClickException("There is no training image to calibrate INT8 with; give the --data of the run.")
    both = sorted(set(map(str, training.groups)) & set(map(str, test.groups)))
    if both:
        raise click.ClickException(
            f"INT8 would be calibrated on {len(both)} test patients ({', '.join(both[:3])}), so the test would prove nothing; use a split by patient."
        )
    return drawn(training, CALIBRATION_IMAGES, seed)


def prepare(fp32: Path, folder: Path, name: str = "0") -> Path:
    """The float graph with shapes inferred and constants folded, as quantising wants it; once for all attempts.

    Raises:
        OSError: the temporary folder is full.
    """
    prepared = folder / f"prepared.{name}.onnx"
    try:
        with _quiet():
            quant_pre_process(fp32, prepared, skip_symbolic_shape=True)  # ONNX's own inference is enough, and knows every operator
    except DecodeError:  # ONNX Runtime does not notice that a disk is full, and the tool reads half a graph back
        raise OSError(errno.ENOSPC, f"no room in {tempfile.gettempdir()}, where the graph is prepared for INT8") from None
    return prepared


def write(
    prepared: Path, calibration: Images, path: Path, *, method: str = "minmax", scheme: str = "u8s8", keep: Sequence[str] = ()
) -> dict[str, Any]:
    """Quantises a prepared float graph; returns how, for the manifest.

    Args:
        prepared: of `prepare`.
        calibration: training images whose activations decide the ranges.
        path: the new file.
        method: one of `METHODS`.
        scheme: one of `SCHEMES`.
        keep: names of nodes that stay in float32.
    """
    with _quiet():
        quantize_static(
            prepared,
            path,
            _Reader(calibration.pixels_nhwc_u8),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=scheme == "u8s7",
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8 if scheme == "s8s8" else QuantType.QUInt8,
            calibrate_method=METHODS[method],
            # the head costs nothing, and its logits in steps of a 255th of their range would be probabilities in steps
            nodes_to_exclude=[*keep, *head(prepared), *lone_norms(prepared)],
            # every activation of what it takes at once stays in memory, whatever the method: an ensemble of two needed over 24 GB
            extra_options={"ActivationSymmetric": scheme == "s8s8", "CalibStridedMinMax": 1},
            **_remembered(prepared.with_suffix(f".{method}.json")),
        )
    model = onnx.load(path)
    if scheme != "s8s8":
        pixels_are_quantised(model)
        norms.as_convolutions(model, 63 if scheme == "u8s7" else 127)
    used = {node.domain for node in model.graph.node}
    for domain in [entry for entry in model.opset_import if entry.domain not in used]:
        model.opset_import.remove(domain)  # the tool declares all it knows; another engine may refuse what it does not
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return {
        "tool": "onnxruntime static",
        "format": "QDQ",
        "scheme": scheme,
        "weights": "int8 per channel" + (", 7 bits" if scheme == "u8s7" else ""),
        "activations": "int8 symmetric" if scheme == "s8s8" else "uint8",
        "float_nodes": list(keep),
        "calibration": {"method": method, "part": "train", "images": len(calibration), "patients": len(np.unique(calibration.groups))},
    }


def _remembered(ranges: Path) -> dict[str, Any]:
    """Keeps the measured ranges of a graph, where ONNX Runtime can (1.32 does, 1.23 does not): another attempt need not measure again."""
    return {"calibration_cache_path": ranges} if "calibration_cache_path" in inspect.signature(quantize_static).parameters else {}


def write_nncf(fp32: Path, calibration: Images, path: Path) -> dict[str, Any]:
    """Quantises a float graph with NNCF, OpenVINO's own tool; returns how, for the manifest.

    Raises:
        click.ClickException: NNCF is not installed.
    """
    try:
        with _quiet():
            import nncf
    except ImportError:
        raise click.ClickException('--variants int8-openvino: NNCF is not installed; type: pip install "bcd-edge[export,nncf]"') from None
    batches = nncf.Dataset(np.array_split(calibration.pixels_nhwc_u8, max(1, len(calibration) // 16)), lambda batch: {"image": batch})
    with _quiet():
        nncf.set_log_level(logging.ERROR)
        model = nncf.quantize(onnx.load(fp32), batches, subset_size=len(calibration))
    model.ir_version = min(model.ir_version, IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return {
        "tool": f"nncf {nncf.__version__}",
        "format": "QDQ",
        "scheme": "nncf",
        "float_nodes": [],
        "calibration": {"method": "nncf", "part": "train", "images": len(calibration), "patients": len(np.unique(calibration.groups))},
    }


def pixels_are_quantised(model: onnx.ModelProto) -> None:
    """Makes the pixels themselves the first quantised activation: scale 1/255, zero point 0, exact, no float image.

    Before: uint8 -> Transpose -> Cast -> Div 255 -> QuantizeLinear -> DequantizeLinear -> Conv, with a calibrated scale.
    After: uint8 -> Transpose -> DequantizeLinear -> Conv.

    Raises:
        ValueError: the graph is not one of `export.graph.write`.
    """
    graph = model.graph
    divide = next((node for node in graph.node if node.op_type == "Div"), None)
    cast = next((node for node in graph.node if divide and node.output[0] == divide.input[0] and node.op_type == "Cast"), None)
    quantise = next((node for node in graph.node if divide and node.op_type == "QuantizeLinear" and node.input[0] == divide.output[0]), None)
    if not (divide and cast):
        raise ValueError("the graph does not begin with pixels, a cast and a division by 255")
    if not quantise:  # the first convolution stays in float32, so it needs the float image
        return
    (dequantise,) = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] == quantise.output[0]]
    graph.initializer.append(numpy_helper.from_array(np.array(1 / 255, np.float32), "pixel_scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.uint8), "pixel_zero_point"))
    del dequantise.input[:]
    dequantise.input.extend([cast.input[0], "pixel_scale", "pixel_zero_point"])
    for node in (cast, divide, quantise):
        graph.node.remove(node)
    needed = {name for node in graph.node for name in node.input}
    for initializer in [entry for entry in graph.initializer if entry.name not in needed]:
        graph.initializer.remove(initializer)


def convolutions(prepared: Path) -> list[str]:
    """Names of the nodes whose multiplications INT8 makes cheap, in graph order."""
    return _named(prepared, "Conv")


def head(prepared: Path) -> list[str]:
    """Names of the linear layers and of all that follows them."""
    reached: set[str] = set()
    nodes = []
    for node in onnx.load(prepared, load_external_data=False).graph.node:
        if node.op_type in ("Gemm", "MatMul") or reached & set(node.input):
            reached |= set(node.output)
            nodes.append(node.name)
    return nodes


def lone_norms(prepared: Path) -> list[str]:
    """Names of batch norms that no convolution could take up, as before the ones of a pre-activation network.

    Their scales differ by orders of magnitude between channels, and the tool would give all of them one; `export.norms` gives each its own.
    """
    return _named(prepared, "BatchNormalization")


def _named(prepared: Path, kind: str) -> list[str]:
    return [node.name for node in onnx.load(prepared, load_external_data=False).graph.node if node.op_type == kind]


def sensitive(nodes: Sequence[str], loss: Callable[[Sequence[str]], float], say: Callable[[str], None]) -> list[str]:
    """Nodes by how much of the loss goes away when they alone stay in float32, the most sensitive first.

    Args:
        nodes: candidates.
        loss: measures a file quantised with these nodes kept in float32.
        say: tells a person how far it is; each node takes some seconds.
    """
    everything = loss(())
    gains: dict[str, float] = {}
    for number, node in enumerate(nodes, 1):
        gains[node] = everything - loss((node,))
        if number % 10 == 0 or number == len(nodes):
            say(f"  sensitivity of {number} of {len(nodes)} nodes measured")
    return sorted((node for node in nodes if gains[node] > 0), key=lambda node: -gains[node])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The tools' progress and deprecations are not the user's to mend."""
    level = logging.getLogger().level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.getLogger().setLevel(level)
