"""LIME with a better sampler: perturbation, kernel and ridge fit of the `lime` package, with fewer, better chosen masks.

Masks are rows of a randomised Hadamard matrix, each with its complement. The columns are balanced and orthogonal, and in
the difference of a pair all interactions of an even number of superpixels cancel (Plackett & Burman, Biometrika 1946;
the fold-over of Box & Wilson, J. R. Stat. Soc. B 1951). Masks are evaluated in blocks. After each block a jackknife over
the blocks estimates the standard errors; sampling stops when the top superpixels have converged or the budget is spent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from bcd_edge.explain import CountingPredict, Explanation, PredictFn, Settings, explained_label
from bcd_edge.explain.segments import Segments, baseline, perturbed
from bcd_edge.explain.surrogate import converged, fit, jackknife, shrinkage, standard_error
from bcd_edge.readers.raster import UInt8Image

# The former name.
ALIASES: Final = ("edge",)
# Pairs of a row and its complement in a block: 32 images fill a batch.
PAIRS: Final = 16
# A jackknife over fewer blocks does not give a usable variance.
MIN_BLOCKS: Final = 4


def explain(predict: PredictFn, image_hwc_u8: UInt8Image, segments: Segments, settings: Settings) -> Explanation:
    """See `bcd_edge.explain.explain`. `settings.samples` counts the whole image too; budgets are checked once per block."""
    counting = CountingPredict(predict)
    whole = counting(image_hwc_u8[np.newaxis])[0]
    counting.label = explained_label(float(whole), settings.label)
    p = [np.array([whole if counting.label == "malignant" else 1 - whole])]
    count = int(segments.max()) + 1
    drawn = [np.ones((1, count), bool)]
    blocks = [np.array([-1])]
    hidden = baseline(image_hwc_u8, segments)
    limit = settings.samples or settings.max_samples
    weights, errors, r2, sure = np.zeros(count), np.full(count, np.nan), float("nan"), False
    reason = "there is only one superpixel, so nothing to compare" if count == 1 else f"the budget of {limit} samples is spent"
    for number, masks in enumerate(_blocks(count, settings.seed)):
        room = limit - counting.images
        if count == 1 or room <= 0:
            break
        if settings.time_budget_s and number and counting.elapsed + counting.elapsed / number > settings.time_budget_s:
            least = f", and the first {counting.images} samples always run" if number == 1 else ""
            reason = f"the budget of {settings.time_budget_s:g} s is spent{least}"
            break
        chosen = masks[: room if room < len(masks) else None]
        p.append(counting(perturbed(image_hwc_u8, hidden, segments, chosen)))
        drawn.append(chosen)
        blocks.append(np.full(len(chosen), number))
        if number + 1 >= MIN_BLOCKS and not settings.samples:
            every, answers, parts = np.concatenate(drawn), np.concatenate(p), np.concatenate(blocks)
            if converged(*jackknife(every, answers, parts), settings.top, settings.confidence):
                sure, reason = True, f"order and sign of the top {min(settings.top, count)} superpixels have converged"
                break
    every, answers, parts = np.concatenate(drawn), np.concatenate(p), np.concatenate(blocks)
    if len(every) > 1:
        regression = fit(every, answers)
        weights, r2 = regression.weights, regression.r2
    if parts.max() >= 1:
        _, replicates = jackknife(every, answers, parts)
        errors = standard_error(replicates)
        if parts.max() + 1 >= MIN_BLOCKS:
            sure = converged(weights, replicates, settings.top, settings.confidence)
    if settings.samples and count > 1:
        reason = f"{counting.images} samples were requested"
    return Explanation(
        explainer="hadamard",
        label=counting.label,
        probability=float(answers[0]),
        segments=segments,
        weights=weights,
        standard_errors=errors,
        samples=counting.images,
        converged=sure or count == 1,
        reason=reason,
        r2=r2,
        shrinkage=shrinkage(every) if len(every) > 1 else 1.0,
        model_s=counting.seconds,
        total_s=counting.elapsed,
    )


def _blocks(count: int, seed: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Endless blocks of masks, each 2 `PAIRS` x `count`: rows, each followed by its complement.

    A design uses every row of a Hadamard matrix once, with columns drawn and signs flipped at random; then a new one begins.
    """
    from scipy.linalg import hadamard

    rng = np.random.default_rng(seed)
    order = max(2 ** int(np.ceil(np.log2(count + 1))), PAIRS)
    matrix = hadamard(order) > 0
    while True:
        columns = 1 + rng.permutation(order - 1)[:count]  # the first column never changes
        design = matrix[rng.permutation(order)][:, columns] ^ rng.integers(0, 2, count).astype(bool)
        for start in range(0, order, PAIRS):
            rows = design[start : start + PAIRS]
            yield np.stack([rows, ~rows], axis=1).reshape(-1, count)
