"""Is a picture like those that the model was trained on? Measured where the network has most to say: on its embedding.

The squared Mahalanobis distance to the nearest class mean, with one shrunk covariance for all classes (Lee et al., NeurIPS 2018,
"A simple unified framework for detecting out-of-distribution samples"; Ledoit & Wolf 2004 for the shrinkage), in the space of
the leading principal components and of what they leave over. What the training pictures measure is in the bundle.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bcd_edge.errors import BundleError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Novelty:
    """Statistics of the training pictures' embeddings.

    Attributes:
        mean: float32 D, subtracted first.
        projection: float32 D x K, to the leading components, whitened.
        centres: float32 C x K, the whitened means of the classes.
        residual: what the components leave over is divided by it, so that it counts like one more of them.
        threshold: the distance that most pictures of unseen patients stay below.
    """

    mean: Floats
    projection: Floats
    centres: Floats
    residual: float
    threshold: float

    @classmethod
    def read(cls, content: bytes, threshold: float) -> Novelty:
        """From what `write` gave; nothing in it is run.

        Raises:
            BundleError: it is something else.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return cls(arrays["mean"], arrays["projection"], arrays["centres"], float(arrays["residual"]), threshold)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise BundleError(f"The bundle's novelty statistics cannot be read ({error}); export the bundle again.") from None

    def write(self) -> bytes:
        """An .npz file, float32."""
        stream = io.BytesIO()
        np.savez(stream, mean=self.mean, projection=self.projection, centres=self.centres, residual=np.float32(self.residual))
        return stream.getvalue()

    def distances(self, embeddings_nd: Floats) -> npt.NDArray[np.float64]:
        """Distance of each embedding beside the threshold, float64 N: above 1 the picture is unlike the training pictures.

        Args:
            embeddings_nd: float32 N x D, as the graph gives them.
        """
        centred = embeddings_nd - self.mean
        components = centred @ self.projection
        squared = ((components[:, None, :] - self.centres[None]) ** 2).sum(axis=2).min(axis=1).astype(np.float64)
        lengths = (centred.astype(np.float64) ** 2).sum(axis=1)
        explained = (components.astype(np.float64) ** 2 * self._variances()).sum(axis=1)
        distances: npt.NDArray[np.float64] = np.sqrt(squared + np.maximum(lengths - explained, 0) / self.residual) / self.threshold
        return distances

    def _variances(self) -> npt.NDArray[np.float64]:
        """Of the components: the columns of `projection` are unit vectors over their standard deviations."""
        variances: npt.NDArray[np.float64] = 1 / (self.projection.astype(np.float64) ** 2).sum(axis=0)
        return variances
