"""The comparison of runs that are equal, and of runs that are not, on an engine that costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from bcd_edge.benchmark import rows
from benchmarks import sensitivity


def test_a_call_takes_longer_by_the_factor() -> None:
    class Counting:
        samples, streams = 3, 1

        def query(self, samples: object) -> None:
            sensitivity._compute(0.01)

        def stream(self, samples: object) -> object:
            yield 2, 0.01

    slowed = sensitivity.Slowed(Counting(), 1.5)  # type: ignore[arg-type]
    assert list(slowed.stream(iter([0]))) == [(2, pytest.approx(0.015))]
    assert (slowed.samples, slowed.streams) == (3, 1)


def test_the_table_counts_comparisons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "WARM_S", 0.0)
    out = tmp_path / "page.md"
    out.write_text("".join(f"<!-- sensitivity-{mark} -->\nold\n<!-- /sensitivity-{mark} -->\n" for mark in ("busy", "idle")))
    sensitivity.measure("null", "1ms", 0.1, (2, 1), 1, out)
    text = out.read_text()
    assert text.count("old") == 1
    assert " of 2 | pairs of rows: " in text
    assert " of 1 | pairs of rows: " in text


def test_the_documents_have_the_marks() -> None:
    text = (Path(__file__).parents[2] / "docs" / "benchmark.md").read_text(encoding="utf-8")
    assert all(f"<!-- {mark} -->" in text and f"<!-- /{mark} -->" in text for mark in ("sensitivity-busy", "sensitivity-idle"))
