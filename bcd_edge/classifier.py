"""One image to one record, or a stream of images with decoding and inference overlapped."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from bcd_edge import __version__, bundle, pipeline, plan
from bcd_edge.decision import DecisionRule, ensemble, probabilities
from bcd_edge.errors import InputError, UsageError
from bcd_edge.loading import LoadedModel, load_model
from bcd_edge.options import RunOptions
from bcd_edge.pictures import Picture, decode, default_name, failing_with
from bcd_edge.pipeline import PipelineConfig
from bcd_edge.plan import Purpose
from bcd_edge.readers import raster
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.records import Execution, Quality, Record, Timing
from bcd_edge.system import machine
from bcd_edge.triage.quality import quality, reduced
from bcd_edge.triage.scale import NamePattern, ScaleSource

Key = TypeVar("Key")
Answer = TypeVar("Answer")
# float32, of the size that the bundle's manifest tells.
Embedding = npt.NDArray[np.float32]

# Images per call of an explainer if the engine takes any number.
EXPLAINED_BATCH: Final = 16


@dataclass(frozen=True, slots=True)
class Prepared:
    """A decoded image: one network input for each member of the bundle, its quality where that is measured, and its scale where it is known."""

    name: str
    sha256: str
    inputs_hwc_u8: list[UInt8Image]
    quality: Quality | None
    um_per_pixel: float | None
    scale_reasons: tuple[str, ...]
    decode_ms: float
    resize_ms: float


@dataclass(frozen=True, slots=True)
class Triage:
    """What is looked at beside the model's answer; see `Classifier.load`."""

    measures_quality: bool = True
    scale: ScaleSource = field(default_factory=ScaleSource)


