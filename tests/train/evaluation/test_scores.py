"""Validation, strata and the file of predictions."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from bcd_edge.decision import DecisionRule
from train import networks
from train.data.images import Images
from train.evaluation import scores

RULE = DecisionRule(threshold=0.5, review_low=0.3, review_high=0.8, chosen="by hand")


def images(sources: list[str], groups: list[str], malignant: list[bool], strata: list[str] | None = None) -> Images:
    column = np.array
    pixels = np.random.default_rng(0).integers(0, 255, (len(sources), 32, 32, 3), np.uint8)
    names = column([f"{index:02d}" for index in range(len(sources))])
    return Images(pixels, column(malignant), column(sources), column(groups), column(strata or sources), names)


def test_validation_weighs_sources_by_their_patients() -> None:
    groups = [f"idc/{index // 2}" for index in range(8)] + ["breakhis/1", "breakhis/1"]
    some = images(["idc"] * 8 + ["breakhis"] * 2, groups, [False, True] * 5)
    right = np.stack([np.zeros(10), some.malignant], axis=1).astype(np.float32)
    right[8:, 1] = [1, 0]  # breakhis the wrong way round
    validation = scores.validate(some, right)
    assert validation["auroc_breakhis"] == 0
    assert validation["auroc_idc"] == 1
    assert validation["auroc"] == pytest.approx(4 / 5)


def test_validation_loss_and_accuracy_weigh_both_classes_alike() -> None:
    some = images(["idc"] * 4, ["idc/1", "idc/1", "idc/2", "idc/2"], [False, False, False, True])
    logits = np.array([[0, -1], [0, 2], [0, -3], [0, 0.5]], np.float32)
    p = 1 / (1 + np.exp(-(logits[:, 1] - logits[:, 0]).astype(float)))
    validation = scores.validate(some, logits)
    assert validation["validation_loss"] == pytest.approx(log_loss(some.malignant, p, sample_weight=[1, 1, 1, 3]), rel=1e-6)
    assert validation["accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert validation["auroc"] == pytest.approx(roc_auc_score(some.malignant, p))


def test_a_source_with_one_class_in_validation_is_left_out_of_the_mean() -> None:
    some = images(["a", "a", "b"], ["a/1", "a/2", "b/1"], [False, True, True])
    validation = scores.validate(some, np.array([[0, 0], [0, 1], [0, 1]], np.float32))
    assert validation["auroc"] == 1
    assert "auroc_b" not in validation


def test_logits_are_those_of_the_network_whatever_the_batch() -> None:
    torch.manual_seed(0)
    model = networks.build(name="tiny")
    some = images(["idc"] * 70, ["idc/1"] * 70, [False, True] * 35)
    logits = scores.logits(model, some, torch.device("cpu"))
    with torch.inference_mode():
        expected = model.eval()(torch.from_numpy(some.pixels_nhwc_u8[64:]).permute(0, 3, 1, 2) / 255).numpy()
    assert logits.shape == (70, 2)
    assert np.allclose(logits[64:], expected, atol=1e-4)


def test_strata_with_one_patient_of_a_class_are_left_out() -> None:
    groups = ["breakhis/1", "breakhis/2", "breakhis/3", "breakhis/4", "breakhis/5"]
    strata = ["breakhis/40X"] * 4 + ["breakhis/100X"]
    some = images(["breakhis"] * 5, groups, [False, False, True, True, True], strata)
    strata = scores.score_strata(some, np.array([0.1, 0.6, 0.2, 0.9, 0.7]), RULE)
    assert set(strata) == {"breakhis", "breakhis/40X"}
    assert strata["breakhis"]["review"] == 2
    assert strata["breakhis"]["malignant_called_benign"] == 1
    assert strata["breakhis"]["p_malignant"] == pytest.approx(0.5)
    assert strata["breakhis"]["per_class"]["malignant"] == {"tp": 2, "tn": 1, "fp": 1, "fn": 1}
    assert strata["breakhis"]["report"]["benign"]["support"] == 2
    assert strata["breakhis"]["patient_level"]["patients"] == 5
    assert "report" not in strata["breakhis/40X"]


def test_predictions_can_be_scored_elsewhere() -> None:
    some = images(["idc", "breakhis"], ["idc/9", "breakhis/22549"], [False, True])
    rows = list(csv.DictReader(scores.predictions(some, np.array([0.25, 1 / 3])).splitlines()))
    assert [row["patient"] for row in rows] == ["9", "22549"]
    assert [float(row["p_malignant"]) for row in rows] == [0.25, 0.333333]
    assert [row["malignant"] for row in rows] == ["0", "1"]
