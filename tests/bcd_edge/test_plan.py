"""What is chosen when nothing, something or everything was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bcd_edge import backends, bundle, loading, plan, selftest, tune
from bcd_edge.backends import Availability
from bcd_edge.benchmark import sweep
from bcd_edge.benchmark.sweep import SweepSpec
from bcd_edge.bundle import Bundle
from bcd_edge.errors import BundleError, ProviderError, UsageError
from bcd_edge.options import Plan, RunOptions
from bcd_edge.plan import TuningResult
from bcd_edge.system import caches, machine


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bundle]:
    """The embedded bundle on a machine where only `cpu` runs and nothing was tuned."""
    monkeypatch.setenv("BCD_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(backends, "availability", lambda name, *variant: Availability(name == "cpu", f"{name} is broken", "reinstall"))
    yield bundle.open()


ROWS = [
    TuningResult(Plan("cpu", precision="int8"), 9.0, 110.0),
    TuningResult(Plan("cpu", precision="int8", batch=4, threads=1, streams=2), 40.0, 190.0),
    TuningResult(Plan("cpu", precision="int8", batch=1, threads=1, streams=2), 12.0, 160.0),
]


def test_without_a_tune_one_image_has_all_cores_and_many_have_one_each(opened: Bundle) -> None:
    assert plan.choose(opened, "latency", RunOptions()) == Plan("cpu")
    assert plan.choose(opened, "throughput", RunOptions()) == Plan("cpu", batch=plan.CPU_BATCH, streams=machine.cores())
    assert plan.choose(opened, "throughput", RunOptions(threads=2, batch=8)) == Plan("cpu", batch=8, threads=2)


def test_what_was_tuned_is_chosen_within_what_was_asked_for(opened: Bundle) -> None:
    plan.remember(opened, ROWS)
    assert plan.choose(opened, "latency", RunOptions()) == ROWS[0].plan
    assert plan.choose(opened, "throughput", RunOptions()) == ROWS[1].plan
    assert plan.choose(opened, "throughput", RunOptions(batch=1)) == ROWS[2].plan
    assert plan.choose(opened, "throughput", RunOptions(batch=2)) == Plan("cpu", batch=2, streams=machine.cores())
    plan.remember(opened, [TuningResult(ROWS[2].plan, 3.0, 400.0)])
    assert plan.choose(opened, "throughput", RunOptions()) == ROWS[2].plan
    assert len(plan.recall(opened)) == 3


@pytest.mark.parametrize("damage", ["nonsense", "{}", '{"machine": 1, "rows": []}', "other machine", "unknown key"])
def test_what_was_tuned_elsewhere_or_is_damaged_counts_for_nothing(opened: Bundle, damage: str) -> None:
    path = plan.remember(opened, ROWS)
    kept = json.loads(path.read_text())
    if damage == "other machine":
        kept["machine"]["cores"] += 1
        damage = json.dumps(kept)
    elif damage == "unknown key":
        kept["rows"][0]["plan"]["colour"] = "red"
        damage = json.dumps(kept)
    path.write_text(damage)
    assert plan.recall(opened) == []
    assert plan.choose(opened, "latency", RunOptions()) == Plan("cpu")


def test_what_runs_nowhere_says_why_for_each(opened: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "availability", lambda name, *variant: Availability(False, f"{name} is broken", "reinstall"))
    with pytest.raises(ProviderError, match="cpu: cpu is broken; fix: reinstall"):
        plan.choose(opened, "latency", RunOptions())


def test_a_precision_that_the_bundle_lacks_is_the_bundles_fault(opened: Bundle) -> None:
    with pytest.raises(BundleError, match="has no fp32 variant; it has int8"):
        plan.choose(opened, "latency", RunOptions(precision="fp32"))


def test_an_unknown_provider_is_a_usage_error(opened: Bundle) -> None:
    with pytest.raises(UsageError, match="choose one of"):
        plan.choose(opened, "latency", RunOptions(provider="abacus"))


def test_the_written_order_prefers_what_is_fastest_where_it_runs(changed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = bundle.open(changed(lambda manifest: manifest["variants"][0].pop("providers", None)))
    monkeypatch.setattr(backends, "availability", lambda name, *variant: Availability(True))
    assert plan.choose(everywhere, "latency", RunOptions()).provider == "tensorrt"
    monkeypatch.setattr(backends, "availability", lambda name, *variant: Availability(name in ("cpu", "openvino")))
    assert plan.choose(everywhere, "latency", RunOptions()).provider == "openvino"
    monkeypatch.setattr(backends, "availability", lambda name, *variant: Availability(name == "cuda"))
    assert plan.choose(everywhere, "throughput", RunOptions()) == Plan("cuda", batch=plan.GPU_BATCH, streams=2)


def test_where_openvino_saturates_int8_it_is_not_chosen(changed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor without VNNI: not by default, not by what was tuned before, not for tuning, and a request is refused."""
    pytest.importorskip("openvino")
    everywhere = bundle.open(changed(lambda manifest: manifest["variants"][0].pop("providers", None)))
    engines = ["openvino", "cpu"]
    monkeypatch.setattr(backends, "engines", lambda: engines)
    tuned = Plan("openvino", precision="int8", threads=1)
    plan.remember(everywhere, [TuningResult(tuned, 1.0, 1000.0)])
    for exact in (True, False):
        monkeypatch.setattr(machine, "adds_bytes_exactly", lambda exact=exact: exact)
        first = "openvino" if exact else "cpu"
        assert plan.first_available(everywhere) == first
        assert plan.choose(everywhere, "latency", RunOptions()).provider == first
        assert {candidate.provider for candidate in tune.candidates(everywhere, RunOptions())} == ({"openvino", "cpu"} if exact else {"cpu"})
        assert {spec.provider for spec in sweep.plans(everywhere, SweepSpec(("all",)))} == ({"openvino", "cpu"} if exact else {"cpu"})
    with pytest.raises(ProviderError, match=r"VNNI.*fix: --provider cpu"):
        loading.load_model(everywhere, tuned)
    with pytest.raises(ProviderError, match="VNNI"):
        selftest.run(provider="openvino")
    with pytest.raises(ProviderError, match="VNNI"):
        tune.candidates(everywhere, RunOptions(provider="openvino"))
    safe = {"precision": "int8", "quantisation": {"scheme": "u8s7"}}
    assert backends.computes("openvino", safe).available
    assert backends.computes("openvino", {"precision": "fp32", "quantisation": None}).available
    assert backends.computes("openvino", everywhere.variant(), "GPU").available


