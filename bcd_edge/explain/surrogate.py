"""The surrogate model: the local linear fit by the `lime` package, its standard errors, and when it has converged."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bcd_edge.errors import ProviderError

Floats = npt.NDArray[np.float64]

FIX = 'pip install "bcd-edge[explain]"'
# The package's defaults (LimeImageExplainer).
KERNEL_WIDTH: Final = 0.25
RIDGE: Final = 1.0
# Weights that differ by less than this share of the largest one count as equal: nobody could see the difference, and
# their order might never converge.
TIE: Final = 0.15


@dataclass(frozen=True, slots=True)
class Fit:
    """Weights of S superpixels and the weighted R2 of the fit."""

    weights: Floats
    r2: float


def package(name: str) -> Any:
    """A module of the `lime` package.

    Raises:
        ProviderError: it is not installed.
    """
    try:
        return importlib.import_module(f"lime.{name}")
    except ImportError as error:
        raise ProviderError(f"Explaining needs the package lime, which cannot be imported ({error}); fix: {FIX}") from None


def require_package() -> None:
    """Checks that the `lime` package is installed, without importing it, which takes a second.

    Raises:
        ProviderError: it is not installed.
    """
    if importlib.util.find_spec("lime") is None:
        raise ProviderError(f"Explaining needs the package lime, which is not installed; fix: {FIX}")


def kernel(distances: Floats) -> Floats:
    """The exponential kernel of the `lime` package."""
    return np.asarray(np.sqrt(np.exp(-(distances**2) / KERNEL_WIDTH**2)))


def distances(masks: npt.NDArray[np.bool_]) -> Floats:
    """Cosine distance of each row from the whole image, N: 1 - sqrt(share of superpixels shown)."""
    return np.asarray(1 - np.sqrt(masks.mean(axis=1)))


def fit(masks: npt.NDArray[np.bool_], p: Floats) -> Fit:
    """Ridge regression of the probabilities on the shown superpixels, weighted by the kernel, by `lime_base`.

    Args:
        masks: whether each superpixel is shown, bool N x S; the first row is the whole image.
        p: probability of the label, N.
    """
    base = package("lime_base").LimeBase(kernel, random_state=0)
    _, pairs, r2, _ = base.explain_instance_with_data(masks.astype(np.float64), p[:, np.newaxis], distances(masks), 0, masks.shape[1], "none")
    weights = np.zeros(masks.shape[1])
    for index, weight in pairs:
        weights[index] = weight
    return Fit(weights, float(r2) if np.isfinite(r2) else float("nan"))


def shrinkage(masks: npt.NDArray[np.bool_]) -> float:
    """Factor by which the penalty shrinks a weight if the columns are orthogonal: variance / (variance + penalty)."""
    weights = kernel(distances(masks))
    centred = masks - np.average(masks, axis=0, weights=weights)
    variance = float(np.mean((weights[:, np.newaxis] * centred**2).sum(axis=0)))
    return variance / (variance + RIDGE)


def jackknife(masks: npt.NDArray[np.bool_], p: Floats, blocks: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Weights S of all rows, and B x S with one block left out of each (Efron & Stein, Ann. Statist. 1981).

    The ridge of `fit` in closed form: a block is subtracted from the weighted sums of squares, while the package would
    read all rows again for every block.

    Args:
        masks: as for `fit`.
        p: as for `fit`.
        blocks: the block of each row, 0..B-1, N; -1 for the whole image, which is never left out.
    """
    rows = np.column_stack([np.ones(len(masks)), masks, p])
    weighted = rows * kernel(distances(masks))[:, np.newaxis]
    sums = np.stack([weighted[blocks == block].T @ rows[blocks == block] for block in range(-1, blocks.max() + 1)])
    whole = sums.sum(axis=0)
    weights = _ridge(np.concatenate([whole[np.newaxis], whole - sums[1:]]))
    return weights[0], weights[1:]


def _ridge(sums: Floats) -> Floats:
    """Weights of S columns from the weighted sums of squares of (1, columns, p), ... x (S + 2) x (S + 2)."""
    around_mean = sums[..., 1:, 1:] - sums[..., 1:, :1] * sums[..., :1, 1:] / sums[..., :1, :1]
    count = around_mean.shape[-1] - 1
    return np.asarray(np.linalg.solve(around_mean[..., :count, :count] + RIDGE * np.eye(count), around_mean[..., :count, count:])[..., 0])


def standard_error(replicates: Floats) -> Floats:
    """Jackknife standard error over the first axis."""
    count = len(replicates)
    return np.asarray(np.sqrt((count - 1) / count * ((replicates - replicates.mean(axis=0)) ** 2).sum(axis=0)))


def converged(weights: Floats, replicates: Floats, top: int, confidence: float) -> bool:
    """Whether signs and order of the `top` superpixels by absolute weight have converged.

    A sign has converged when the confidence interval of the weight excludes 0, or is within `TIE` of 0; the order of two
    neighbours when the same is true of the difference of their absolute weights.

    Args:
        weights: S.
        replicates: jackknife replicates of the weights, B x S.
        top: number of superpixels.
        confidence: confidence level of the one-sided intervals, 0..1.
    """
    from scipy.stats import t

    reach = float(t.ppf(confidence, len(replicates) - 1))
    order = np.argsort(-np.abs(weights), kind="stable")
    signs = np.where(weights < 0, -1.0, 1.0)
    sizes, sizes_of = weights * signs, replicates * signs
    first = order[: min(top, len(order))]
    following = order[1 : len(first) + 1]
    differences = np.concatenate([sizes[first], sizes[first[: len(following)]] - sizes[following]])
    doubts = reach * standard_error(np.concatenate([sizes_of[:, first], sizes_of[:, first[: len(following)]] - sizes_of[:, following]], axis=1))
    tie = TIE * max(float(sizes[order[0]]), 1e-12)
    return bool(np.all((differences > doubts) | (differences + doubts < tie)))
