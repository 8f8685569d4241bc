"""PyTorch network to ONNX: uint8 NHWC pixels in, float32 logits out, batch norm folded away."""

from __future__ import annotations

import copy
import itertools
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

OPSET = 20  # the newest that onnxruntime 1.20 of JetPack 6 loads; its limit for the file format is IR version 10
IR_VERSION = 10


class Pixels(nn.Module):
    """A network behind its scaling: uint8 N x H x W x 3 to float32 logits N x 2. No caller can get the scaling wrong."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image.permute(0, 3, 1, 2).float() / 255)
        return logits


def folded(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode in which every batch norm that follows a convolution is part of it.

    In each of `train.network.NETWORKS` a norm registered right after a convolution is also computed right after it;
    a test compares the outputs of all of them. DenseNet's other norms come before theirs and stay.
    """
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        children = list(module.named_children())
        for (name, child), (norm_name, norm) in itertools.pairwise(children):
            if isinstance(child, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(child, norm))
                setattr(module, norm_name, nn.Identity())
    return network


def write_fp32(network: nn.Module, size: int, path: Path) -> None:
    """Writes the float32 graph: `image` uint8 N x size x size x 3, any N, to `logits` float32 N x 2."""
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations are not the user's to mend
        program = torch.onnx.export(
            Pixels(folded(network)).eval(),
            (example,),
            input_names=["image"],
            output_names=["logits"],
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
