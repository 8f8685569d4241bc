"""The gate: a variant beside the reference on the same held-out test patients, and how long one image takes.

A file that became small and fast may have lost what it was for, and on few patients a difference of zero proves little.
So the gate looks at the bad end of the interval: a variant passes when the test patients rule out a loss beyond the bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from bcd_edge import plugins
from bcd_edge.backends import Backend
from bcd_edge.decision import DECISIONS, DecisionRule
from bcd_edge.errors import BundleError
from bcd_edge.estimates import resample_groups
from bcd_edge.interleaved import call_times
from bcd_edge.options import RunOptions
from train.data.images import Images
from train.evaluation import metrics

Floats = npt.NDArray[np.float64]

METRICS = ("accuracy", "auroc", "sensitivity", "specificity", "f1", "brier")
NAMES = {"auroc": "AUROC", "f1": "F1", "brier": "Brier score"}
RISES = ("brier",)  # an error: it may rise as little as the others may fall
# What a variant may lose of the mean over collections weighted by patients; beyond it the variant is refused.
BOUNDS = {"auroc": 0.005, "sensitivity": 0.01, "specificity": 0.02, "accuracy": 0.02, "f1": 0.02, "brier": 0.005}

BATCH = 32


def parse_bounds(values: Sequence[str]) -> dict[str, float]:
    """`BOUNDS` with what `--max-drop METRIC=NUMBER` says instead.

    Raises:
        click.BadParameter: an unknown metric, or something other than a number from 0 to 1.
    """
    bounds = dict(BOUNDS)
    for value in values:
        metric, _, number = value.partition("=")
        if metric not in BOUNDS:
            raise click.BadParameter(f"{value}: {metric!r} is not among the metrics that are judged; choose one of {', '.join(BOUNDS)}.")
        try:
            bound = float(number)
        except ValueError:
            bound = math.nan
        if not 0 <= bound <= 1:
            raise click.BadParameter(f"{value}: what {metric} may lose is a number from 0 to 1; write for example {metric}={BOUNDS[metric]}.")
        bounds[metric] = bound
    return bounds


def answers(model: bytes, images: Images, provider: str = "cpu") -> npt.NDArray[np.float32]:
    """float32 N x (2 + D) of an ONNX model in the runtime's own backend: logits, and the embedding if the model gives one.

    Raises:
        ProviderError: the provider cannot run here.
        BundleError: the model does not load, or answers with something other than numbers.
    """
    backend = plugins.load("bcd_edge.backends.providers", provider).open(model, RunOptions())
    pixels = images.pixels_nhwc_u8
    try:
        logits = np.concatenate([backend.infer(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)])
    finally:
        backend.close()
    broken = int((~np.isfinite(logits).all(axis=1)).sum())
    if broken:
        raise BundleError(
            f"The model answers with something other than numbers for {broken} of {len(images)} test images on {provider}; choose another precision."
        )
    return np.asarray(logits, np.float32)


def judge(
    name: str, p: Floats, p_reference: Floats, test: Images, rule: DecisionRule, bounds: Mapping[str, float], *, max_delta_p: float | None = None
) -> dict[str, Any]:
    """What a variant changed, and the reasons to refuse it.

    A difference is variant minus reference, as the mean over collections weighted by their patients: a handful of
    patients of one collection must not decide alone, and telling collections apart must not pass for telling benign
    from malignant. Its 95 % interval is that of a paired cluster bootstrap (Field & Welsh, JRSS B 2007): whole patients
    are drawn with replacement within each collection, and the same draw serves variant and reference.

    Args:
        name: of the variant, for the sentences.
        p: N calibrated probabilities of the variant, 0..1.
        p_reference: N of the reference, at the same temperature.
        test: the N images.
        rule: the decision rule; accuracy, sensitivity, specificity and F1 are at its operating threshold.
        bounds: what each metric may lose, as `BOUNDS`.
        max_delta_p: what a single probability may differ, or None.

    Returns:
        What JSON can hold. `images`, `patients`; `max_delta_p`, `mean_delta_p` (None if a probability is none);
        `flips`, the images whose decision or label changed, see `_flips`; `difference` {metric: {value, low, high}};
        `by_source` the same by collection; `weights` {source: patients}; `unjudged`, the collections with fewer than
        two patients of a class; `bounds`; `refused`, a list of sentences, empty if it passes.
    """
    result: dict[str, Any] = {
        "images": len(test),
        "patients": len(np.unique(test.groups)),
        "max_delta_p": None,
        "mean_delta_p": None,
        "flips": [],
        "difference": {},
        "by_source": {},
        "weights": {},
        "unjudged": [],
        "bounds": dict(bounds),
        "refused": [],
    }
    for whose, values in ((name, p), (f"the reference of {name}", p_reference)):
        broken = int((~((values >= 0) & (values <= 1))).sum())  # NaN is neither
        if broken:
            result["refused"].append(
                f"{whose} answers with something other than a probability for {broken} of {len(test)} test images: choose another precision"
            )
    if result["refused"]:
        return result
    delta = np.abs(p - p_reference)
    result |= {"max_delta_p": float(delta.max(initial=0)), "mean_delta_p": float(delta.sum() / max(1, len(delta)))}
    result["flips"] = _flips(p, p_reference, test, rule)
    result |= _differences(p, p_reference, test, rule.threshold)
    if max_delta_p is not None and not result["max_delta_p"] <= max_delta_p:
        result["refused"].append(
            f"{name} differs by {result['max_delta_p']:.2g} in p_malignant; at most {max_delta_p:g} is allowed: its graph does not compute "
            "what the checkpoint computes, so export with the versions that pyproject.toml names"
        )
    result["refused"] += _refusals(name, result["difference"], bounds, result["patients"])
    return result


def lost(metric: str, difference: Mapping[str, float]) -> float:
    """How much worse the metric may have become: the bad end of its interval, or the value where that is worse still; NaN if one is."""
    return float(np.max([end if metric in RISES else -end for end in difference.values()])) + 0.0  # no -0


def _refusals(name: str, difference: Mapping[str, Mapping[str, float]], bounds: Mapping[str, float], patients: int) -> list[str]:
    """A sentence for each metric that is not shown to be within its bound: `not <=`, so that NaN never passes."""
    if not difference:
        return [
            f"{name} cannot be judged: no collection of the test images has two patients of each class, and resampling one patient is no interval; "
            "train a run whose test part has more patients"
        ]
    sentences = []
    for metric, bound in bounds.items():
        worst = lost(metric, difference[metric])
        if worst <= bound:
            continue
        title = NAMES.get(metric, metric)
        change = f"raised the {title} by {worst:.4f}" if metric in RISES else f"lost {worst:.4f} {title}"
        point, good_end = difference[metric]["value"], difference[metric]["low" if metric in RISES else "high"]
        if lost(metric, {"good end": good_end}) <= bound:
            advice = f"{patients} test patients are too few to tell, so test on more, or choose another precision"
        else:
            way = f", or say --max-drop {metric}={math.ceil(worst * 1e4) / 1e4:g} if so much may be lost" if worst <= 1 else ""
            advice = f"choose another precision or calibration{way}"
        sentences.append(f"{name} may have {change} (interval's bad end; point {point:+.4f}); at most {bound:g} is allowed: {advice}")
    return sentences


def _differences(p: Floats, p_reference: Floats, test: Images, threshold: float) -> dict[str, Any]:
    """`difference`, `by_source`, `weights` and `unjudged` of `judge`."""
    values: dict[str, Floats] = {}
    draws: dict[str, Floats] = {}
    weights: dict[str, int] = {}
    unjudged = []
    for number, source in enumerate(map(str, np.unique(test.sources))):
        own = test.sources == source
        malignant, groups = test.malignant[own], test.groups[own]
        if any(len(np.unique(groups[malignant == side])) < 2 for side in (False, True)):
            unjudged.append(source)
            continue
        # a seed each, or collections of as many patients would all draw the same ones
        drawn = resample_groups(malignant, groups, number)
        after, before = (_measured(metrics.measure_resamples(malignant, these[own], threshold, drawn)) for these in (p, p_reference))
        draws[source] = after - before
        after, before = (_measured([metrics.measure(malignant, these[own], threshold)]) for these in (p, p_reference))
        values[source] = (after - before)[0]
        weights[source] = len(np.unique(groups))
    result: dict[str, Any] = {"by_source": {source: _intervals(values[source], draws[source]) for source in values}}
    if values:
        share = list(weights.values())
        mean, mean_draws = (np.average(list(these.values()), axis=0, weights=share) for these in (values, draws))
        result["difference"] = _intervals(mean, mean_draws)
    return result | {"weights": weights, "unjudged": unjudged}


def _measured(draws: Sequence[Mapping[str, float]]) -> Floats:
    """float64 draws x metrics, in the order of `METRICS`."""
    return np.array([[draw[name] for name in METRICS] for draw in draws])


def _intervals(values: Floats, draws: Floats) -> dict[str, metrics.Metric]:
    return {name: metrics.interval(float(values[column]), draws[:, column].tolist()) for column, name in enumerate(METRICS)}


def _flips(p: Floats, p_reference: Floats, test: Images, rule: DecisionRule) -> list[dict[str, Any]]:
    """The images whose decision (by the review band) or label (at the operating threshold) changed.

    Malignant images that turned benign come first, then other malignant ones whose probability fell, then the rest;
    within each the largest change of p first.
    """
    after, before = rule.decide(p), rule.decide(p_reference)
    label, label_before = rule.malignant(p), rule.malignant(p_reference)
    changed = np.flatnonzero((after != before) | (label != label_before))
    fell = test.malignant & (p < p_reference)
    turned = test.malignant & (after == 0) & (before != 0)
    rank = 2 - fell.astype(int) - turned
    order = changed[np.lexsort((-np.abs(p - p_reference)[changed], rank[changed]))]
    return [
        {
            "source": str(test.sources[index]),
            "patient": str(test.groups[index]).partition("/")[2],
            "sha256": str(test.sha256[index]),
            "malignant": bool(test.malignant[index]),
            "reference": DECISIONS[before[index]],
            "variant": DECISIONS[after[index]],
            "label_reference": "malignant" if label_before[index] else "benign",
            "label": "malignant" if label[index] else "benign",
            "p_reference": float(p_reference[index]),
            "p": float(p[index]),
        }
        for index in order
    ]


def latencies(models: Mapping[tuple[str, str], tuple[bytes, int]], seconds: float = 2.0) -> dict[tuple[str, str], dict[str, float]]:
    """Milliseconds for one image, several models in turns (A B A B ...), so that a machine busy for a while slows all of them alike.

    Args:
        models: {(variant, provider): (ONNX file, side of the input in pixels)}.
        seconds: measured for each; every turn makes at least one run.

    Returns:
        {(variant, provider): {p50_ms, p90_ms, runs}}, without the providers that cannot run here.

    Raises:
        ProviderError: a provider that says it is available does not start.
        BundleError: a model does not load.
    """
    opened: dict[tuple[str, str], tuple[Backend, npt.NDArray[np.uint8]]] = {}
    try:
        for key, (model, size) in models.items():
            engine = plugins.load("bcd_edge.backends.providers", key[1])
            if engine.is_available().available:
                opened[key] = engine.open(model, RunOptions()), np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
        runs = call_times({key: partial(backend.infer, image) for key, (backend, image) in opened.items()}, seconds)
    finally:
        for backend, _ in opened.values():
            backend.close()
    return {key: {"p50_ms": float(np.median(taken)), "p90_ms": float(np.percentile(taken, 90)), "runs": len(taken)} for key, taken in runs.items()}
