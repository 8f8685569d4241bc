"""Whether this machine computes what the exporter computed: a bundle's golden images on every provider that runs here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from bcd_edge import backends, bundle
from bcd_edge.bundle import Bundle
from bcd_edge.classifier import Classifier
from bcd_edge.errors import BundleError, ProviderError, UsageError
from bcd_edge.options import RunOptions

# The largest acceptable difference of p_malignant from the exporter's value for the same file. Kernels of another processor
# add in another order and round differently: this changes the last digits in fp32 and the third in fp16; in int8 a value
# close to a quantisation step can land on its other side.
TOLERANCES: Final = {"fp32": 1e-3, "fp16": 1e-2, "int8": 5e-2}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One variant on one provider.

    Attributes:
        provider: name of the provider.
        precision: precision of the variant; empty if the provider is not available.
        file: first model file of the variant; empty if the provider is not available.
        from_exported: largest difference of p_malignant over the golden images from the exporter's value for this file, 0..1.
        from_reference: the same from the PyTorch reference.
        verdict: `fine` or `off` by `TOLERANCES`, `failed` if the engine returned no result.
        reason: why the provider is not available or failed.
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
        provider: the provider to test; all of them if not given.
        precision: the precision to test: `fp32`, `fp16` or `int8`; all that the bundle has for a provider if not given.

    Returns:
        An outcome for each variant that a provider would run, and one for each provider that is not available.

    Raises:
        BundleError: the bundle is damaged, or has no such variant.
        ProviderError: no provider, or not the requested one, runs here.
        UsageError: the bundle has no golden images, or there is no such provider.
    """
    opened = bundle.open(path)
    problems, _ = bundle.verify(opened)
    if problems:
        raise BundleError(problems[0])
    if not opened.golden():
        raise UsageError(
            f"{opened.path} contains no golden images, so there are no results to compare with; "
            "give a bundle that was exported with them, or only check the files: bcd-edge bundle verify"
        )
    names = [provider] if provider else backends.engines()
    outcomes = [outcome for name in names for outcome in _try(opened, name, precision)]
    if any(outcome.verdict != "not available" for outcome in outcomes):
        return outcomes
    if outcomes:
        raise ProviderError("No requested provider runs here: " + "; ".join(f"{outcome.provider}: {outcome.reason}" for outcome in outcomes))
    opened.variant(precision, provider)
    raise BundleError(
        f"{opened.path} has no {precision or ''} variant for any provider of this version of bcd-edge; use the version it was made for."
    )


def _try(opened: Bundle, provider: str, precision: str | None) -> list[Outcome]:
    precisions = dict.fromkeys(variant["precision"] for variant in opened.variants(provider) if precision in (None, variant["precision"]))
    availability = backends.availability(provider)
    if not availability.available:
        return [Outcome(provider, "", "", None, None, "not available", f"{availability.reason}; fix: {availability.fix}")]
    return [_measure(opened, provider, name) for name in precisions]


def _measure(opened: Bundle, provider: str, precision: str) -> Outcome:
    variant = opened.variant(precision, provider)
    file = bundle.files(variant)[0]["file"]
    computes = backends.computes(provider, variant)
    if not computes.available:
        return Outcome(provider, precision, file, None, None, "not available", f"{computes.reason}; fix: {computes.fix}")
    try:
        with Classifier.load(opened.path, RunOptions(provider=provider, precision=precision)) as classifier:
            answers = [(_p(classifier, entry, data), entry) for entry, data in opened.golden()]
    except (BundleError, ProviderError) as error:
        return Outcome(provider, precision, file, None, None, "failed", str(error))
    exported = max(abs(p - entry["variants"][file]) for p, entry in answers)
    reference = max(abs(p - entry["p_malignant"]) for p, entry in answers)
    return Outcome(provider, precision, file, exported, reference, "fine" if exported <= TOLERANCES[precision] else "off")


def _p(classifier: Classifier, entry: dict[str, Any], data: bytes) -> float:
    record = classifier.classify(data, name=entry["file"])
    if record.p_malignant is None:
        raise BundleError(f"The golden image {entry['file']} cannot be decoded ({str(record.error).rstrip('.')}); export the bundle again.")
    return record.p_malignant
