"""The tables of the documentation come from the files that `bcd-edge benchmark` leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import mlperf

PAGE = "a\n<!-- loadgen -->\nstale\n<!-- /loadgen -->\nb\n<!-- sweep -->\nstale\n<!-- /sweep -->\nc\n"


def test_both_tables_are_put_between_their_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlperf_loadgen", reason='pip install "bcd-edge[loadgen]"')
    small = ("--provider", "null", "--provider-option", "delay=2ms", "--duration", "0.1s", "--min-queries", "5", "--scope", "model")
    monkeypatch.setattr(mlperf, "SWEEP", (*small, "--scenario", "singlestream,server", "--qps", "50"))
    monkeypatch.setattr(mlperf, "CHECKED", (*small, "--scenario", "offline", "--loadgen"))
    out = tmp_path / "page.md"
    out.write_text(PAGE)
    mlperf.compare(Path(mlperf.results.__file__).parents[1] / "models" / "resnet50-breast", tmp_path / "kept", out)
    text = out.read_text()
    assert "stale" not in text
    assert [text.partition(f"<!-- {mark} -->")[2].partition(f"<!-- /{mark} -->")[0].count("\n| null int8") for mark in ("sweep", "loadgen")] == [2, 1]
    assert ", at 50.0 queries/s" in text
    assert (tmp_path / "kept" / "sweep" / "report.html").exists()


def test_the_documents_have_the_marks() -> None:
    text = (Path(__file__).parents[2] / "docs" / "benchmark.md").read_text(encoding="utf-8")
    assert all(f"<!-- {mark} -->" in text and f"<!-- /{mark} -->" in text for mark in ("sweep", "loadgen"))
