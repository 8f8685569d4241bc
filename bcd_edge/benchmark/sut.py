"""Systems under test: the model alone on prepared inputs, and the whole way from file bytes to records."""

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

from bcd_edge.benchmark.accuracy import LabelledImage
from bcd_edge.bundle import Bundle
from bcd_edge.classifier import Classifier
from bcd_edge.errors import InputError, UsageError
from bcd_edge.loading import LoadedModel
from bcd_edge.readers import raster
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.synthetic import tissue

# The field of view of BreaKHis.
HEIGHT, WIDTH = 460, 700
SYNTHETIC: Final = 16
# At most this many images of a collection are kept in memory; accuracy is measured on all of them.
MAX_SAMPLES: Final = 64
MAX_QUERY: Final = 8


@dataclass(frozen=True, slots=True)
class QuerySampleLibrary:
    """The images of the queries (MLPerf's QSL).

    Attributes:
        files: bytes of image files.
        inputs: uint8 K x H x W x 3 for each member of the bundle. The first ones are repeated at the end, so that any
            `MAX_QUERY` or batch of consecutive ones is contiguous.
    """

    files: list[bytes]
    inputs: list[UInt8Image]


def describe_input(images: Sequence[LabelledImage]) -> str:
    """The images of the queries in words; two runs can be compared only if these are equal."""
    if not images:
        return f"{SYNTHETIC} synthetic PNG files of {WIDTH} x {HEIGHT}"
    names = "\n".join(f"{image.file.name} {image.file.stat().st_size if image.file.is_file() else 0}" for image in images)
    return f"{len(images)} labelled files {hashlib.sha256(names.encode()).hexdigest()[:12]}"


def build_library(opened: Bundle, batch: int, images: Sequence[LabelledImage] = ()) -> QuerySampleLibrary:
    """The first `MAX_SAMPLES` readable images of a collection, or synthetic ones.

    Raises:
        UsageError: no image of the collection can be read.
    """
    files, pictures = [], []
    for image in images:
        try:
            content = raster.read(image.file)
            pictures.append(raster.decode(content))
            files.append(content)
        except InputError:
            continue  # counted where accuracy is measured
        if len(files) == MAX_SAMPLES:
            break
    if images and not files:
        raise UsageError("No image of --data can be read; check one with: bcd-edge predict IMAGE")
    if not images:
        pictures = [tissue(seed, height=HEIGHT, width=WIDTH) for seed in range(SYNTHETIC)]
        files = [cv2.imencode(".png", picture[..., ::-1])[1].tobytes() for picture in pictures]
    inputs = []
    for member in opened.members:
        resized = np.stack([raster.resize(picture, member.input) for picture in pictures])
        copies = -(-max(batch, MAX_QUERY) // len(resized))
        inputs.append(np.concatenate([resized, *[resized] * copies]))
    return QuerySampleLibrary(files, inputs)


class ModelOnly:
    """The engine on inputs that are ready: `infer` of every member, in batches. See `bcd_edge.benchmark.scenarios.SystemUnderTest`.

    A query of several samples uses consecutive inputs from its first one on: copying others together would be measured too.
    """

    def __init__(self, model: LoadedModel, library: QuerySampleLibrary) -> None:
        self.samples, self.streams = len(library.files), model.plan.streams
        self._backends, self._inputs, self._batch = model.backends, library.inputs, model.plan.batch

    def query(self, samples: Sequence[int]) -> None:
        first, count = samples[0], len(samples)
        for at in range(0, count, self._batch):
            for backend, inputs in zip(self._backends, self._inputs, strict=True):
                width = backend.batch or min(self._batch, count - at)
                backend.infer(inputs[(first + at) % self.samples :][:width])

    def _timed(self, samples: list[int]) -> tuple[int, float]:
        begun = perf_counter()
        self.query(samples)
        return len(samples), perf_counter() - begun

    def stream(self, samples: Iterator[int]) -> Iterator[tuple[int, float]]:
        if self.streams == 1:
            while batch := list(islice(samples, self._batch)):
                yield self._timed(batch)
            return
        with ThreadPoolExecutor(self.streams) as pool:
            pending: deque[Future[tuple[int, float]]] = deque()
            try:
                while True:
                    while len(pending) < 2 * self.streams and (batch := list(islice(samples, self._batch))):
                        pending.append(pool.submit(self._timed, batch))
                    if not pending:
                        return
                    yield pending.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


class EndToEnd:
    """File bytes to records: `classify` for one image, `classify_many` for several. See `bcd_edge.benchmark.scenarios.SystemUnderTest`."""

    def __init__(self, classifier: Classifier, library: QuerySampleLibrary) -> None:
        self.samples, self.streams = len(library.files), classifier.plan.streams
        self._classifier, self._files = classifier, library.files

    def query(self, samples: Sequence[int]) -> None:
        if len(samples) == 1:
            self._classifier.classify(self._files[samples[0]])
        else:
            for _ in self._classifier.classify_many((sample, self._files[sample]) for sample in samples):
                pass

    def stream(self, samples: Iterator[int]) -> Iterator[tuple[int, float]]:
        def pictures() -> Iterator[tuple[float, bytes]]:
            for sample in samples:
                yield perf_counter(), self._files[sample]

        # by whole batches, as they are answered: ending within one would discard pictures that are done
        with closing(self._classifier.classify_many(pictures())) as records:
            while batch := [started for started, _ in islice(records, self._classifier.plan.batch)]:
                yield len(batch), perf_counter() - batch[0]
