"""A head that learns what a collection tells beyond benign and malignant: its subtypes.

One softmax runs over the subtypes of all collections, so the network must also tell the collections apart, and one
collection's idea of benign ("no invasive carcinoma in this patch") does not blur another's ("benign tumour").
On frozen ImageNet features of BreaKHis, subtypes instead of two classes raised AUROC from 0.906 to 0.917 (each patient the same).
"""

from __future__ import annotations

from collections.abc import Mapping

import click
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from train.data.images import Images


def names(images: Images) -> npt.NDArray[np.str_]:
    """The subtype of each image, N: `breakhis/DC`; `idc/benign` where the collection tells no more than the class."""
    classes = np.where(images.malignant, "malignant", "benign")
    subtypes = classes if images.subtypes is None else np.where(images.subtypes == "", classes, images.subtypes)
    return np.array([f"{source}/{subtype}" for source, subtype in zip(images.sources, subtypes, strict=True)])


def mapping(images: Images) -> dict[str, bool]:
    """Subtype to whether it is malignant, sorted; what `SubtypeHead` is built from and a checkpoint keeps.

    Raises:
        click.ClickException: a collection has one class only.
    """
    for source in np.unique(images.sources):
        if len(np.unique(images.malignant[images.sources == source])) < 2:
            raise click.ClickException(f"--labels subtype: {source} has training images of one class only; leave it out or add the other class.")
    return {str(name): bool(malignant) for name, malignant in sorted(set(zip(names(images), images.malignant, strict=True)))}


class SubtypeHead(nn.Module):
    """Features N x D to logits N x 2: a mixture of one classifier a collection, weighed by how much the picture is like it.

    Within a collection malignant is the sum of its malignant subtypes, and the difference to benign is calibrated by that
    collection's scale and bias (Platt 1999): what one collection is too sure of, another is not.

    Args:
        width: D.
        malignant: `source/subtype` to whether it is malignant, in the order of `linear`'s outputs; every source has both.
        feature_rms: of the features; they are divided by it.
        dropout: share of features that is dropped in training.
    """

    def __init__(self, width: int, malignant: Mapping[str, bool], feature_rms: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.in_features, self.feature_rms = width, feature_rms
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, len(malignant))
        nn.init.zeros_(self.linear.weight)  # starts undecided, so that the first steps do not disturb pretrained features
        nn.init.zeros_(self.linear.bias)
        self.sources = sorted({name.partition("/")[0] for name in malignant})
        own = [[name.startswith(f"{source}/") and malignant[name] == side for name in malignant] for source in self.sources for side in (False, True)]
        self.outside: Tensor  # of which collection and class a subtype is: 0 in its own, else a logit that adds nothing
        self.register_buffer("outside", torch.where(torch.tensor(own), 0.0, -1e9), persistent=False)
        self.scale: Tensor
        self.bias: Tensor
        self.register_buffer("scale", torch.ones(len(self.sources)))
        self.register_buffer("bias", torch.zeros(len(self.sources)))

    def subtypes(self, features: Tensor) -> Tensor:
        """Logits of the subtypes, N x S."""
        logits: Tensor = self.linear(self.dropout(features) / self.feature_rms)
        return logits

    def calibrate(self, source: str, scale: float, bias: float) -> None:
        """Sets what the difference of malignant and benign is multiplied by and raised by within a collection."""
        at = self.sources.index(source)
        self.scale[at], self.bias[at] = scale, bias

    def forward(self, features: Tensor) -> Tensor:
        logits = self.subtypes(features).float()
        sides = (logits.unsqueeze(1) + self.outside).logsumexp(dim=2).view(-1, len(self.sources), 2)
        totals = sides.logsumexp(dim=2).log_softmax(dim=1)
        differences = (sides[:, :, 1] - sides[:, :, 0]) * self.scale + self.bias
        return torch.stack([(totals - softplus(sign * differences)).logsumexp(dim=1) for sign in (1, -1)], dim=1)
