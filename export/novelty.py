"""What the training pictures' embeddings are like, for the runtime to tell pictures that are unlike them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.covariance import ledoit_wolf

from bcd_edge.triage.novelty import Novelty
from export import gate
from export.variants import Part, Variant, providers
from train.data.images import Images, drawn

FILE = "novelty.npz"
IMAGES = 3000  # of training; more change no digit that matters
COMPONENTS = 256
FOLDS = 5
BELOW = 0.98  # of pictures of patients that the statistics do not know

Floats = npt.NDArray[np.float32]


def measure(variant: Variant, part: Part, seed: int) -> tuple[bytes, dict[str, Any]]:
    """The statistics file, and its entry in the manifest.

    The embeddings are those of the variant itself, so that what INT8 moves is in the statistics.

    Args:
        variant: the bundle's first, which gives an embedding.
        part: its images.
        seed: of the images and of the folds of patients.
    """
    images = drawn(part.images["train"], IMAGES, seed)
    embeddings = gate.answers(variant.files[0].read_bytes(), images, providers(variant.kind)[0])[:, 2:]
    limit = threshold(embeddings, images, seed)
    content = fit(embeddings, images, limit).write()
    return content, {
        "file": FILE,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "threshold": limit,
        "chosen": f"{BELOW:.0%} of {len(images)} training pictures lie below it when the statistics leave out their patient",
    }


def threshold(embeddings: Floats, images: Images, seed: int) -> float:
    """The distance that `BELOW` of the pictures stay below, with statistics that know neither them nor their patient."""
    patients, person = np.unique(images.groups, return_inverse=True)
    fold = (np.random.default_rng(seed).permutation(len(patients)) % FOLDS)[person]
    distances = [fit(embeddings[fold != at], images.select(fold != at), 1.0).distances(embeddings[fold == at]) for at in range(FOLDS)]
    return float(np.quantile(np.concatenate(distances), BELOW))


def fit(embeddings: Floats, images: Images, limit: float) -> Novelty:
    """Means of the classes of each collection, and the one shrunk covariance around them.

    What the leading components leave over counts as much as they do: pictures without tissue differ where training pictures
    hardly vary.
    """
    mean = embeddings.mean(axis=0)
    centred = (embeddings - mean).astype(np.float64)
    classes = np.char.add(images.sources, np.where(images.malignant, "/malignant", "/benign"))
    names, own = np.unique(classes, return_inverse=True)
    means = np.stack([centred[own == at].mean(axis=0) for at in range(len(names))])
    within = centred - means[own]
    variances, vectors = np.linalg.eigh(ledoit_wolf(within)[0])
    variances, vectors = variances[::-1][:COMPONENTS], vectors[:, ::-1][:, :COMPONENTS]
    left = ((within**2).sum(axis=1) - ((within @ vectors) ** 2).sum(axis=1)).mean()
    projection = (vectors / np.sqrt(variances)).astype(np.float32)
    centres = (means @ projection).astype(np.float32)
    return Novelty(mean.astype(np.float32), projection, centres, float(max(left, 1e-12)) / len(variances), limit)
