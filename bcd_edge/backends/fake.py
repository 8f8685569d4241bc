"""A backend for tests of code that calls one; its model is any function.

classifier = Classifier(LoadedModel(opened, Plan("fake"), opened.variant(), [FakeBackend(darkness)]))
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bcd_edge.backends import closed

Model = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def darkness(batch_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Logits, N x 2: the darker an image, the more malignant; black is p = 0.88 and white 0.12 at temperature 1."""
    mean = batch_nhwc_u8.mean(axis=(1, 2, 3)) / 255
    return np.stack([np.zeros(len(mean)), 2 - 4 * mean], axis=1).astype(np.float32)


class FakeBackend:
    """See `bcd_edge.backends.Backend`.

    Attributes:
        shapes: the shape of every batch, in call order.
        is_closed: whether `close` was called.
    """

    def __init__(self, model: Model = darkness, *, provider: str = "fake", device: str = "no device", batch: int | None = None) -> None:
        self.provider, self.device, self.batch = provider, device, batch
        self.shapes: list[tuple[int, ...]] = []
        self.is_closed = False
        self._model = model

    def infer(self, batch_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if self.is_closed:
            raise closed(self.provider)
        self.shapes.append(batch_nhwc_u8.shape)
        return self._model(batch_nhwc_u8)

    def close(self) -> None:
        self.is_closed = True
