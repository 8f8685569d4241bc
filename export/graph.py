"""PyTorch network to ONNX: uint8 NHWC pixels in, float32 logits out, batch norm folded away."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import DenseNet

OPSET = 20  # the newest that onnxruntime 1.20 of JetPack 6 loads; its limit for the file format is IR version 10
IR_VERSION = 10


class Pixels(nn.Module):
    """A network behind its scaling: uint8 N x H x W x 3 to float32 logits N x 2. No caller can get the scaling wrong.

    Args:
        network: takes N x 3 x H x W in 0..1.
        half: float16 from the scaled pixels to the features or logits; scaling and head stay float32.
        head: name of the layer whose input is the embedding, float32 N x D, which is then a second output; none if empty.
    """

    def __init__(self, network: nn.Module, *, half: bool = False, head: str = "") -> None:
        super().__init__()
        self.head: nn.Module | None = None
        if head:
            self.head = network.get_submodule(head)
            setattr(network, head, nn.Identity())
        self.network = network.half() if half else network
        self.half_precision = half

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        scaled = image.permute(0, 3, 1, 2).float() / 255
        output: Tensor = self.network(scaled.half() if self.half_precision else scaled).float()
        return (self.head(output), output) if self.head else output


class Ensemble(nn.Module):
    """Several networks as one: logits whose sigmoid is the mean of the members' calibrated probabilities.

    Args:
        networks: each N x 3 x H x W in 0..1 to logits N x 2.
        temperatures: one a member; the ensemble's own is 1.
    """

    def __init__(self, networks: Sequence[nn.Module], temperatures: Sequence[float]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.temperatures = list(temperatures)

    def forward(self, image: Tensor) -> Tensor:
        members = [(network(image), temperature) for network, temperature in zip(self.networks, self.temperatures, strict=True)]
        p = torch.stack([torch.sigmoid((logits[:, 1] - logits[:, 0]) / temperature) for logits, temperature in members]).mean(dim=0)
        # log p of each class, so that its difference is the mean's logit; clamped, since 0 has no logarithm
        p = p.clamp(1e-6, 1 - 1e-6)
        return torch.stack([torch.log(1 - p), torch.log(p)], dim=1)


class Mean(nn.Module):
    """Global average pooling to N x C as a plain mean.

    torch.onnx.export writes AdaptiveAvgPool2d and flatten as ReduceMean, Reshape to one dimension, Gather and Reshape. With
    that chain OpenVINO 2026.4 answers wrongly on one INT8 ResNet-50 of ours (p off by up to 0.84, malignant turned benign,
    no error), and rightly with a Flatten in its place; why is not known, the chain alone is computed well.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class DensePooled(nn.Module):
    """A DenseNet whose pooling, a function and no module in torchvision, is `Mean`."""

    def __init__(self, network: DenseNet) -> None:
        super().__init__()
        self.features, self.pool, self.classifier = network.features, Mean(), network.classifier

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.pool(torch.relu(self.features(image))))
        return logits


def plain(network: nn.Module) -> nn.Module:
    """The network as the graph shall have it: batch norms folded, pooling a plain mean; members of an ensemble likewise."""
    if isinstance(network, Ensemble):
        return Ensemble([plain(member) for member in network.networks], network.temperatures).eval()
    network = folded(network)
    if isinstance(network, DenseNet):
        return DensePooled(network).eval()
    network.avgpool = Mean()
    return network


def folded(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode in which every batch norm that follows a convolution is part of it.

    In each network of `train.networks` a norm registered right after a convolution is also computed right after it;
    a test compares the outputs of all of them. DenseNet's other norms come before theirs and stay.
    """
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        for (name, child), (norm_name, norm) in itertools.pairwise(list(module.named_children())):
            if isinstance(child, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(child, norm))
                setattr(module, norm_name, nn.Identity())
    return network


def write(network: nn.Module, size: int, path: Path, *, half: bool = False, head: str = "") -> None:
    """Writes a float graph: `image` uint8 N x size x size x 3, any N, to `logits` float32 N x 2, and `embedding` if `head` names its layer."""
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations are not the user's to mend
        program = torch.onnx.export(
            Pixels(plain(network), half=half, head=head).eval(),
            (example,),
            input_names=["image"],
            output_names=["logits", "embedding"] if head else ["logits"],
            dynamic_shapes={"image": {0: torch.export.Dim("N", min=1, max=4096)}},
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    model = program.model_proto
    model.ir_version = min(model.ir_version, IR_VERSION)
    del model.metadata_props[:]
    for node in model.graph.node:  # source paths and stack traces of the machine that exported
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
