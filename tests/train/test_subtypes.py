"""The head of subtypes: its mixture beside one written out by hand, its calibration, and what it refuses."""

from __future__ import annotations

import click
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train import networks, subtypes
from train.data.images import Images

MALIGNANT = {"breakhis/A": False, "breakhis/DC": True, "breakhis/F": False, "breakhis/LC": True, "idc/benign": False, "idc/malignant": True}


def head(seed: int, scales: list[float], biases: list[float]) -> subtypes.SubtypeHead:
    torch.manual_seed(seed)
    layer = subtypes.SubtypeHead(5, MALIGNANT).eval()
    torch.nn.init.normal_(layer.linear.weight)
    for source, scale, bias in zip(("breakhis", "idc"), scales, biases, strict=True):
        layer.calibrate(source, scale, bias)
    return layer


@given(st.integers(0, 1000), st.lists(st.floats(0.1, 3), min_size=2, max_size=2), st.lists(st.floats(-2, 2), min_size=2, max_size=2))
def test_malignant_is_the_mixture_of_the_collections_calibrated_classifiers(seed: int, scales: list[float], biases: list[float]) -> None:
    layer = head(seed, scales, biases)
    features = torch.randn(3, 5)
    with torch.inference_mode():
        logits, p_subtype = layer(features), layer.subtypes(features).softmax(dim=1).double().numpy()
        p = torch.sigmoid(logits[:, 1] - logits[:, 0]).numpy()
    expected = np.zeros(3)
    for source, scale, bias in zip(("breakhis", "idc"), scales, biases, strict=True):
        benign, malignant = (
            sum(p_subtype[:, at] for at, (name, side) in enumerate(MALIGNANT.items()) if name.startswith(source) and side == wanted)
            for wanted in (False, True)
        )
        calibrated = 1 / (1 + np.exp(-(scale * np.log(malignant / benign) + bias)))
        expected += (benign + malignant) * calibrated
    np.testing.assert_allclose(p, expected, atol=1e-5)


def test_a_new_head_is_undecided_whatever_it_sees() -> None:
    logits = subtypes.SubtypeHead(5, {"idc/benign": False, "idc/malignant": True})(torch.randn(4, 5))
    assert torch.equal(logits[:, 0], logits[:, 1])


def images(sources: list[str], malignant: list[bool], kinds: list[str] | None) -> Images:
    names = np.array([str(index) for index in range(len(sources))])
    pixels = np.zeros((len(sources), 4, 4, 3), np.uint8)
    return Images(pixels, np.array(malignant), np.array(sources), names, names, names, None if kinds is None else np.array(kinds))


def test_subtypes_are_named_by_collection_and_the_class_stands_in_for_a_missing_one() -> None:
    some = images(["breakhis", "breakhis", "idc", "idc"], [False, True, False, True], ["A", "DC", "", ""])
    assert subtypes.names(some).tolist() == ["breakhis/A", "breakhis/DC", "idc/benign", "idc/malignant"]
    assert subtypes.mapping(some) == {"breakhis/A": False, "breakhis/DC": True, "idc/benign": False, "idc/malignant": True}


def test_a_collection_of_one_class_is_refused() -> None:
    with pytest.raises(click.ClickException, match="lc25000 has training images of one class only"):
        subtypes.mapping(images(["idc", "idc", "lc25000"], [False, True, True], None))


def test_a_network_with_subtypes_keeps_two_logits() -> None:
    network = networks.build(name="tiny", subtypes=MALIGNANT).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 3, 32, 32)).shape == (2, 2)
    assert network.get_submodule("fc").linear.out_features == len(MALIGNANT)  # type: ignore[union-attr]
