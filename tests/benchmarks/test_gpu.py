"""Every part of `benchmarks gpu` runs through on the CPU, and one that fails costs its own figures only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import tests.networks  # noqa: F401
from bcd_edge import interleaved
from bcd_edge.backends import nvidia
from benchmarks.__main__ import main
from benchmarks.gpu import __main__ as child
from benchmarks.gpu import autotune, contract, latency, report, run, throughput, training
from benchmarks.gpu.setting import Setting

DRY = Setting(dry_run=True, seconds=0.0)
MODULES = {"contract": contract, "latency": latency, "throughput": throughput, "training": training, "autotune": autotune}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a dry run measures, with a network that trains in an instant; its processes are tested below."""
    pytest.importorskip("torch")
    made = run.facts(DRY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHDYNAMO_DISABLE", "1")
        patch.setattr(training, "NETWORK", "tiny")
        patch.setattr(training, "BATCH", 2)
        patch.setattr(interleaved, "WARM_UP", 0)
        for part, module in MODULES.items():
            journal = tmp_path_factory.mktemp("gpu") / "journal"
            child.run(part, DRY, journal, ["tests"])  # a test that runs tests
            made["parts"][part] = {"seconds": 1.0, "ended": "done", "steps": run._steps(journal, "", {})}
            assert set(made["parts"][part]["steps"]) == set(module.steps(DRY)) - {"tests"}
    return made


def test_every_step_of_every_part_runs_on_the_cpu(document: dict[str, Any]) -> None:
    assert list(MODULES) == list(run.PARTS)
    steps = {(part, name): figures for part, result in document["parts"].items() for name, figures in result["steps"].items()}
    assert {key: figures["error"] for key, figures in steps.items() if "error" in figures} == {}
    rows = [row for part in ("latency", "autotune") for step in document["parts"][part]["steps"].values() for row in step["rows"].values()]
    assert all("p50_ms" in row for row in rows)


def test_the_table_has_a_row_for_every_step_and_says_that_it_was_dry(document: dict[str, Any], tmp_path: Path) -> None:
    text = report.markdown(document)
    assert "A dry run on the CPU: its figures mean nothing." in text
    assert text.count("\n| ") >= sum(len(result["steps"]) for result in document["parts"].values())
    assert "not measured" not in text.partition("| work |")[2]
    measured, page = tmp_path / "gpu.json", tmp_path / "page.md"
    measured.write_text(json.dumps(document))
    page.write_text("a\n<!-- gpu -->\nstale\n<!-- /gpu -->\nb\n")
    done = CliRunner().invoke(main, ["gpu", "--from", str(measured), "--out", str(page)])
    assert done.exit_code == 0, done.output
    assert page.read_text() == f"a\n<!-- gpu -->\n{text}\n<!-- /gpu -->\nb\n"


def test_a_step_that_fails_is_a_row_with_its_reason(document: dict[str, Any]) -> None:
    broken = document | {"parts": {"latency": {"steps": {"fp16": {"error": "RuntimeError: out | of memory\nmore"}}}}}
    assert "| latency: fp16 |  | not measured | RuntimeError: out / of memory |" in report.markdown(broken)


PART = """
import os, sys, time, types
made = types.ModuleType("benchmarks.gpu.made")
made.steps = lambda setting: {
    "first": lambda: {"a": 1},
    "fails": lambda: 1 / 0,
    "dies": lambda: os._exit(7),
    "last": lambda: {"b": 2},
    **({"hangs": lambda: time.sleep(600)} if HANGS else {}),
}
sys.modules[made.__name__] = made
"""


@pytest.mark.parametrize("hangs", [False, True])
def test_a_process_that_dies_is_started_again_behind_the_step_that_killed_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool) -> None:
    (tmp_path / "sitecustomize.py").write_text(PART.replace("HANGS", str(hangs)))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    result = run.run_part("made", DRY, 1 if hangs else 600, tmp_path / "log.txt")
    steps = result["steps"]
    if hangs:  # how far it came depends on the machine
        assert result["ended"] == "ended at its limit of time"
        assert any("ended at its limit of time" in str(figures.get("error")) for figures in steps.values())
        return
    assert (steps["first"]["a"], steps["last"]["b"]) == (1, 2)
    assert steps["fails"]["error"] == "ZeroDivisionError: division by zero"
    assert "division by zero" in steps["fails"]["traceback"]
    assert steps["dies"] == {"error": "died with exit code 7"}
    assert result["ended"] == "done"


def test_without_a_card_it_says_how_to_try_it(tmp_path: Path) -> None:
    if nvidia.cuda_devices()[0]:
        pytest.skip("there is a card")
    done = CliRunner().invoke(main, ["gpu", "--out", str(tmp_path / "out")])
    assert done.exit_code != 0
    assert "give --dry-run to try every part on the CPU" in done.output
    assert not (tmp_path / "out").exists()


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    done = CliRunner().invoke(main, ["gpu", "--from", str(other), "--out", str(tmp_path / "page.md")])
    assert done.exit_code == 1
    assert "not a gpu.json" in done.output


def test_the_document_has_the_marks() -> None:
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text(encoding="utf-8")
    assert "<!-- gpu -->" in text
    assert "<!-- /gpu -->" in text
