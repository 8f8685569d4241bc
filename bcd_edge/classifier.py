"""One image to one record, or a stream of images with decoding and inference overlapped."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bcd_edge import __version__, backends, bundle, pipeline, plan, plugins
from bcd_edge.backends import Backend, Options
from bcd_edge.bundle import Bundle, Decision
from bcd_edge.decision import decide, probability, with_threshold
from bcd_edge.errors import BundleError, InputError
from bcd_edge.plan import Plan, Purpose
from bcd_edge.readers import raster
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.records import Execution, Record, Timing
from bcd_edge.system import caches, machine


@dataclass(frozen=True, slots=True)
class Hashed:
    """The bytes of an image file whose SHA-256 is known already."""

    data: bytes
    sha256: str


Source = str | Path | bytes | Hashed | UInt8Image

PATIENCE_S: Final = 30.0
# Images of one call for an explanation, where the engine takes any number.
EXPLAINED_BATCH: Final = 16


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An image on its way: one network input for each member of the bundle."""

    name: str
    sha256: str
    inputs_hwc_u8: list[UInt8Image]
    decode_ms: float
    fit_ms: float


class _UnreadableError(InputError):
    """An image that failed, with the hash of its bytes if they could be read."""

    def __init__(self, error: InputError, sha256: str | None) -> None:
        super().__init__(str(error))
        self.sha256 = sha256


@dataclass(frozen=True, slots=True)
class Started:
    """A variant that runs.

    Attributes:
        variant: its entry in the manifest.
        backends: one for each member of the bundle.
        load_s: seconds for reading the files and checking their hashes.
        compile_s: for opening the engine, compilation included.
        first_s: for the first inference.
    """

    variant: dict[str, Any]
    backends: list[Backend]
    load_s: float
    compile_s: float
    first_s: float


