"""Baselines that can be beaten, and that find what is there to find."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from train import networks
from train.data.images import Images
from train.evaluation import baselines


def coloured(shift: float, seed: int) -> Images:
    """Sixty noisy pictures of twenty patients, malignant ones redder by `shift`."""
    random = np.random.default_rng(seed)
    malignant = np.arange(60) // 3 % 2 == 1
    pixels = random.normal(120, 10, (60, 32, 32, 3)) + random.normal(0, 8, (60, 1, 1, 3))
    pixels[..., 0] += shift * malignant[:, None, None]
    names = np.array([f"idc/{index // 3}" for index in range(60)])
    source = np.array(["idc"] * 60)
    return Images(pixels.clip(0, 255).astype(np.uint8), malignant, source, names, source, names)


def test_colour_is_found_where_it_is_and_only_there() -> None:
    auroc = baselines.colour(coloured(40, 0), coloured(40, 1))["idc"]["auroc"]
    assert auroc["value"] > 0.95
    assert auroc["low"] <= auroc["value"] <= auroc["high"]
    nothing = baselines.colour(coloured(0, 0), coloured(0, 1))["idc"]["auroc"]
    assert nothing["low"] < 0.6 < nothing["high"] + 0.4
    assert nothing["value"] < 0.8


def test_colour_features_by_hand() -> None:
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    pixels[0, 0, :, 1] = 10
    text = np.array(["x"])
    features = baselines.colour_features(Images(pixels, np.array([True]), text, text, text, text))
    assert features.tolist() == [[0, 5, 0, 0, 5, 0]]


def test_a_source_that_cannot_be_fitted_has_no_answer() -> None:
    some = coloured(40, 0)
    benign = some.select(~some.malignant)
    p = baselines.linear(baselines.colour_features(benign), benign, baselines.colour_features(some), some)
    assert np.isnan(p).all()
    assert baselines.colour(benign, some) == {}


def test_frozen_features_are_what_the_head_is_given() -> None:
    torch.manual_seed(0)
    model = networks.build(name="tiny")
    some = coloured(40, 0)
    features = baselines.frozen_features(model, "tiny", some, torch.device("cpu"))
    assert features.shape == (60, 64)
    with torch.inference_mode():
        logits = model.eval()(torch.from_numpy(some.pixels_nhwc_u8[:4]).permute(0, 3, 1, 2) / 255)
        ours = model.fc(torch.from_numpy(features[:4]).float())
    assert ours.numpy() == pytest.approx(logits.numpy(), abs=0.05)  # bfloat16 where the machine has it
