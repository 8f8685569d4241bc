"""What is measured: the model alone on prepared inputs, and the whole way from file bytes to records."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Final

import cv2
import numpy as np

from bcd_edge.benchmark.accuracy import Labelled
from bcd_edge.bundle import Bundle
from bcd_edge.classifier import Classifier, Started
from bcd_edge.errors import InputError, UsageError
from bcd_edge.plan import Plan
from bcd_edge.readers import raster
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.synthetic import tissue

# The field of view that BreaKHis publishes.
HEIGHT, WIDTH = 460, 700
DRAWN: Final = 16
# Of a collection, as many are held in memory; accuracy is measured on all of them.
HELD: Final = 64
LONGEST_QUERY: Final = 8


@dataclass(frozen=True, slots=True)
class Library:
    """The images that are asked about.

    Attributes:
        files: bytes of image files.
        inputs: uint8 K x H x W x 3 for each member of the bundle, the first ones repeated at the end so that any
            `LONGEST_QUERY` or batch of consecutive ones is one piece of memory.
    """

    files: list[bytes]
    inputs: list[UInt8Image]


def described(images: Sequence[Labelled]) -> str:
    """Which images are asked about, in words; two runs are compared only if these are alike."""
    if not images:
        return f"{DRAWN} drawn PNG files of {WIDTH} x {HEIGHT}"
    names = "\n".join(f"{one.file.name} {one.file.stat().st_size if one.file.is_file() else 0}" for one in images)
    return f"{len(images)} labelled files {hashlib.sha256(names.encode()).hexdigest()[:12]}"


def library(opened: Bundle, batch: int, images: Sequence[Labelled] = ()) -> Library:
    """The first `HELD` readable images of a collection, or drawn ones.

    Raises:
        UsageError: none of the collection can be read.
    """
    files, pictures = [], []
    for one in images:
        try:
            content = raster.read(one.file)
            pictures.append(raster.decode(content))
            files.append(content)
        except InputError:
            continue  # counted where accuracy is measured
        if len(files) == HELD:
            break
    if images and not files:
        raise UsageError("No image of --data can be read; check one with: bcd-edge predict IMAGE")
    if not images:
        pictures = [tissue(seed, height=HEIGHT, width=WIDTH) for seed in range(DRAWN)]
        files = [cv2.imencode(".png", picture[..., ::-1])[1].tobytes() for picture in pictures]
    inputs = []
    for member in opened.members:
        fitted = np.stack([raster.fit(picture, member.input) for picture in pictures])
        more = -(-max(batch, LONGEST_QUERY) // len(fitted))
        inputs.append(np.concatenate([fitted, *[fitted] * more]))
    return Library(files, inputs)


class ModelAlone:
    """See `bcd_edge.benchmark.scenarios.Subject`; `infer` of every member, in batches, on inputs that are ready.

    A query of several samples takes consecutive inputs from its first on: copying others together would be measured too.
    """

    def __init__(self, started: Started, plan: Plan, held: Library) -> None:
        self.library, self.inferences = len(held.files), plan.inferences
        self._backends, self._inputs, self._batch = started.backends, held.inputs, plan.batch

    def ask(self, samples: Sequence[int]) -> None:
        first, count = samples[0], len(samples)
        for at in range(0, count, self._batch):
            for backend, inputs in zip(self._backends, self._inputs, strict=True):
                width = backend.batch or min(self._batch, count - at)
                backend.infer(inputs[(first + at) % self.library :][:width])

    def _timed(self, samples: list[int]) -> tuple[int, float]:
        begun = perf_counter()
        self.ask(samples)
        return len(samples), perf_counter() - begun

    def stream(self, samples: Iterator[int]) -> Iterator[tuple[int, float]]:
        if self.inferences == 1:
            while batch := list(islice(samples, self._batch)):
                yield self._timed(batch)
            return
        with ThreadPoolExecutor(self.inferences) as pool:
            under_way: deque[Future[tuple[int, float]]] = deque()
            try:
                while True:
                    while len(under_way) < 2 * self.inferences and (batch := list(islice(samples, self._batch))):
                        under_way.append(pool.submit(self._timed, batch))
                    if not under_way:
                        return
                    yield under_way.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


class EndToEnd:
    """See `bcd_edge.benchmark.scenarios.Subject`; from file bytes to records, one at a time as `classify` or several as `classify_many`."""

    def __init__(self, classifier: Classifier, held: Library) -> None:
        self.library, self.inferences = len(held.files), classifier.plan.inferences
        self._classifier, self._files = classifier, held.files

    def ask(self, samples: Sequence[int]) -> None:
        if len(samples) == 1:
            self._classifier.classify(self._files[samples[0]])
        else:
            for _ in self._classifier.classify_many(self._files[sample] for sample in samples):
                pass

    def stream(self, samples: Iterator[int]) -> Iterator[tuple[int, float]]:
        begun: deque[float] = deque()

        def sources() -> Iterator[bytes]:
            for sample in samples:
                begun.append(perf_counter())
                yield self._files[sample]

        with closing(self._classifier.classify_many(sources())) as records:
            for _ in records:
                yield 1, perf_counter() - begun.popleft()