class Classifier:
    """A bundle opened on a provider, by `Classifier.load`. As a context manager it closes the engine at the end.

    Attributes:
        bundle: the bundle.
        plan: how it runs.
        rule: operating threshold and review band in use.
        execution: what exactly runs.
        triage: what is looked at beside the model's answer.
        warnings: sentences to show before the first result; usually none.
    """

    def __init__(self, model: LoadedModel, rule: DecisionRule | None = None, requested: str = "auto", *, triage: Triage = Triage()) -> None:
        """Takes over an opened model.

        Args:
            model: see `load_model`.
            rule: the bundle's if not given.
            requested: the requested provider.
            triage: what is looked at beside the model's answer.
        """
        opened, backend, variant = model.bundle, model.backends[0], model.variant
        self.bundle = opened
        self.plan = model.plan
        self.rule = rule or opened.decision
        self.execution = Execution(backend.provider, backend.device, variant["precision"], opened.name, opened.sha256, __version__, requested)
        self.warnings = tuple(
            f"{opened.name} {variant['precision']} was refused by the accuracy gate and is for research only: {reason.rstrip('.')}."
            for reason in variant.get("gate", {}).get("refused", [])
        )
        if not model.runs_model:
            self.warnings += (f"The provider {backend.provider} does not run the model: its results mean nothing and are only for measurements.",)
        self._members = opened.members
        self._novelty = opened.novelty()
        self._scale = opened.scale
        self._backends = model.backends
        self.triage = triage
        self._closed = False

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        options: RunOptions | None = None,
        *,
        threshold: float | None = None,
        purpose: Purpose = "latency",
        measures_quality: bool = True,
        um_per_pixel: float | None = None,
        scale_from_name: NamePattern | None = None,
    ) -> Classifier:
        """Opens a bundle on a provider.

        Args:
            path: folder or .zip of a bundle; the embedded one if not given.
            options: how to run. The default provider is the one that `bcd-edge tune` found fastest here, else the first of
                `bcd_edge.backends.engines()` that runs.
            threshold: operating threshold, 0..1; the bundle's if not given.
            purpose: `latency` for single images, `throughput` for `classify_many`; decides what the options leave open.
            measures_quality: whether pictures that cannot be fields of H&E, or are blurred, dark or empty, need review whatever the
                model makes of them. Without it they get the model's answer: for research only.
            um_per_pixel: width of a pixel on the slide in µm, for pictures that do not tell it. Pictures whose scale is known need review
                where the bundle was not trained on such fields of view.
            scale_from_name: where the scale stands in the names of pictures whose files do not tell it, see
                `bcd_edge.triage.scale.compile_pattern`.

        Raises:
            BundleError: the bundle is damaged, unknown or unsafe, or has no such variant.
            ProviderError: the provider cannot run here, or runs on another device than requested.
            UsageError: there is no such provider, or the threshold is outside 0..1.
        """
        opened, wanted = bundle.open(path), options or RunOptions()
        rule = opened.decision.with_threshold(threshold)
        triage = Triage(measures_quality, ScaleSource(um_per_pixel, scale_from_name))
        return cls(load_model(opened, plan.choose(opened, purpose, wanted)), rule, wanted.provider or "auto", triage=triage)

    def classify(self, picture: Picture, *, name: str | None = None) -> Record:
        """Classifies one image.

        Args:
            picture: a path, the bytes of an image file (also `HashedBytes`), or pixels as uint8 RGB, H x W x 3 (also
                `DecodedImage`).
            name: the image's name in the record; the path if not given.

        Returns:
            A record; its `status` is `failed` and `error` says why if the image cannot be read or decoded.

        Raises:
            ProviderError: the engine failed; other images would fail, too.
            UsageError: the classifier is closed.
        """
        self._require_open()
        source = name or default_name(picture)
        try:
            return self._infer([self.prepare(source, picture)])[0]
        except InputError as error:
            return self.failed(source, error)

    def classify_many(
        self,
        pictures: Iterable[tuple[Key, Picture | InputError | Callable[[], Picture]]],
        *,
        name: Callable[[Key], str] = str,
        decoders: int | None = None,
        timeout_s: float = pipeline.TIMEOUT_S,
    ) -> Generator[tuple[Key, Record], None, None]:
        """Classifies a stream of images, decoded in threads ahead of the engine; yields `(key, record)` in their order.

        Args:
            pictures: pairs of any key and a picture as for `classify`; an `InputError` becomes a failed record, and a function
                that returns a picture is called by the thread that decodes it. Read as needed, so an endless iterator works and memory does not grow.
            name: the name in the record of the picture with this key.
            decoders: number of threads that read, decode and resize; one per core if not given.
            timeout_s: seconds that reading and decoding one image may take; after that its record is failed and the rest
                continues.

        Raises:
            ProviderError: the engine failed; records before it were yielded.
            UsageError: the classifier is closed.
        """
        self._require_open()
        config = PipelineConfig(decoders or max(2, machine.cores()), self.plan.streams, self.plan.batch, timeout_s)
        return self._stream(pictures, self._infer, self.failed, name, config)

    def embed_many(
        self,
        pictures: Iterable[tuple[Key, Picture | InputError | Callable[[], Picture]]],
        *,
        name: Callable[[Key], str] = str,
        decoders: int | None = None,
        timeout_s: float = pipeline.TIMEOUT_S,
    ) -> Generator[tuple[Key, tuple[Record, Embedding | None]], None, None]:
        """`classify_many` with the embedding beside each record; None for a failed image, and where the bundle gives none."""
        self._require_open()
        config = PipelineConfig(decoders or max(2, machine.cores()), self.plan.streams, self.plan.batch, timeout_s)
        return self._stream(pictures, self._embed, lambda source, error: (self.failed(source, error), None), name, config)

    def _stream(
        self,
        pictures: Iterable[tuple[Key, Picture | InputError | Callable[[], Picture]]],
        infer: Callable[[Sequence[Prepared]], list[Answer]],
        failed: Callable[[str, InputError], Answer],
        name: Callable[[Key], str],
        config: PipelineConfig,
    ) -> Generator[tuple[Key, Answer], None, None]:
        def prepare(item: tuple[Key, Picture | InputError | Callable[[], Picture]]) -> Prepared:
            return self.prepare(name(item[0]), item[1])

        for (key, _), answer in pipeline.run_pipeline(pictures, prepare, infer, config):
            yield key, failed(name(key), answer) if isinstance(answer, InputError) else answer

    def probabilities(self, images_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Calibrated p_malignant, float64 N, of network inputs, uint8 RGB N x H x W x 3 of size `bundle.input`; for explainers.

        Raises:
            ProviderError: the engine failed.
        """
        self._require_open()
        starts = range(0, len(images_nhwc_u8), EXPLAINED_BATCH)
        return np.concatenate([np.zeros(0), *(self._mean(images_nhwc_u8[start : start + EXPLAINED_BATCH]) for start in starts)])

    def _mean(self, images_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Mean p_malignant over the members, float64 N, in batches of the size that each backend takes."""
        answers = []
        for backend, member in zip(self._backends, self._members, strict=True):
            inputs = images_nhwc_u8
            if member.input != self.bundle.input:
                inputs = np.stack([raster.resize(image, member.input) for image in images_nhwc_u8])
            size = backend.batch or len(inputs)
            logits = [backend.infer(_batch(inputs[start : start + size], backend.batch)) for start in range(0, len(inputs), size)]
            answers.append(probabilities(np.concatenate(logits)[: len(inputs), :2], member.temperature))
        return ensemble(answers)

    def failed(self, name: str, error: InputError) -> Record:
        """The record of an image that could not be classified."""
        return Record(name, error.sha256, "failed", str(error), None, None, None, (), None, self.execution)

    def prepare(self, name: str, picture: Picture | InputError | Callable[[], Picture]) -> Prepared:
        """The first half of `classify`: decodes and resizes one image, and measures its quality.

        Raises:
            InputError: it cannot be read or decoded.
        """
        image = decode(picture)
        started = time.perf_counter()
        with failing_with(image.sha256):
            inputs = [raster.resize(image.pixels_hwc_u8, member.input) for member in self._members]
            measured = quality(image.pixels_hwc_u8, reduced(image.pixels_hwc_u8, inputs[0])) if self.triage.measures_quality else None
            height, width, _ = image.pixels_hwc_u8.shape
            um_per_pixel = self.triage.scale.find(image.um_per_pixel, name, width)
        reasons = self._scale.reasons(height, width, um_per_pixel) if self._scale and um_per_pixel else ()
        milliseconds = 1000 * (time.perf_counter() - started)
        return Prepared(name, image.sha256, inputs, measured, um_per_pixel, reasons, image.decode_ms, milliseconds)

    def answer(self, image: Prepared) -> Record:
        """The second half of `classify`: infers and decides.

        Raises:
            ProviderError: the engine failed.
            UsageError: the classifier is closed.
        """
        self._require_open()
        return self._infer([image])[0]

    def _infer(self, images: Sequence[Prepared]) -> list[Record]:
        return [record for record, _ in self._embed(images)]

    def _embed(self, images: Sequence[Prepared]) -> list[tuple[Record, Embedding | None]]:
        started = time.perf_counter()
        members = []
        embeddings: Sequence[Embedding | None] = [None] * len(images)
        novelties: Sequence[float | None] = [None] * len(images)
        for index, (backend, member) in enumerate(zip(self._backends, self._members, strict=True)):
            outputs = backend.infer(_batch([image.inputs_hwc_u8[index] for image in images], backend.batch))[: len(images)]
            members.append(probabilities(outputs[:, :2], member.temperature))
            if outputs.shape[1] > 2:
                embeddings = list(outputs[:, 2:])
            if self._novelty and outputs.shape[1] > 2:
                novelties = [float(distance) for distance in self._novelty.distances(outputs[:, 2:])]
        infer_ms = 1000 * (time.perf_counter() - started) / len(images)
        answers = zip(images, ensemble(members), novelties, embeddings, strict=True)
        return [(self._record(image, float(p), novelty, infer_ms), embedding) for image, p, novelty, embedding in answers]

    def _record(self, image: Prepared, p: float, novelty: float | None, infer_ms: float) -> Record:
        prediction = self.rule.predict(p)
        milliseconds = (image.decode_ms, image.resize_ms, infer_ms, image.decode_ms + image.resize_ms + infer_ms)
        timing = Timing(*(round(value, 3) for value in milliseconds))
        label, decision, reasons = prediction.label, prediction.decision, prediction.reasons
        if novelty is not None and novelty > 1:
            decision = "review"
            reasons = (f"novelty {novelty:.2f} is above 1: unlike the pictures that the model was trained on, needs pathologist review", *reasons)
        if triaged := (*(image.quality.reasons if image.quality else ()), *image.scale_reasons):
            decision, reasons = "review", (*triaged, *reasons)
        novelty = None if novelty is None else round(novelty, 4)
        return Record(
            image.name, image.sha256, "ok", None, label, p, decision, reasons, timing, self.execution, image.quality, novelty, image.um_per_pixel
        )

    def _require_open(self) -> None:
        if self._closed:
            raise UsageError("The classifier is closed, so it cannot classify; load another one with Classifier.load.")

    def close(self) -> None:
        """Releases the engine; closing again does nothing."""
        if not self._closed:
            self._closed = True
            for backend in self._backends:
                backend.close()

    def __enter__(self) -> Classifier:
        self._require_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _batch(inputs_hwc_u8: Sequence[UInt8Image] | npt.NDArray[np.uint8], size: int | None) -> npt.NDArray[np.uint8]:
    """N x H x W x 3; padded with black images to `size` for an engine that takes no other batch size."""
    batch = np.zeros((max(size or 0, len(inputs_hwc_u8)), *inputs_hwc_u8[0].shape), np.uint8)
    for index, pixels in enumerate(inputs_hwc_u8):
        batch[index] = pixels
    return batch
