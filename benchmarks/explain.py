"""Explanations beside the `lime` package: time, stability, and the effect of INT8."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bcd_edge import Classifier, backends
from bcd_edge.classifier import EXPLAINED_BATCH
from bcd_edge.errors import UsageError
from bcd_edge.explain import Explanation, PredictFn, Settings, explain
from bcd_edge.explain.check import correlation, overlap
from bcd_edge.explain.explainers.lime import SAMPLES
from bcd_edge.explain.segments import baseline, perturbed, segment
from bcd_edge.explain.surrogate import fit, package
from bcd_edge.inputs import Inputs
from bcd_edge.options import RunOptions
from bcd_edge.readers import raster
from benchmarks.tables import Row, markdown, put, shown

SEEDS: Final = 10
# What `hadamard` is tried with; 32 are one block.
COUNTS: Final = (64, 128, 192, 256, 384, 512)
# Of the comparison of precisions: more than most explanations need, so that chance does not hide what the precision does.
SAME_MASKS: Final = 256
RESAMPLES: Final = 2000

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Timed:
    """One image explained by both.

    Attributes:
        package_s: the `lime` package around PyTorch, wall seconds.
        edge_s: ours, segmentation included.
        outside: share of `edge_s` that was not spent in the model, 0..1.
        explanation: ours.
    """

    package_s: float
    edge_s: float
    outside: float
    explanation: Explanation


def compare(folder: Path, bundle: Path, checkpoint: Path, out: Path | None) -> None:
    """Measures every row on the images of a folder, prints the table, and puts it between the marks `explain` of `out`.

    Args:
        folder: images; each is explained at the size of the network input.
        bundle: with the variants fp32 and int8.
        checkpoint: of the network that the bundle was exported from, for the package's side.
        out: a Markdown file.

    Raises:
        UsageError: there are no images in the folder, or the checkpoint is another network's.
        BundleError: the bundle has not both variants.
    """
    import torch

    with _opened(bundle, "int8") as int8, _opened(bundle, "fp32") as fp32:
        images = _images(folder, int8)
        network = _network(checkpoint, fp32, images)
        rows = shown(
            row
            for measure in (
                lambda: _stability(int8.probabilities, images),
                lambda: _precisions(int8.probabilities, fp32.probabilities, images),
                lambda: _speed(int8, network, images),
            )
            for row in measure()
        )
        title = f"{int8.bundle.name}, {len(images)} images, {int8.execution.provider} {int8.execution.precision}, batch {EXPLAINED_BATCH}"
    put(markdown(title, rows, f"torch {torch.__version__.partition('+')[0]}", f"lime {metadata.version('lime')}"), out, "explain")


def borders(folder: Path, bundle: Path | None, out: Path | None) -> None:
    """How often the weightiest superpixels of a folder's images touch the border, beside all superpixels; between the marks `borders` of `out`.

    Raises:
        UsageError: there are no images in the folder.
    """
    with Classifier.load(bundle, RunOptions(batch=EXPLAINED_BATCH)) as classifier:
        images = _images(folder, classifier)
        shares = np.array([_at_border(explain(classifier.probabilities, image, "hadamard", Settings())) for image in images])
        title = f"{classifier.bundle.name}, {len(images)} images, {classifier.execution.provider} {classifier.execution.precision}"
    top, every = (_interval(100 * shares[:, column], np.mean) for column in (0, 1))
    difference = _interval(100 * (shares[:, 0] - shares[:, 1]), np.mean)
    work = f"the {Settings().top} weightiest superpixels at the border"
    row = Row(work, "within 6 points of all", f"{top} %", f"all {every} %; difference {difference}")
    put(markdown(title, shown(iter([row]))), out, "borders")


def _at_border(explanation: Explanation) -> tuple[float, float]:
    """Share of the weightiest superpixels that touch the border, and share of all."""
    segments = explanation.segments
    touching = np.zeros(len(explanation.weights), bool)
    for edge in (segments[0], segments[-1], segments[:, 0], segments[:, -1]):
        touching[edge] = True
    return float(touching[explanation.order[: Settings().top]].mean()), float(touching.mean())


def _images(folder: Path, classifier: Classifier) -> list[Image]:
    """Every image of a folder as the network takes it."""
    paths = [path for _, path in Inputs([str(folder)]) if isinstance(path, Path)]
    if not paths:
        raise UsageError(f"The folder {folder} holds no image; name the folder that does.")
    return [raster.resize(raster.decode(raster.read(path)), classifier.bundle.input) for path in paths]


def _opened(bundle: Path, precision: str) -> Classifier:
    provider = next(name for name in backends.engines() if backends.availability(name).available)
    return Classifier.load(bundle, RunOptions(provider=provider, precision=precision, batch=EXPLAINED_BATCH))


def _network(checkpoint: Path, exported: Classifier, images: list[Image]) -> Any:
    """The PyTorch network, proven to be the one that was exported."""
    import torch

    from train import checkpoint as checkpoints
    from train import networks

    meta = checkpoints.load(checkpoint).get("meta", {"settings": {}})
    network = networks.build(str(checkpoint), meta["settings"].get("network", "resnet50"), meta.get("subtypes")).eval()
    (member,) = exported.bundle.members
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255)
        ours = torch.softmax(logits / member.temperature, 1)[:, 1].double().numpy()
    if np.abs(ours - exported.probabilities(np.stack(images))).max() > 1e-3:
        raise UsageError(f"{checkpoint} answers otherwise than the bundle {exported.bundle.path}; give the best.pt that it was exported from.")
    return network


def _stability(predict: PredictFn, images: list[Image]) -> Iterator[Row]:
    """Top-5 Jaccard over pairs of seeds, on the same superpixels for both explainers."""
    package_scores: list[float] = []
    scores: dict[int, list[float]] = {count: [] for count in COUNTS}
    until: list[float] = []
    needed: list[int] = []
    for number, image in enumerate(images, 1):
        remembered = _Remembered(predict)
        flips = [_package_weights(predict, image, seed) for seed in range(SEEDS)]
        if number == 1:
            theirs = explain(predict, image, "lime", Settings()).weights
            assert np.allclose(flips[0], theirs, atol=1e-6), "the package's masks are drawn otherwise by now"
        package_scores.append(_jaccard(flips))
        for count in COUNTS:
            scores[count].append(
                _jaccard([explain(remembered, image, "hadamard", Settings(seed=seed, samples=count)).weights for seed in range(SEEDS)])
            )
        stopped = [explain(remembered, image, "hadamard", Settings(seed=seed)) for seed in range(SEEDS)]
        until.append(_jaccard([explanation.weights for explanation in stopped]))
        needed += [explanation.samples for explanation in stopped]
        each = ", ".join(f"{count}: {values[-1]:.2f}" for count, values in scores.items())
        print(f"  image {number} of {len(images)}: package {package_scores[-1]:.2f}, hadamard {each}, until converged {until[-1]:.2f}", flush=True)
    wanted = float(np.mean(package_scores))
    enough = next((str(count) for count in COUNTS if np.mean(scores[count]) >= wanted), f"more than {COUNTS[-1]}")
    each = ", ".join(f"{count}: {np.mean(values):.2f}" for count, values in scores.items())
    differences = np.array(scores[128]) - np.array(package_scores)
    yield Row(
        f"model calls of `hadamard` for the top-5 Jaccard over {SEEDS} seeds that the package has with 1,000",
        "at most 128",
        enough,
        f"package {_interval(np.array(package_scores), np.mean, 2)}; hadamard by samples {each}; at 128 minus package "
        f"{_interval(differences, np.mean, 3)}; until converged {_interval(np.array(until), np.mean, 2)} with {np.mean(needed):.0f} samples",
    )


def _precisions(int8: PredictFn, fp32: PredictFn, images: list[Image]) -> Iterator[Row]:
    """The same image, superpixels and masks, asked of both variants."""
    settings = Settings(samples=SAME_MASKS)
    values = []
    for image in images:
        exact = explain(fp32, image, "hadamard", settings)
        rounded = explain(int8, image, "hadamard", replace(settings, label=exact.label))
        values.append(correlation(exact.weights, rounded.weights))
    correlations = np.array(values)
    yield Row(
        "INT8 explanation beside FP32's of the same image and masks, Spearman correlation of the weights",
        "0.95 in the median",
        _interval(correlations, np.median, 3),
        f"median of the images, {SAME_MASKS} samples each; least {correlations.min():.3f}",
    )


def _speed(classifier: Classifier, network: Any, images: list[Image]) -> Iterator[Row]:
    """Both sides explain an image before the next one's turn."""
    _both(classifier, network, images[0], samples=20)  # imports, first calls
    timed = [_both(classifier, network, image) for image in images]
    edge_s, package_s = (np.median([getattr(image, side) for image in timed]) for side in ("edge_s", "package_s"))
    ratios = np.array([image.package_s / image.edge_s for image in timed])
    outside = np.array([image.outside for image in timed])
    samples = np.array([image.explanation.samples for image in timed])
    converged = sum(image.explanation.converged for image in timed)
    yield Row(
        "`hadamard` until converged, beside the `lime` package with its defaults around PyTorch eager FP32, wall time",
        "40 x faster",
        f"{_interval(ratios)} x",
        f"median of the images' ratios; {edge_s:.2f} s beside {package_s:.1f} s; "
        f"{converged} of {len(timed)} converged within {Settings().max_samples} samples, {np.median(samples):.0f} samples in the median",
    )
    yield Row("time of `hadamard` outside the model, segmentation included", "under 15 %", f"{_interval(100 * outside)} %", "median of the images")