def test_tuning_measures_each_split_and_what_it_kept_is_used(opened: Bundle) -> None:
    tried = tune.candidates(opened, RunOptions())
    assert {candidate.provider for candidate in tried} == {"cpu"}
    assert {Plan("cpu", precision="int8"), Plan("cpu", precision="int8", threads=1)} <= set(tried)
    row = tune.measure(opened, Plan("cpu", precision="int8", batch=2, threads=1, streams=2), 0.2)
    assert 0 < row.call_ms < 10_000
    assert row.images_per_s > 0
    assert tune.estimated_s(1, 2.0) == 2 * (1 + tune.TURNS), "measured, and once more in each turn of the finals"
    again = tune.finals(opened, [row], 0.05)
    assert [kept.plan for kept in again] == [row.plan]
    assert str(plan.remember(opened, again)).startswith(str(caches.root()))
    assert plan.choose(opened, "throughput", RunOptions()) == row.plan


def test_what_the_gate_refused_is_not_chosen_for_its_speed(opened: Bundle, changed: Callable[..., Path]) -> None:
    refused = bundle.open(changed(lambda manifest: manifest["variants"][0]["gate"].update(refused=["int8 lost 0.1 AUROC"])))
    with pytest.raises(ProviderError, match="no such variant"):
        tune.candidates(refused, RunOptions())
    assert tune.candidates(refused, RunOptions(precision="int8"))


def test_nothing_to_tune_says_why(opened: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "availability", lambda name, *variant: Availability(False, f"{name} is broken", "reinstall"))
    with pytest.raises(ProviderError, match="cpu: cpu is broken; fix: reinstall"):
        tune.candidates(opened, RunOptions(provider="cpu"))
    with pytest.raises(ProviderError, match="no such variant"):
        tune.candidates(opened, RunOptions(precision="fp16"))


@pytest.mark.parametrize("name", ["batch", "threads", "streams"])
def test_counts_below_one_are_refused_by_their_name(name: str) -> None:
    with pytest.raises(UsageError, match=f"option {name} is -1"):
        RunOptions(**{name: -1})
