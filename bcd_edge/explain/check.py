"""Quality of an explanation: stability over seeds, and faithfulness to the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from bcd_edge.explain import Explanation, PredictFn, Settings, by_weight, explain
from bcd_edge.explain.segments import baseline, perturbed
from bcd_edge.readers.raster import UInt8Image

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Check:
    """Stability over seeds, and faithfulness of the first explanation.

    Deletion and insertion: Petsiuk et al., BMVC 2018.

    Attributes:
        jaccard: mean over pairs of seeds of the Jaccard index of their top superpixels, 0..1.
        rank_correlation: mean Spearman correlation of the weights over pairs of seeds, -1..1.
        deletion: area under the label's probability as superpixels are hidden by decreasing weight, 0..1; low is faithful.
        insertion: the same as they are shown on the baseline image; high is faithful.
        random_deletion: mean deletion of random orders, for comparison.
        random_insertion: mean insertion of random orders.
        samples: mean number of samples per explanation.
    """

    jaccard: float
    rank_correlation: float
    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float
    samples: float


def check(predict: PredictFn, image_hwc_u8: UInt8Image, explainer: str, settings: Settings, seeds: int, orders: int = 10) -> Check:
    """Explains with `seeds` consecutive seeds, and compares the order of the first explanation with `orders` random ones.

    Args:
        predict: the model, see `bcd_edge.explain.PredictFn`.
        image_hwc_u8: the network input, uint8 RGB, H x W x 3.
        explainer: see `bcd_edge.explain.explain`.
        settings: how to explain; its seed is the first one.
        seeds: number of explanations.
        orders: number of random orders.
    """
    explanations = [explain(predict, image_hwc_u8, explainer, replace(settings, seed=settings.seed + extra)) for extra in range(seeds)]
    first = explanations[0]
    comparable = [explanation for explanation in explanations if np.array_equal(explanation.segments, first.segments)]
    pairs = [(a.weights, b.weights) for a, b in combinations(comparable, 2)]
    deletion, insertion = curves(predict, image_hwc_u8, first, np.argsort(-first.weights, kind="stable"))
    rng = np.random.default_rng(settings.seed)
    chance = [curves(predict, image_hwc_u8, first, rng.permutation(len(first.weights))) for _ in range(orders)]
    return Check(
        jaccard=float(np.mean([overlap(a, b, settings.top) for a, b in pairs])) if pairs else 1.0,
        rank_correlation=float(np.mean([correlation(a, b) for a, b in pairs])) if pairs else 1.0,
        deletion=deletion,
        insertion=insertion,
        random_deletion=float(np.mean([pair[0] for pair in chance])),
        random_insertion=float(np.mean([pair[1] for pair in chance])),
        samples=float(np.mean([explanation.samples for explanation in explanations])),
    )


def overlap(a: Floats, b: Floats, top: int) -> float:
    """Jaccard index of the top superpixels by two vectors of weights."""
    first, second = (set(by_weight(weights)[:top].tolist()) for weights in (a, b))
    return len(first & second) / len(first | second)


def correlation(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation; 1 if there is nothing to rank."""
    from scipy.stats import rankdata

    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 1.0
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def curves(predict: PredictFn, image_hwc_u8: UInt8Image, explanation: Explanation, order: npt.NDArray[np.intp]) -> tuple[float, float]:
    """Areas under the deletion and the insertion curve of an order of superpixels, each 0..1."""
    from scipy.integrate import trapezoid

    count = len(order)
    rank = np.empty(count, int)
    rank[order] = np.arange(count)
    steps = np.arange(count + 1)[:, np.newaxis]
    hidden = baseline(image_hwc_u8, explanation.segments)
    areas = []
    for mask in (rank >= steps, rank < steps):
        p = predict(perturbed(image_hwc_u8, hidden, explanation.segments, mask))
        areas.append(float(trapezoid(p if explanation.label == "malignant" else 1 - p)) / count)
    return areas[0], areas[1]
