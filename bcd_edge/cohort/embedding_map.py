"""Embeddings in few dimensions: principal components, and UMAP where it is installed."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
SEED: Final = 23


def components(embeddings: npt.NDArray[Any], count: int) -> Points:
    """Scores on the first principal components, N x count; 0 for components that there are not. Of each, the largest loading is positive."""
    centred = np.asarray(embeddings, np.float64) - np.mean(embeddings, axis=0, dtype=np.float64)
    left, sizes, loadings = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(loadings[np.arange(len(loadings)), np.abs(loadings).argmax(axis=1)])
    scores = (left * sizes * signs)[:, :count]
    return np.pad(scores, ((0, 0), (0, count - scores.shape[1])))


def umap(embeddings: npt.NDArray[Any]) -> Points:
    """Places on a map that keeps neighbours together, N x 2 (McInnes et al. 2018); distances between groups mean nothing there."""
    from umap import UMAP

    # a seed needs one thread
    reducer = UMAP(n_neighbors=min(15, len(embeddings) - 1), min_dist=0.1, metric="cosine", random_state=SEED, n_jobs=1)
    return np.asarray(reducer.fit_transform(np.asarray(embeddings, np.float32)), np.float64)


def maps(embeddings: npt.NDArray[Any] | None, *, by_umap: bool) -> dict[str, Points]:
    """Places by the name of the method, N x 2 each; none without embeddings."""
    if embeddings is None:
        return {}
    return {"pca": components(embeddings, 2)} | ({"umap": umap(embeddings)} if by_umap else {})