class Classifier:
    """A bundle opened on a provider. Use `Classifier.load`; as a context manager it closes the engine at the end.

    Attributes:
        bundle: what was opened.
        plan: how it runs.
        rule: operating threshold and review band in use, probabilities.
        execution: what exactly runs.
        warnings: sentences that a person must see before the first answer; usually none.
    """

    def __init__(self, opened: Bundle, chosen: Plan, backends: Sequence[Backend], variant: dict[str, Any], rule: Decision, requested: str) -> None:
        self.bundle = opened
        self.plan = chosen
        self.rule = rule
        ran = backends[0]
        self.execution = Execution(ran.provider, ran.device, variant["precision"], opened.name, opened.sha256, __version__, requested)
        self.warnings = tuple(
            f"{opened.name} {variant['precision']} was refused by the accuracy gate and is carried for research only: {reason.rstrip('.')}."
            for reason in variant.get("gate", {}).get("refused", [])
        )
        if ran.provider == "null":
            self.warnings += ("The provider null looks at no image: its answers mean nothing and serve to measure the rest.",)
        self._members = opened.members
        self._backends = backends

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        provider: str = "auto",
        device: str = "",
        precision: str | None = None,
        threshold: float | None = None,
        purpose: Purpose = "latency",
        batch: int = 0,
        threads: int = 0,
        inferences: int = 0,
        cache: bool = True,
    ) -> Classifier:
        """Opens a bundle on a provider.

        Args:
            path: folder or .zip of a bundle; the embedded one if not given.
            provider: a name from `bcd_edge.plugins.names("bcd_edge.backends.providers")`, or `auto`: the one that `bcd-edge tune` found
                fastest here, else the first that runs in the order of `bcd_edge.backends.PREFERENCE`.
            device: the provider's name of one of its devices; its first if not given.
            precision: `fp32`, `fp16` or `int8`; that of the bundle's first variant for the provider if not given.
            threshold: operating threshold, 0..1; the bundle's if not given.
            purpose: `latency` for single images, `throughput` for `classify_many`; decides what is not given below.
            batch: images an inference.
            threads: CPU threads for one inference.
            inferences: how many of them at the same time, in `classify_many`.
            cache: whether compiled models may be kept in the user's cache folder, for providers that compile.

        Raises:
            BundleError: the bundle is damaged, unknown or unsafe, or has no such variant.
            ProviderError: the provider cannot run here, or runs on something else than was asked for.
            UsageError: no such provider, or a threshold outside 0..1.
        """
        opened = bundle.open(path)
        rule = with_threshold(opened.decision, threshold)
        asked = {"provider": provider, "device": device, "precision": precision or "", "batch": batch, "threads": threads, "inferences": inferences}
        chosen = plan.choose(opened, purpose, **asked)  # type: ignore[arg-type]
        started = start(opened, chosen, cache=cache)
        return cls(opened, chosen, started.backends, started.variant, rule, provider)

    def classify(self, source: Source, *, name: str | None = None) -> Record:
        """Classifies one image.

        Args:
            source: a path, the bytes of an image file (also `Hashed`), or pixels as uint8 RGB, H x W x 3.
            name: what to call the image in the record; the path if not given.

        Returns:
            A record; `status` is `failed`, with a sentence in `error`, for an image that cannot be read or decoded.

        Raises:
            ProviderError: the engine failed, which no other image would survive either.
        """
        item = (name or _name(source), source)
        try:
            return self._infer([_prepare(item, self._members)])[0]
        except _UnreadableError as error:
            return self.failed(item[0], error, error.sha256)

    def classify_many(
        self, sources: Iterable[Source | tuple[str, Source | InputError]], *, decoders: int = 0, patience_s: float = PATIENCE_S
    ) -> Generator[Record, None, None]:
        """Classifies images as they come: decoded in threads ahead of the engine, a record for each, in their order.

        Args:
            sources: as `classify` takes them, or pairs of a name and one of them; an `InputError` becomes a failed record.
                Read as needed, so an endless iterator is fine and memory does not grow.
            decoders: threads that read, decode and resize; one for each core if 0.
            patience_s: seconds that reading and decoding one image may take; then its record is failed and the rest goes on.

        Raises:
            ProviderError: the engine failed; records before it were yielded.
        """
        lanes = pipeline.Lanes(decoders or max(2, machine.cores()), self.plan.inferences, self.plan.batch, patience_s)
        named = (source if isinstance(source, tuple) else (_name(source), source) for source in sources)
        for (name, _), answer in pipeline.overlapped(named, lambda item: _prepare(item, self._members), self._infer, lanes):
            yield self.failed(name, answer, getattr(answer, "sha256", None)) if isinstance(answer, InputError) else answer

    def probabilities(self, images_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Calibrated p_malignant, float64 N, of network inputs, uint8 RGB N x H x W x 3 of `bundle.input`; what explainers ask.

        Raises:
            ProviderError: the engine failed.
        """
        found = []
        for start in range(0, len(images_nhwc_u8), EXPLAINED_BATCH):
            part = images_nhwc_u8[start : start + EXPLAINED_BATCH]
            total = np.zeros(len(part))
            for backend, member in zip(self._backends, self._members, strict=True):
                inputs = part if member.input == self.bundle.input else np.stack([raster.fit(one, member.input) for one in part])
                width = backend.batch or len(inputs)
                logits = [backend.infer(_batch(inputs[at : at + width], backend.batch)) for at in range(0, len(inputs), width)]
                total += [probability(answer, member.temperature) for answer in np.concatenate(logits)[: len(part)]]
            found.append(total / len(self._members))
        return np.concatenate(found) if found else np.zeros(0)

    def failed(self, name: str, error: InputError, sha256: str | None = None) -> Record:
        """The record of an image that could not be classified."""
        return Record(name, sha256, "failed", str(error), None, None, None, (), None, self.execution)

    def _infer(self, images: Sequence[_Prepared]) -> list[Record]:
        started = time.perf_counter()
        probabilities = np.zeros(len(images))
        for index, (backend, member) in enumerate(zip(self._backends, self._members, strict=True)):
            logits = backend.infer(_batch([image.inputs_hwc_u8[index] for image in images], backend.batch))
            probabilities += [probability(answer, member.temperature) for answer in logits[: len(images)]]
        finished = time.perf_counter()
        infer_ms = 1000 * (finished - started) / len(images)
        return [self._record(image, float(p), infer_ms) for image, p in zip(images, probabilities / len(self._members), strict=True)]

    def _record(self, image: _Prepared, p: float, infer_ms: float) -> Record:
        said = decide(p, self.rule)
        milliseconds = (image.decode_ms, image.fit_ms, infer_ms, image.decode_ms + image.fit_ms + infer_ms)
        timing = Timing(*(round(value, 3) for value in milliseconds))
        return Record(image.name, image.sha256, "ok", None, said.label, said.p_malignant, said.decision, said.reasons, timing, self.execution)

    def close(self) -> None:
        """Releases the engine."""
        for backend in self._backends:
            backend.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def start(opened: Bundle, chosen: Plan, *, cache: bool = True) -> Started:
    """Opens the variant that a plan runs on its provider, a backend for each member, and asks each one question.

    Raises:
        BundleError: no such variant, damaged files, or a model that answers in another shape.
        ProviderError: the provider cannot run here.
    """
    module = plugins.load(backends.PROVIDERS, chosen.provider)
    begun = time.perf_counter()
    variant, contents = opened.model(chosen.precision or None, None if chosen.provider == "null" else chosen.provider)
    load_s, compile_s, first_s = time.perf_counter() - begun, 0.0, 0.0
    running: list[Backend] = []
    for content, entry, member in zip(contents, bundle.files(variant), opened.members, strict=True):
        kept = caches.folder(chosen.provider, *_cache_key(chosen, variant, entry)) if cache else None
        options = Options(chosen.device, variant["precision"], chosen.batch, chosen.threads, chosen.inferences, kept)
        begun = time.perf_counter()
        backend: Backend = module.open(content, options)
        opened_at = time.perf_counter()
        shape = (backend.batch or 1, member.input.height, member.input.width, 3)
        probe = backend.infer(np.zeros(shape, np.uint8))
        compile_s, first_s = compile_s + opened_at - begun, first_s + time.perf_counter() - opened_at
        if probe.shape != (shape[0], 2):
            raise BundleError(
                f"{opened.path}: the {variant['precision']} model answers in shape {probe.shape}, not {(shape[0], 2)}; export the bundle again."
            )
        running.append(backend)
    return Started(variant, running, load_s, compile_s, first_s)


def _cache_key(chosen: Plan, variant: dict[str, Any], entry: dict[str, Any]) -> list[str]:
    """Everything that a compiled model depends on."""
    versions = [f"{name} {version}" for name, version in backends.versions().items()]
    how = f"{variant['precision']} batch {chosen.batch} inferences {chosen.inferences} threads {chosen.threads}"
    return [entry["sha256"][:16], machine.cpu_name(), machine.nvidia_driver(), *versions, chosen.device or "first", how]


def _name(source: Source) -> str:
    return str(source) if isinstance(source, str | Path) else "<bytes>" if isinstance(source, bytes | Hashed) else "<array>"


def _prepare(item: tuple[str, Source | InputError], members: Sequence[bundle.Member]) -> _Prepared:
    """Reads, hashes, decodes and resizes one image."""
    name, source = item
    sha256 = None
    begun = time.perf_counter()
    try:
        if isinstance(source, InputError):
            raise source
        if isinstance(source, np.ndarray):
            image = _pixels(source)
            sha256 = hashlib.sha256(image.tobytes()).hexdigest()
        else:
            if isinstance(source, Hashed):
                data, sha256 = source.data, source.sha256
            else:
                data = source if isinstance(source, bytes) else raster.read(source)
                sha256 = hashlib.sha256(data).hexdigest()
            image = raster.decode(data)
        decoded = time.perf_counter()
        inputs = [raster.fit(image, member.input) for member in members]
    except InputError as error:
        raise _UnreadableError(error, sha256) from None
    except MemoryError:
        raise _UnreadableError(InputError("The image needs more memory than there is; cut it into fields of view and give those."), sha256) from None
    return _Prepared(name, sha256, inputs, 1000 * (decoded - begun), 1000 * (time.perf_counter() - decoded))


def _batch(inputs_hwc_u8: Sequence[UInt8Image] | npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """N x H x W x 3; filled up with black to `size` for an engine that takes nothing else."""
    batch = np.zeros((max(size, len(inputs_hwc_u8)), *inputs_hwc_u8[0].shape), np.uint8)
    for index, one in enumerate(inputs_hwc_u8):
        batch[index] = one
    return batch


def _pixels(array: UInt8Image) -> UInt8Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InputError(f"Pixels of shape {array.shape} and type {array.dtype} were given; give uint8 RGB, H x W x 3.")
    return array
