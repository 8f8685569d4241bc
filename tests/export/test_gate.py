"""The gate on probabilities made by hand, and on graphs of one multiplication."""

from __future__ import annotations

import json
from itertools import pairwise

import click
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sklearn.metrics import brier_score_loss, f1_score, recall_score, roc_auc_score

from bcd_edge import interleaved
from bcd_edge.backends import Availability
from bcd_edge.backends.fake import FakeBackend, darkness
from bcd_edge.backends.providers import cpu
from bcd_edge.decision import DecisionRule
from bcd_edge.errors import BundleError, UsageError
from bcd_edge.estimates import resample_groups
from export import gate
from train.data.images import Images
from train.evaluation import metrics

RULE = DecisionRule(threshold=0.5, review_low=0.4, review_high=0.6, chosen="by hand")


def images(malignant: np.ndarray, groups: list[str]) -> Images:
    """`groups` such as `breakhis/7`; what stands before the slash is the collection."""
    sources, names = np.array([group.partition("/")[0] for group in groups]), np.array(groups)
    sha256 = np.array([f"{index:064x}" for index in range(len(groups))])
    return Images(np.zeros((len(groups), 2, 2, 3), np.uint8), np.asarray(malignant, bool), sources, names, sources, sha256)


def collection(source: str, patients: int, each: int, seed: int) -> tuple[Images, np.ndarray]:
    """Half of the patients malignant; probabilities that tell them apart with some errors."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), each)
    malignant = patient % 2 == 1
    p = np.clip(0.5 + 0.5 * (malignant - 0.5) + random.normal(0, 0.15, patients)[patient] + random.normal(0, 0.1, len(patient)), 0, 1)
    return images(malignant, [f"{source}/{number}" for number in patient]), p


def joined(*parts: tuple[Images, np.ndarray]) -> tuple[Images, np.ndarray]:
    tests = [test for test, _ in parts]
    fields = (np.concatenate([getattr(test, name) for test in tests]) for name in Images.__slots__ if getattr(tests[0], name) is not None)
    return Images(*fields), np.concatenate([p for _, p in parts])


@pytest.fixture(scope="module")
def held_out() -> tuple[Images, np.ndarray]:
    return joined(collection("breakhis", 12, 8, 0), collection("idc", 40, 5, 1))


@settings(max_examples=15, deadline=None)
@given(st.integers(4, 9), st.integers(1, 4), st.integers(0, 10**6), st.integers(0, 20))
def test_the_same_probabilities_are_never_refused(patients: int, each: int, seed: int, steps: int) -> None:
    test, p = joined(collection("breakhis", patients, each, seed), collection("idc", 4, 2, seed + 1))
    p = np.round(p * steps) / steps if steps else p  # ties, and values at the threshold
    judged = gate.judge("int8", p, p.copy(), test, RULE, dict.fromkeys(gate.BOUNDS, 0.0), max_delta_p=0)
    assert judged["refused"] == []
    assert judged["flips"] == []
    assert judged["max_delta_p"] == judged["mean_delta_p"] == 0
    for differences in (judged["difference"], *judged["by_source"].values()):
        assert list(differences) == list(gate.METRICS)
        assert all(end == 0 for difference in differences.values() for end in difference.values())
    assert judged["weights"] == {"breakhis": patients, "idc": 4}
    json.dumps(judged, allow_nan=False)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_scrambled_probabilities_are_refused(seed: int) -> None:
    test, p = joined(collection("breakhis", 12, 8, 0), collection("idc", 40, 5, 1))
    judged = gate.judge("int8", np.random.default_rng(seed).permutation(p), p, test, RULE, gate.BOUNDS)
    refused = " ".join(judged["refused"])
    for metric in ("AUROC", "sensitivity", "specificity", "accuracy", "F1"):
        assert f"{metric} (interval's bad end" in refused
    assert "raised the Brier score by" in refused
    json.dumps(judged, allow_nan=False)


def test_the_value_is_scikit_learns_weighted_by_patients(held_out: tuple[Images, np.ndarray]) -> None:
    test, before = held_out
    after = np.clip(before + np.random.default_rng(2).normal(0, 0.1, len(before)), 0, 1)
    judged = gate.judge("int8", after, before, test, RULE, gate.BOUNDS)
    computed = {
        "auroc": roc_auc_score,
        "brier": brier_score_loss,
        "sensitivity": lambda y, p: recall_score(y, p >= 0.5),
        "specificity": lambda y, p: recall_score(y, p >= 0.5, pos_label=False),
        "f1": lambda y, p: f1_score(y, p >= 0.5),
        "accuracy": lambda y, p: float((y == (p >= 0.5)).mean()),
    }
    for metric, compute in computed.items():
        by_hand = {}
        for source in ("breakhis", "idc"):
            own = test.sources == source
            by_hand[source] = compute(test.malignant[own], after[own]) - compute(test.malignant[own], before[own])
            assert judged["by_source"][source][metric]["value"] == pytest.approx(by_hand[source], abs=1e-12)
        difference = judged["difference"][metric]
        assert difference["value"] == pytest.approx((12 * by_hand["breakhis"] + 40 * by_hand["idc"]) / 52, abs=1e-12)
        assert difference["low"] <= difference["value"] <= difference["high"]
    assert (judged["images"], judged["patients"], judged["weights"]) == (296, 52, {"breakhis": 12, "idc": 40})


def test_a_handful_of_patients_does_not_decide_alone() -> None:
    """One image of five patients is now missed: a lot for the small collection, little for all."""
    small, p_small = images(np.array([0, 0, 1, 1, 1]), [f"few/{index}" for index in range(5)]), np.array([0.1, 0.1, 0.9, 0.9, 0.9])
    large, p_large = collection("many", 800, 1, 3)
    test, p = joined((small, p_small), (large, p_large))
    worse = p.copy()
    worse[4] = 0.45
    judged = gate.judge("int8", worse, p, test, RULE, gate.BOUNDS)
    assert judged["by_source"]["few"]["sensitivity"]["value"] == pytest.approx(-1 / 3)
    assert judged["difference"]["sensitivity"]["value"] == pytest.approx(-1 / 3 * 5 / 805)
    assert judged["refused"] == []


def test_the_same_draw_serves_both_so_the_interval_is_narrower(held_out: tuple[Images, np.ndarray]) -> None:
    test, before = held_out
    after = np.clip(before + np.random.default_rng(2).normal(0, 0.02, len(before)), 0, 1)
    own = test.sources == "idc"
    malignant, groups = test.malignant[own], test.groups[own]
    paired = gate.judge("int8", after, before, test, RULE, gate.BOUNDS)["by_source"]["idc"]["auroc"]
    apart = [
        metrics.measure_resamples(malignant, p[own], 0.5, resample_groups(malignant, groups, seed)) for seed, p in enumerate((after, before), 10)
    ]
    low, high = np.percentile([first["auroc"] - second["auroc"] for first, second in zip(*apart, strict=True)], [2.5, 97.5])
    assert paired["high"] - paired["low"] < (high - low) / 3


def test_collections_do_not_draw_the_same_patients() -> None:
    """A loss in one collection and the same gain in its twin: with one draw for both, the interval would be zero wide."""
    first, p = collection("a", 12, 6, 0)
    second = images(first.malignant, [group.replace("a/", "b/") for group in first.groups])
    test, _ = joined((first, p), (second, p))
    shifted = np.clip(p + np.random.default_rng(5).normal(0, 0.1, len(p)), 0, 1)
    judged = gate.judge("int8", np.concatenate([shifted, p]), np.concatenate([p, shifted]), test, RULE, gate.BOUNDS)
    assert judged["difference"]["brier"]["value"] == pytest.approx(0, abs=1e-12)
    assert judged["difference"]["brier"]["high"] - judged["difference"]["brier"]["low"] > 1e-3


def test_few_patients_cannot_show_that_nothing_was_lost() -> None:
    """A tenth of the images of one patient of eight is missed: on average little, but nobody knows about other patients."""
    patients = np.repeat(np.arange(8), 10)
    test, p = images(patients % 2 == 1, [f"breakhis/{index}" for index in patients]), np.where(patients % 2 == 1, 0.9, 0.1)
    worse = p.copy()
    worse[10] = 0.3
    judged = gate.judge("int8", worse, p, test, RULE, gate.BOUNDS | {"sensitivity": 0.03})
    assert judged["difference"]["sensitivity"]["value"] == pytest.approx(-1 / 40)  # within the bound
    assert all("8 test patients are too few to tell" in sentence for sentence in judged["refused"] if "sensitivity" in sentence)
    assert [sentence.partition(":")[0] for sentence in judged["refused"] if "sensitivity" in sentence] == [
        f"int8 may have lost {-judged['difference']['sensitivity']['low']:.4f} sensitivity (interval's bad end; point -0.0250); "
        "at most 0.03 is allowed"
    ]


def test_what_the_sentence_says_to_type_lets_it_pass(held_out: tuple[Images, np.ndarray]) -> None:
    test, before = held_out
    after = np.clip(before + np.random.default_rng(2).normal(0, 0.2, len(before)), 0, 1)
    refused = gate.judge("int8", after, before, test, RULE, gate.BOUNDS)["refused"]
    assert len(refused) > 3
    bounds = [sentence.partition("--max-drop ")[2].partition(" ")[0] for sentence in refused if "--max-drop" in sentence]
    assert bounds
    left = gate.judge("int8", after, before, test, RULE, gate.parse_bounds(bounds))["refused"]
    assert left == [sentence for sentence in refused if "52 test patients are too few to tell" in sentence]


@pytest.mark.parametrize("broken", [np.nan, np.inf, -0.1, 1.5])
@pytest.mark.parametrize("side", [0, 1])
def test_what_is_no_probability_never_passes(held_out: tuple[Images, np.ndarray], broken: float, side: int) -> None:
    test, p = held_out
    both = [p.copy(), p.copy()]
    both[side][3] = broken
    judged = gate.judge("int8", *both, test, RULE, dict.fromkeys(gate.BOUNDS, 1.0))
    (sentence,) = judged["refused"]
    assert "other than a probability for 1 of 296 test images" in sentence
    assert ("reference" in sentence) == bool(side)
    assert judged["max_delta_p"] is None
    json.dumps(judged, allow_nan=False)


def test_an_interval_that_is_no_number_never_passes() -> None:
    fine = {"value": 0.0, "low": 0.0, "high": 0.0}
    for end in fine:
        for metric in gate.BOUNDS:
            (sentence,) = gate._refusals("int8", dict.fromkeys(gate.BOUNDS, fine) | {metric: fine | {end: np.nan}}, gate.BOUNDS, 5)
            assert "nan" in sentence
    assert gate._refusals("int8", dict.fromkeys(gate.BOUNDS, fine), gate.BOUNDS, 5) == []


def test_a_value_worse_than_its_interval_counts() -> None:
    assert gate.lost("auroc", {"value": -0.3, "low": -0.2, "high": 0.1}) == 0.3
    assert gate.lost("brier", {"value": 0.0, "low": -0.2, "high": 0.1}) == 0.1


@pytest.mark.parametrize(
    ("malignant", "groups"),
    [([1] * 6, "abcdef"), ([0, 0, 0, 1, 1, 1], "abcddd"), ([], "")],
    ids=["one class", "one malignant patient", "nothing"],
)
def test_what_cannot_be_judged_does_not_pass(malignant: list[int], groups: str) -> None:
    test, p = images(np.array(malignant), [f"breakhis/{group}" for group in groups]), np.linspace(0, 1, len(groups))
    judged = gate.judge("int8", p, p, test, RULE, gate.BOUNDS)
    (sentence,) = judged["refused"]
    assert "int8 cannot be judged" in sentence
    assert judged["unjudged"] == (["breakhis"] if groups else [])
    json.dumps(judged, allow_nan=False)


def test_a_collection_that_cannot_be_judged_is_named_beside_one_that_can(held_out: tuple[Images, np.ndarray]) -> None:
    test, p = joined(held_out, (images(np.ones(3), ["lc25000/a"] * 3), np.full(3, 0.9)))
    judged = gate.judge("int8", p, p, test, RULE, gate.BOUNDS)
    assert judged["refused"] == []
    assert judged["unjudged"] == ["lc25000"]
    assert list(judged["by_source"]) == ["breakhis", "idc"]


def test_float32_may_differ_by_a_ten_thousandth(held_out: tuple[Images, np.ndarray]) -> None:
    test, p = held_out
    far = p.copy()
    far[0] = 0.9 * p[0] + 0.01
    judged = gate.judge("fp32", far, p, test, RULE, dict.fromkeys(gate.BOUNDS, 1.0), max_delta_p=1e-4)
    (sentence,) = judged["refused"]
    assert sentence.startswith(f"fp32 differs by {abs(far[0] - p[0]):.2g} in p_malignant; at most 0.0001 is allowed: ")
    assert judged["max_delta_p"] == abs(far[0] - p[0])
    assert judged["mean_delta_p"] == pytest.approx(abs(far[0] - p[0]) / len(p))
    assert gate.judge("int8", far, p, test, RULE, dict.fromkeys(gate.BOUNDS, 1.0))["refused"] == []


def test_flips_put_the_dangerous_ones_first() -> None:
    rows = [  # malignant, reference, variant
        (False, 0.10, 0.95),  # benign to malignant
        (True, 0.90, 0.55),  # malignant to review
        (True, 0.55, 0.45),  # review both times, another label
        (True, 0.45, 0.39),  # review to benign: dangerous
        (True, 0.90, 0.10),  # malignant to benign: more dangerous
        (True, 0.70, 0.95),  # larger change, same decision
        (True, 0.30, 0.70),  # benign to malignant, and right
        (False, 0.40, 0.399),  # at the band's end
        (False, 0.60, 0.60),  # at the other, and the same
    ]
    malignant, before, after = (np.array(column) for column in zip(*rows, strict=True))
    test = images(malignant, [f"breakhis/14-{index}" for index in range(len(rows))])
    flips = gate.judge("int8", after, before, test, RULE, gate.BOUNDS)["flips"]
    assert [flip["patient"] for flip in flips] == ["14-4", "14-3", "14-1", "14-2", "14-0", "14-6", "14-7"]
    assert flips[0] == {
        "source": "breakhis",
        "patient": "14-4",
        "sha256": f"{4:064x}",
        "malignant": True,
        "reference": "malignant",
        "variant": "benign",
        "label_reference": "malignant",
        "label": "benign",
        "p_reference": 0.9,
        "p": 0.1,
    }
    assert [(flips[3][key]) for key in ("reference", "variant", "label_reference", "label")] == ["review", "review", "malignant", "benign"]
    assert (flips[6]["reference"], flips[6]["variant"]) == ("review", "benign")


def test_bounds_from_the_command_line() -> None:
    assert gate.parse_bounds([]) == gate.BOUNDS
    assert gate.parse_bounds(["auroc=0.01", "brier=0", "auroc=0.02"]) == gate.BOUNDS | {"auroc": 0.02, "brier": 0}


@pytest.mark.parametrize("value", ["auroc=much", "auroc=nan", "auroc=-0.1", "auroc=inf", "auroc=5", "auroc", "auroc=", "mcc=0.1", "=0.1", ""])
def test_bounds_that_are_none_are_refused_with_a_sentence(value: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        gate.parse_bounds([value])
    assert str(refused.value).startswith(f"{value}: ")
    assert "choose one of" in str(refused.value) or "write for example auroc=0.005" in str(refused.value)


def graph(factor: float) -> bytes:
    """logits = [mean, -mean] of the pixels, times a factor; any number of images of any size."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        helper.make_node("Mul", ["column", "factors"], ["logits"]),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
        helper.make_tensor("factors", TensorProto.FLOAT, [1, 2], [factor, -factor]),
    ]
    pixels = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", None, None, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])
    content = helper.make_graph(nodes, "small", [pixels], [logits], constants)
    model = helper.make_model(content, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def closings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    closed: list[object] = []
    close = cpu.CpuBackend.close
    monkeypatch.setattr(cpu.CpuBackend, "close", lambda self: (closed.append(self), close(self))[1])
    return closed


def test_answers_are_in_order_whatever_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    test, closed = images(np.zeros(70), ["breakhis/a"] * 70), closings(monkeypatch)
    test.pixels_nhwc_u8[:] = np.arange(70)[:, None, None, None]
    logits = gate.answers(graph(0.5), test)
    assert logits.dtype == np.float32
    assert np.array_equal(logits, np.arange(70)[:, None] * [[0.5, -0.5]])
    assert len(closed) == 1


def test_answers_that_are_no_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    test, closed = images(np.zeros(40), ["breakhis/a"] * 40), closings(monkeypatch)
    test.pixels_nhwc_u8[3:5] = 255
    with pytest.raises(BundleError, match="other than numbers for 2 of 40 test images on cpu"):
        gate.answers(graph(3e38), test)
    assert len(closed) == 1
    with pytest.raises(UsageError, match="choose one of"):
        gate.answers(graph(1.0), test, "abacus")


def test_latencies_take_turns_and_leave_the_warm_up_out(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    engines = {name: FakeBackend(lambda batch, name=name: order.append(name) or darkness(batch)) for name in "AB"}
    monkeypatch.setattr(cpu, "open", lambda model, options: engines[model.decode()])
    latencies = gate.latencies({("fp32", "cpu"): (b"A", 24), ("int8", "cpu"): (b"B", 24)}, seconds=0)
    turns = "A" * interleaved.WARM_UP + "B" * interleaved.WARM_UP + "AABB" * interleaved.ROUNDS  # in each turn one run is not counted
    assert order == [*turns]
    assert all(engine.is_closed and set(engine.shapes) == {(1, 24, 24, 3)} for engine in engines.values())
    assert {key: latency["runs"] for key, latency in latencies.items()} == {("fp32", "cpu"): interleaved.ROUNDS, ("int8", "cpu"): interleaved.ROUNDS}


def test_latency_of_a_graph_and_of_a_provider_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    (latency,) = gate.latencies({("fp32", "cpu"): (graph(1.0), 16)}, seconds=0.05).values()
    assert set(latency) == {"p50_ms", "p90_ms", "runs"}
    assert all(smaller <= larger for smaller, larger in pairwise([0, latency["p50_ms"], latency["p90_ms"]]))
    assert latency["runs"] >= interleaved.ROUNDS
    monkeypatch.setattr(cpu, "is_available", lambda: Availability(False, "none here", "buy one"))
    assert gate.latencies({("int8", "cpu"): (graph(1.0), 16)}) == {}
