"""Explainers on models whose truth is known, and beside the `lime` package."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from bcd_edge import Classifier, plugins, synthetic
from bcd_edge.errors import ProviderError, UsageError
from bcd_edge.explain import Settings, check, explain, load, overlay, surrogate
from bcd_edge.explain import segments as _segments
from bcd_edge.explain.explainers import hadamard
from bcd_edge.readers.raster import Input, resize

GRID = 6
SIDE = 60
needs_lime = pytest.mark.skipif(__import__("importlib.util").util.find_spec("lime") is None, reason='pip install "bcd-edge[explain]"')


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def segments() -> np.ndarray:
    rows, columns = np.indices((SIDE, SIDE)) * GRID // SIDE
    return rows * GRID + columns


def model(image: np.ndarray, segments: np.ndarray, answer: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """A model that sees which superpixels are shown, N x S, and answers with a probability."""

    def predict(images: np.ndarray) -> np.ndarray:
        same = (images == image).all(axis=3)
        masks = np.stack([same[:, segments == index].all(axis=1) for index in range(segments.max() + 1)], axis=1)
        return answer(masks.astype(np.float64))

    return predict


def effects(seed: int, count: int = GRID * GRID) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.01, count)


def interactions(seed: int, count: int = GRID * GRID) -> Callable[[np.ndarray], np.ndarray]:
    """A model with main effects and many strong pairs."""
    rng = np.random.default_rng(seed)
    pairs = list(itertools.combinations(range(count), 2))
    chosen = [pairs[index] for index in rng.choice(len(pairs), 150, replace=False)]
    sizes = rng.normal(0, 0.02, len(chosen))
    weights = effects(seed, count)

    def answer(masks: np.ndarray) -> np.ndarray:
        # around 1/2, so that a pair adds nothing to the main effects that are to be found
        centred = masks - 0.5
        return 0.5 + centred @ weights + sum(4 * size * centred[:, i] * centred[:, j] for (i, j), size in zip(chosen, sizes, strict=True))

    return answer


@needs_lime
@pytest.mark.parametrize("explainer", ["hadamard", "lime"])
def test_the_weights_of_a_linear_model_are_found(explainer: str, image: np.ndarray, segments: np.ndarray) -> None:
    weights = effects(1)
    predict = model(image, segments, lambda masks: 0.5 + (masks - 0.5) @ weights)
    explanation = plugins.load("bcd_edge.explain.explainers", explainer).explain(predict, image, segments, Settings(label="malignant", samples=1000))
    assert np.corrcoef(explanation.weights, weights)[0, 1] > 0.999
    assert np.allclose(explanation.weights / explanation.shrinkage, weights, atol=0.002)
    assert explanation.r2 > 0.99
    opposite = plugins.load("bcd_edge.explain.explainers", explainer).explain(predict, image, segments, Settings(label="benign", samples=1000))
    assert np.allclose(opposite.weights, -explanation.weights)
    assert opposite.probability == pytest.approx(1 - explanation.probability)


@needs_lime
def test_with_the_same_masks_our_fit_is_the_packages(image: np.ndarray, segments: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[np.ndarray] = []
    answer = interactions(2)

    def recorded(masks: np.ndarray) -> np.ndarray:
        asked.append(masks.astype(bool))
        return answer(masks)

    predict = model(image, segments, recorded)
    theirs = plugins.load("bcd_edge.explain.explainers", "lime").explain(predict, image, segments, Settings(label="malignant", samples=200))
    masks = np.concatenate(asked)[:200]
    ours = surrogate.fit(masks, answer(masks.astype(np.float64)))
    assert np.abs(ours.weights - theirs.weights).max() < 1e-6
    assert ours.r2 == pytest.approx(theirs.r2, abs=1e-6)


@needs_lime
def test_paired_masks_beat_coin_flips_where_superpixels_interact(image: np.ndarray, segments: np.ndarray) -> None:
    def error(explainer: str, seed: int) -> float:
        predict = model(image, segments, interactions(seed))
        explanation = plugins.load("bcd_edge.explain.explainers", explainer).explain(
            predict, image, segments, Settings(label="malignant", samples=128, seed=seed)
        )
        return float(np.sqrt(np.mean((explanation.weights / explanation.shrinkage - effects(seed)) ** 2)))

    errors = {name: np.mean([error(name, seed) for seed in range(8)]) for name in ("hadamard", "lime")}
    assert errors["lime"] / errors["hadamard"] > 2


@pytest.mark.parametrize("count", [1, 2, 15, 16, 36, 63, 64, 200])
def test_masks_are_balanced_and_paired(count: int) -> None:
    blocks = list(itertools.islice(hadamard._blocks(count, 3), 64))
    assert all(block.shape == (2 * hadamard.PAIRS, count) for block in blocks)
    design = np.concatenate(blocks)
    assert (design[::2] == ~design[1::2]).all()
    assert (design.mean(axis=0) == 0.5).all()
    order = max(2 ** int(np.ceil(np.log2(count + 1))), hadamard.PAIRS)
    signs = np.where(design[: 2 * order : 2], 1, -1)
    assert np.array_equal(signs.T @ signs, order * np.eye(count))
    assert not np.array_equal(np.concatenate(list(itertools.islice(hadamard._blocks(count, 4), 64))), design)


@needs_lime
def test_it_stops_when_it_is_sure_and_says_so_when_it_is_not(image: np.ndarray, segments: np.ndarray) -> None:
    plain = model(image, segments, lambda masks: 0.3 + masks[:, :5] @ np.array([0.3, -0.2, 0.15, 0.1, 0.05]))
    sure = hadamard.explain(plain, image, segments, Settings())
    assert sure.converged
    assert 1 + 2 * hadamard.PAIRS * hadamard.MIN_BLOCKS <= sure.samples < 1 + 2 * hadamard.PAIRS * 12
    assert sure.order[:5].tolist() == [0, 1, 2, 3, 4]
    rng = np.random.default_rng(0)
    noisy = model(image, segments, lambda masks: rng.random(len(masks)))
    unsure = hadamard.explain(noisy, image, segments, Settings(max_samples=200))
    assert not unsure.converged
    assert unsure.samples == 200
    assert "200 samples" in unsure.reason
    assert np.isfinite(unsure.standard_errors).all()


@needs_lime
def test_a_settled_order_is_right_far_more_often_than_not(image: np.ndarray, segments: np.ndarray) -> None:
    right = 0
    for seed in range(20):
        truth = np.random.default_rng(seed).normal(0, 0.05, GRID * GRID)
        noise = np.random.default_rng(seed + 100)

        def answer(masks: np.ndarray, truth: np.ndarray = truth, noise: np.random.Generator = noise) -> np.ndarray:
            return 0.5 + (masks - 0.5) @ truth + noise.normal(0, 0.05, len(masks))

        explanation = hadamard.explain(
            model(image, segments, answer), image, segments, Settings(label="malignant", max_samples=2000, top=3, seed=seed)
        )
        assert explanation.converged
        top, sizes = explanation.order[:3], np.sort(np.abs(truth))
        right += bool((np.sign(explanation.weights[top]) == np.sign(truth[top])).all()) and np.abs(truth[top]).min() > 0.8 * sizes[-3]
    assert right >= 17


@needs_lime
def test_a_seed_gives_the_same_and_another_another(image: np.ndarray, segments: np.ndarray) -> None:
    predict = model(image, segments, interactions(3))
    first, same, other = (hadamard.explain(predict, image, segments, Settings(samples=100, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.weights, same.weights)
    assert not np.array_equal(first.weights, other.weights)
    assert first.samples == 100


def test_occlusion_is_one_question_a_superpixel(image: np.ndarray, segments: np.ndarray) -> None:
    weights = effects(4)
    predict = model(image, segments, lambda masks: 0.5 + (masks - 0.5) @ weights)
    explanation = plugins.load("bcd_edge.explain.explainers", "occlusion").explain(predict, image, segments, Settings(label="malignant"))
    assert np.allclose(explanation.weights, weights)
    assert explanation.samples == 1 + GRID * GRID


@needs_lime
def test_the_model_sees_the_pictures_of_the_package(image: np.ndarray, segments: np.ndarray) -> None:
    from lime.lime_image import LimeImageExplainer

    seen: list[np.ndarray] = []

    def classify(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return np.full((len(images), 2), 0.5)

    explainer = LimeImageExplainer(random_state=7)
    hidden = image.copy()
    for index in np.unique(segments):
        hidden[segments == index] = tuple(np.mean(image[segments == index][:, channel]) for channel in range(3))
    data, _ = explainer.data_labels(image, hidden, segments, classify, 20)
    ours = _segments.perturbed(image, _segments.baseline(image, segments), segments, data.astype(bool))
    assert np.array_equal(ours, np.concatenate(seen))


@needs_lime
@pytest.mark.parametrize("explainer", ["hadamard", "lime", "occlusion"])
@pytest.mark.parametrize("picture", ["uniform", "one pixel", "black"])
def test_an_image_with_nothing_to_compare_is_explained_all_the_same(explainer: str, picture: str) -> None:
    pixels = {"uniform": np.full((90, 90, 3), 200, np.uint8), "one pixel": np.full((1, 1, 3), 7, np.uint8), "black": np.zeros((5, 9, 3), np.uint8)}
    resized = resize(pixels[picture], Input(96, 96))
    explanation = explain(lambda images: 1 - images.mean(axis=(1, 2, 3)) / 255, resized, explainer, Settings(samples=40))
    assert np.isfinite(explanation.weights).all()
    assert explanation.as_dict()["superpixels"]
    drawn = overlay.draw(pixels[picture], explanation, ["x" * 300])
    assert drawn.dtype == np.uint8
    assert drawn.shape[1] >= 480


@needs_lime
@pytest.mark.parametrize("settings", [Settings(max_samples=1), Settings(samples=1), Settings(samples=5), Settings(time_budget_s=1e-6)])
def test_a_budget_that_is_too_small_gives_what_it_can_and_says_so(settings: Settings, image: np.ndarray, segments: np.ndarray) -> None:
    explanation = hadamard.explain(model(image, segments, interactions(1)), image, segments, settings)
    assert not explanation.converged
    assert explanation.samples <= max(settings.samples, 1 + 2 * hadamard.PAIRS)
    assert np.isfinite(explanation.weights).all()
    assert "sample" in explanation.reason or "budget" in explanation.reason


def test_segments_have_no_gaps_and_no_other_algorithm(classifier: Classifier) -> None:
    picture = resize(synthetic.tissue(3), Input(150, 150))
    for algorithm in _segments.ALGORITHMS:
        labels = _segments.segment(picture, algorithm, 40, 0)
        assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
        assert np.array_equal(labels, _segments.segment(picture, algorithm, 40, 0))
        assert labels.shape == (150, 150)
    with pytest.raises(UsageError, match="choose one of slic"):
        _segments.segment(picture, "voronoi", 40, 0)
    assert load("edge") is load("hadamard")  # its former name
    with pytest.raises(UsageError, match="choose one of hadamard"):
        explain(classifier.probabilities, picture, "tea leaves")


@needs_lime
def test_a_faithful_order_deletes_faster_than_chance(image: np.ndarray, segments: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.abs(effects(6))
    predict = model(image, segments, lambda masks: 0.2 + masks @ weights)
    monkeypatch.setattr("bcd_edge.explain.segment", lambda *_: segments)
    result = check.check(predict, image, "hadamard", Settings(), 3)
    assert result.jaccard > 0.9
    assert result.rank_correlation > 0.95
    assert result.deletion < result.random_deletion
    assert result.insertion > result.random_insertion


def test_without_the_package_the_message_names_the_fix(image: np.ndarray, segments: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in ("lime", "lime.lime_base", "lime.lime_image"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ProviderError, match="pip install"):
        hadamard.explain(lambda images: np.full(len(images), 0.5), image, segments, Settings())


@needs_lime
@pytest.mark.parametrize("seed", range(3))
def test_the_jackknife_is_the_packages_fit_without_a_block(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = np.concatenate([np.ones((1, 12), bool), rng.integers(0, 2, (120, 12)).astype(bool)])
    p = rng.random(121)
    blocks = np.concatenate([[-1], np.repeat(np.arange(5), 24)])
    weights, replicates = surrogate.jackknife(masks, p, blocks)
    assert np.allclose(weights, surrogate.fit(masks, p).weights, atol=1e-9)
    for block, without in enumerate(replicates):
        assert np.allclose(without, surrogate.fit(masks[blocks != block], p[blocks != block]).weights, atol=1e-9)
