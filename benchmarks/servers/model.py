"""What both of them serve: Pillow, and ONNX Runtime with its defaults."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image


class Model:
    """An ONNX file with uint8 pixels in and logits out."""

    def __init__(self, path: str) -> None:
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._height, self._width = self._session.get_inputs()[0].shape[1:3]

    def prepare(self, file: Any) -> npt.NDArray[np.uint8]:
        """From a PNG to uint8 RGB, height x width x 3."""
        return np.asarray(Image.open(file).convert("RGB").resize((self._width, self._height), Image.Resampling.BOX))

    def predict(self, images_nhwc_u8: npt.NDArray[np.uint8]) -> list[float]:
        """Probabilities of malignant."""
        logits = self._session.run(["logits"], {"image": images_nhwc_u8})[0]
        return [float(p) for p in 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))]
