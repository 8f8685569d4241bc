"""Inference engines. Each file of `providers` is a provider; its module defines

REQUIRES = ("onnxruntime>=1.20",)
RANK = 40                              # without a tuning result the available provider of lowest rank runs; None: only on request
OPTIONS = {"delay": "Time per call."}  # what `--provider-option NAME=VALUE` may set
RUNS_MODEL = True                      # False: a stand-in that accepts any variant and whose results mean nothing
def is_available() -> Availability: ...
def runs_on_cpu(device: str | None) -> bool: ...
def open(model: bytes, options: RunOptions, cache: Path | None = None) -> Backend: ...
def computes(variant: Mapping[str, Any], device: str | None) -> Availability: ...  # only where it is not every variant, see `availability`
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from bcd_edge import plugins
from bcd_edge.errors import BundleError, ProviderError, UsageError
from bcd_edge.options import RunOptions

# The package whose modules are providers, see `bcd_edge.plugins`.
PROVIDERS: Final = f"{__name__}.providers"


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a provider can run here; if not, `reason` says why and `fix` which command to run."""

    available: bool
    reason: str = ""
    fix: str = ""


class Backend(Protocol):
    """One opened model.

    Attributes:
        provider: the provider that runs.
        device: the device it runs on, as the engine reports it.
        batch: number of images that every call must have; any number if None.
    """

    provider: str
    device: str
    batch: int | None

    def infer(self, batch_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 RGB, N x H x W x 3, to float32, N x 2 logits, and behind them the embedding, N x D, if the model gives one.

        May be called by `RunOptions.streams` threads at once.
        """

    def close(self) -> None:
        """Releases the engine; closing again does nothing, and `infer` afterwards raises a ProviderError at once."""


def engines() -> list[str]:
    """Every provider that has a `RANK`, in order of preference."""
    ranks = {name: plugins.load(PROVIDERS, name).RANK for name in plugins.names(PROVIDERS)}
    return sorted((name for name, rank in ranks.items() if rank is not None), key=lambda name: (ranks[name], name))


def provider_options(provider: str, options: RunOptions) -> dict[str, str]:
    """The options that are specific to this provider, by name.

    Raises:
        UsageError: the provider has no such option.
    """
    known: dict[str, str] = plugins.load(PROVIDERS, provider).OPTIONS
    unknown = [name for name, _ in options.provider_options if name not in known]
    if unknown:
        raise UsageError(f"The provider {provider} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}.")
    return dict(options.provider_options)


def availability(name: str, variant: Mapping[str, Any] | None = None, device: str | None = None) -> Availability:
    """Whether a provider can run here.

    Args:
        name: the provider.
        variant: an entry of a bundle's manifest, which it must compute as the exporter did; none if not given.
        device: one of its devices.
    """
    module = plugins.load(PROVIDERS, name)
    answer: Availability = module.is_available()
    return computes(name, variant, device) if answer.available and variant is not None else answer


def computes(name: str, variant: Mapping[str, Any], device: str | None = None) -> Availability:
    """Whether a provider, where it can run, computes a variant as the exporter did; does not import the engine."""
    module = plugins.load(PROVIDERS, name)
    answer: Availability = module.computes(variant, device) if hasattr(module, "computes") else Availability(True)
    return answer


def require(provider: str, answer: Availability) -> None:
    """Checks that a provider can run here.

    Raises:
        ProviderError: it cannot; with the reason and the fix.
    """
    if not answer.available:
        raise ProviderError(f"The provider {provider} cannot run here: {answer.reason}; fix: {answer.fix}")


def check_self_contained(model: bytes) -> None:
    """Refuses an ONNX model with weights outside its file: they would not be verified.

    OpenVINO reads them from the current folder or any absolute path, ONNX Runtime before 1.24 from an absolute path; neither has a setting that
    forbids it. ONNX names their file under this key only (TensorProto).

    Raises:
        BundleError: it has such weights.
    """
    if b"location" in model:
        raise BundleError(
            "The model refers to weights outside its file, which are not verified; export the bundle again with the weights inside the model."
        )


def joined(outputs: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """The outputs of a model side by side, float32 N x (2 + D)."""
    return np.array(outputs[0], np.float32) if len(outputs) == 1 else np.concatenate(outputs, axis=1, dtype=np.float32)


def closed(provider: str) -> ProviderError:
    """What `infer` of a closed backend raises."""
    return ProviderError(f"The {provider} engine is closed, so it cannot run inference; load the classifier again.")


def installed(requirement: str, fix: str) -> Availability:
    """Whether the module of a requirement such as `openvino>=2025.4` imports and is new enough."""
    name, _, oldest = requirement.partition(">=")
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a broken installation can raise anything
        return Availability(False, f"{name} does not import ({error})", fix)
    version = str(getattr(module, "__version__", "0"))
    if _release(version) < _release(oldest):
        return Availability(False, f"{name} {version} is older than {oldest}", fix)
    return Availability(True)


def versions() -> dict[str, str]:
    """Versions of the installed engines by distribution name, without importing them."""
    installed_versions = {}
    for name in ("onnxruntime", "onnxruntime-gpu", "openvino"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed_versions[name] = metadata.version(name)
    return installed_versions


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
