"""Whether this machine answers as the exporter's did: a bundle's golden images through every provider that runs here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from bcd_edge import backends, bundle
from bcd_edge.bundle import Bundle
from bcd_edge.classifier import Classifier
from bcd_edge.errors import BundleError, ProviderError, UsageError
from bcd_edge.options import RunOptions

# How far p_malignant may lie from what the exporter measured for the same file. Another processor's kernels add in
# another order and round differently: the last digits in fp32, the third in fp16; in int8 a value next to a step of
# the grid lands on the other side of it.
TOLERANCES: Final = {"fp32": 1e-3, "fp16": 1e-2, "int8": 5e-2}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One variant on one provider.

    Attributes:
        provider: its name.
        precision: of the variant; empty if the provider is not available.
        file: of the variant, its first; empty if the provider is not available.
        from_exported: the largest |dp| over the golden images from what the exporter measured for this file, 0..1.
        from_reference: the same from the PyTorch reference.
        verdict: `failed` is an engine that gave no answer.
        reason: why it is not available, or failed.
    """

    provider: str
    precision: str
    file: str
    from_exported: float | None
    from_reference: float | None
    verdict: Literal["fine", "off", "failed", "not available"]
    reason: str = ""


def run(path: str | Path | None = None, *, provider: str | None = None, precision: str | None = None) -> list[Outcome]:
    """Runs the golden images.

    Args:
        path: folder or .zip of a bundle; the embedded one if not given.
        provider: only this one; every provider otherwise.
        precision: only `fp32`, `fp16` or `int8`; every precision that the bundle has for a provider otherwise.

    Returns:
        An outcome for each variant that a provider would run, and one for each provider that is not available.

    Raises:
        BundleError: the bundle is damaged, or has no such variant.
        ProviderError: no provider, or not the one asked for, runs here.
        UsageError: the bundle has no golden images, or there is no such provider.
    """
    opened = bundle.open(path)
    problems, _ = bundle.verify(opened)
    if problems:
        raise BundleError(problems[0])
    if not opened.golden():
        raise UsageError(
            f"{opened.path} holds no golden images, so there are no answers to compare with; "
            "give a bundle that was exported with them, or check the files alone: bcd-edge bundle verify"
        )
    names = [provider] if provider else backends.engines()
    outcomes = [outcome for name in names for outcome in _try(opened, name, precision)]
    if any(outcome.verdict != "not available" for outcome in outcomes):
        return outcomes
    if outcomes:
        raise ProviderError("No provider that was asked for runs here: " + "; ".join(f"{one.provider}: {one.reason}" for one in outcomes))
    opened.variant(precision, provider)
    raise BundleError(f"{opened.path} has no {precision or ''} variant for any provider known here; it is made for other versions of bcd-edge.")


def _try(opened: Bundle, provider: str, precision: str | None) -> list[Outcome]:
    precisions = [found for found in dict.fromkeys(variant["precision"] for variant in opened.variants(provider)) if precision in (None, found)]
    availability = backends.availability(provider)
    if not availability.available:
        return [Outcome(provider, "", "", None, None, "not available", f"{availability.reason}; fix: {availability.fix}")]
    return [_measure(opened, provider, found) for found in precisions]


def _measure(opened: Bundle, provider: str, precision: str) -> Outcome:
    variant = opened.variant(precision, provider)
    file = bundle.files(variant)[0]["file"]
    try:
        with Classifier.load(opened.path, RunOptions(provider=provider, precision=precision)) as classifier:
            found = [(_p(classifier, entry, data), entry) for entry, data in opened.golden()]
    except (BundleError, ProviderError) as error:
        return Outcome(provider, precision, file, None, None, "failed", str(error))
    exported = max(abs(p - entry["variants"][file]) for p, entry in found)
    reference = max(abs(p - entry["p_malignant"]) for p, entry in found)
    return Outcome(provider, precision, file, exported, reference, "fine" if exported <= TOLERANCES[precision] else "off")


def _p(classifier: Classifier, entry: dict[str, Any], data: bytes) -> float:
    record = classifier.classify(data, name=entry["file"])
    if record.p_malignant is None:
        raise BundleError(f"The golden image {entry['file']} is none ({str(record.error).rstrip('.')}); export the bundle again.")
    return record.p_malignant