def _both(classifier: Classifier, network: Any, image: Image, samples: int = 0) -> Timed:
    """One image by the package, then by `hadamard`; `samples` of both if not 0."""
    import torch

    def answers(batch: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255
            probabilities: npt.NDArray[np.float64] = torch.softmax(network(pixels), 1).double().numpy()
            return probabilities

    module = package("lime_image")
    before, module.tqdm = module.tqdm, lambda rows: rows  # a bar of a thousand lines in a log
    try:
        started = time.perf_counter()
        module.LimeImageExplainer().explain_instance(image, answers, **({"num_samples": samples} if samples else {}))
        package_s = time.perf_counter() - started
    finally:
        module.tqdm = before
    started = time.perf_counter()
    explanation = explain(classifier.probabilities, image, "hadamard", Settings(samples=samples))
    edge_s = time.perf_counter() - started
    return Timed(package_s, edge_s, 1 - explanation.model_s / edge_s, explanation)


class _Remembered:
    """`PredictFn` that answers a picture it has seen from memory: the same seed draws the same masks first, however many are asked for."""

    def __init__(self, predict: PredictFn) -> None:
        self._predict = predict
        self._known: dict[bytes, float] = {}

    def __call__(self, images_nhwc_u8: Image) -> npt.NDArray[np.float64]:
        keys = [hashlib.sha256(image.tobytes()).digest() for image in images_nhwc_u8]
        fresh = [index for index, key in enumerate(keys) if key not in self._known]
        if fresh:
            self._known.update(zip((keys[index] for index in fresh), self._predict(images_nhwc_u8[fresh]), strict=True))
        return np.array([self._known[key] for key in keys])


def _package_weights(predict: PredictFn, image: Image, seed: int) -> npt.NDArray[np.float64]:
    """The weights of explainer `lime` with 1,000 samples, equal to 1e-6; the package itself hides superpixels one by one in Python."""
    segments = segment(image, "slic", Settings().segments, 0)
    drawn = np.random.RandomState(seed)
    drawn.randint(0, high=1000)  # the package draws a seed for its own segmentation first
    masks = drawn.randint(0, 2, (SAMPLES, int(segments.max()) + 1)).astype(bool)
    masks[0] = True
    p = predict(perturbed(image, baseline(image, segments), segments, masks))
    return fit(masks, p if p[0] >= 0.5 else 1 - p).weights


def _jaccard(weights: list[npt.NDArray[np.float64]]) -> float:
    return float(np.mean([overlap(first, second, 5) for first, second in combinations(weights, 2)]))


def _interval(values: npt.NDArray[np.float64], statistic: Any = np.median, digits: int = 1) -> str:
    """A statistic over images with its 95 % bootstrap percentile interval."""
    rng = np.random.default_rng(0)
    drawn = statistic(values[rng.integers(0, len(values), (RESAMPLES, len(values)))], axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{statistic(values):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
