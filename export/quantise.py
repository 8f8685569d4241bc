"""Static INT8 in QDQ form, calibrated on training images only."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from train.data import Images, sampling_weights

CALIBRATION_IMAGES = 256


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, pixels_nhwc_u8: npt.NDArray[np.uint8]) -> None:
        self._batches = iter(np.array_split(pixels_nhwc_u8, max(1, len(pixels_nhwc_u8) // 16)))

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def calibration_set(training: Images, seed: int) -> Images:
    """Training images drawn without replacement with the sampling weights of training: no patient or source dominates."""
    weights = sampling_weights(training)
    count = min(CALIBRATION_IMAGES, len(training))
    chosen = np.random.default_rng(seed).choice(len(training), count, replace=False, p=weights / weights.sum())
    return training.select(np.isin(np.arange(len(training)), chosen))


def write_int8(fp32: Path, calibration: Images, path: Path) -> dict[str, Any]:
    """Quantises a float32 graph; returns how, for the manifest.

    Per-channel signed weights and unsigned activations (U8S8) are what VNNI multiplies without saturation.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(logging.ERROR)
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(fp32, prepared)
        quantize_static(
            prepared,
            path,
            _Reader(calibration.pixels_nhwc_u8),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    model = onnx.load(path)
    used = {node.domain for node in model.graph.node}
    for domain in [entry for entry in model.opset_import if entry.domain not in used]:
        model.opset_import.remove(domain)  # the tool declares all it knows; another engine may refuse what it does not
    onnx.save(model, path)
    return {
        "tool": "onnxruntime static",
        "format": "QDQ",
        "weights": "int8 per channel",
        "activations": "uint8",
        "calibration": {"method": "MinMax", "part": "train", "images": len(calibration), "patients": len(np.unique(calibration.groups))},
    }
