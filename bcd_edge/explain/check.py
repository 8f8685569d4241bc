"""Can an explanation be believed: does it come out the same again, and does the model follow what it says?"""

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

    Attributes:
        jaccard: mean over pairs of seeds of the overlap of their top superpixels, 0..1.
        rank_correlation: mean Spearman correlation of the weights over pairs of seeds, -1..1.
        deletion: area under the label's probability as superpixels are hidden, the weightiest first; low is faithful.
        insertion: the same as they are shown, on the baseline image; high is faithful (Petsiuk et al., BMVC 2018).
        random_deletion: the mean of random orders, to compare with; `random_insertion` alike.
        samples: mean number of samples of an explanation.
    """

    jaccard: float
    rank_correlation: float
    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float
    samples: float


def check(predict: PredictFn, image_hwc_u8: UInt8Image, explainer: str, settings: Settings, seeds: int, orders: int = 10) -> Check:
    """Explains with `seeds` seeds, from that of the settings on, and follows the first one's order and `orders` random ones."""
    found = [explain(predict, image_hwc_u8, explainer, replace(settings, seed=settings.seed + extra)) for extra in range(seeds)]
    same = [found[0], *(one for one in found[1:] if np.array_equal(one.segments, found[0].segments))]
    pairs = list(combinations(same, 2))
    first = found[0]
    deletion, insertion = curves(predict, image_hwc_u8, first, np.argsort(-first.weights, kind="stable"))
    rng = np.random.default_rng(settings.seed)
    chance = [curves(predict, image_hwc_u8, first, rng.permutation(len(first.weights))) for _ in range(orders)]
    return Check(
        jaccard=float(np.mean([overlap(one.weights, other.weights, settings.top) for one, other in pairs])) if pairs else 1.0,
        rank_correlation=float(np.mean([correlation(one.weights, other.weights) for one, other in pairs])) if pairs else 1.0,
        deletion=deletion,
        insertion=insertion,
        random_deletion=float(np.mean([pair[0] for pair in chance])),
        random_insertion=float(np.mean([pair[1] for pair in chance])),
        samples=float(np.mean([one.samples for one in found])),
    )


def overlap(one: Floats, other: Floats, top: int) -> float:
    """Jaccard index of the top superpixels."""
    first, second = (set(by_weight(weights)[:top].tolist()) for weights in (one, other))
    return len(first & second) / len(first | second)


def correlation(one: Floats, other: Floats) -> float:
    """Spearman's; 1 where there is nothing to rank."""
    from scipy.stats import rankdata

    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return 1.0
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def curves(predict: PredictFn, image_hwc_u8: UInt8Image, explanation: Explanation, order: npt.NDArray[np.intp]) -> tuple[float, float]:
    """Areas under the deletion and the insertion curve of one order, each 0..1."""
    from scipy.integrate import trapezoid

    count = len(order)
    rank = np.empty(count, int)
    rank[order] = np.arange(count)
    steps = np.arange(count + 1)[:, np.newaxis]
    hidden = baseline(image_hwc_u8, explanation.segments)
    areas = []
    for shown in (rank >= steps, rank < steps):
        p = predict(perturbed(image_hwc_u8, hidden, explanation.segments, shown))
        areas.append(float(trapezoid(p if explanation.label == "malignant" else 1 - p)) / count)
    return areas[0], areas[1]
