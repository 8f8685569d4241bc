"""One image to one record."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from bcd_edge import __version__, bundle, imaging, plugins
from bcd_edge.backends import Backend, Options
from bcd_edge.bundle import Bundle, Decision
from bcd_edge.decide import decide, probability, with_threshold
from bcd_edge.errors import BundleError, InputError
from bcd_edge.imaging import UInt8Image
from bcd_edge.records import Execution, Record, Timing

Source = str | Path | bytes | UInt8Image


class Classifier:
    """A bundle opened on a provider. Use `Classifier.load`; as a context manager it closes the engine at the end.

    Attributes:
        bundle: what was opened.
        rule: operating threshold and review band in use, probabilities.
        execution: what exactly runs.
        warnings: sentences that a person must see before the first answer; usually none.
    """

    def __init__(self, opened: Bundle, backends: Sequence[Backend], variant: dict[str, Any], rule: Decision) -> None:
        self.bundle = opened
        self.rule = rule
        ran = backends[0]
        self.execution = Execution(ran.provider, ran.device, variant["precision"], opened.name, opened.sha256, __version__)
        self.warnings = tuple(
            f"{opened.name} {variant['precision']} was refused by the accuracy gate and is carried for research only: {reason.rstrip('.')}."
            for reason in variant.get("gate", {}).get("refused", [])
        )
        self._members = opened.members
        self._backends = backends

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        provider: str = "cpu",
        precision: str | None = None,
        threshold: float | None = None,
        threads: int = 0,
    ) -> Classifier:
        """Opens a bundle on a provider.

        Args:
            path: folder or .zip of a bundle; the embedded one if not given.
            provider: a name from `bcd_edge.plugins.names("bcd_edge.backends")`.
            precision: `fp32`, `fp16` or `int8`; that of the bundle's first variant for the provider if not given.
            threshold: operating threshold, 0..1; the bundle's if not given.
            threads: CPU threads for one inference, 0 for the engine's own choice.

        Raises:
            BundleError: the bundle is damaged, unknown or unsafe.
            ProviderError: the provider cannot run here.
            UsageError: no such provider, or a threshold outside 0..1.
        """
        opened = bundle.open(path)
        rule = with_threshold(opened.decision, threshold)
        module = plugins.load("bcd_edge.backends", provider)
        variant, contents = opened.model(precision, provider)
        backends: list[Backend] = [module.open(content, Options(threads)) for content in contents]
        for backend, member in zip(backends, opened.members, strict=True):
            probe = backend.infer(np.zeros((1, member.input.height, member.input.width, 3), np.uint8))
            if probe.shape != (1, 2):
                raise BundleError(
                    f"{opened.path}: the {variant['precision']} model answers in shape {probe.shape}, not (1, 2); export the bundle again."
                )
        return cls(opened, backends, variant, rule)

    def classify(self, source: Source, *, name: str | None = None) -> Record:
        """Classifies one image.

        Args:
            source: a path, the bytes of an image file, or pixels as uint8 RGB, H x W x 3.
            name: what to call the image in the record; the path if not given.

        Returns:
            A record; `status` is `failed`, with a sentence in `error`, for an image that cannot be read or decoded.

        Raises:
            ProviderError: the engine failed, which no other image would survive either.
        """
        label = name or (str(source) if isinstance(source, str | Path) else "<bytes>" if isinstance(source, bytes) else "<array>")
        sha256 = None
        begun = time.perf_counter()
        try:
            if isinstance(source, np.ndarray):
                image = _pixels(source)
                sha256 = hashlib.sha256(image.tobytes()).hexdigest()
            else:
                data = source if isinstance(source, bytes) else imaging.read(source)
                sha256 = hashlib.sha256(data).hexdigest()
                image = imaging.decode(data)
        except InputError as error:
            return self.failed(label, error, sha256)
        decoded = time.perf_counter()
        inputs_hwc = [imaging.fit(image, member.input) for member in self._members]
        fitted = time.perf_counter()
        logits = [backend.infer(one[np.newaxis])[0] for backend, one in zip(self._backends, inputs_hwc, strict=True)]
        inferred = time.perf_counter()
        p = [probability(answer, member.temperature) for answer, member in zip(logits, self._members, strict=True)]
        said = decide(sum(p) / len(p), self.rule)
        timing = Timing(*(round(1000 * seconds, 3) for seconds in (decoded - begun, fitted - decoded, inferred - fitted, inferred - begun)))
        return Record(label, sha256, "ok", None, said.label, said.p_malignant, said.decision, said.reasons, timing, self.execution)

    def failed(self, name: str, error: InputError, sha256: str | None = None) -> Record:
        """The record of an image that could not be classified."""
        return Record(name, sha256, "failed", str(error), None, None, None, (), None, self.execution)

    def close(self) -> None:
        """Releases the engine."""
        for backend in self._backends:
            backend.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _pixels(array: UInt8Image) -> UInt8Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InputError(f"Pixels of shape {array.shape} and type {array.dtype} were given; give uint8 RGB, H x W x 3.")
    return array
