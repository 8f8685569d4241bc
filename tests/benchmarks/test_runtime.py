"""The table lands between the marks of the document, and what is around it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import runtime

START, END = "<!-- runtime -->", "<!-- /runtime -->"


def test_the_table_is_put_between_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_one_image", "_benchmark_app", "_stream", "_cold_start", "_memory"):
        monkeypatch.setattr(runtime, name, lambda *_, name=name: [runtime.Row(name, "2 x", "3 x", "figures")])
    monkeypatch.setattr(runtime, "_pictures", lambda folder: [Path(__file__)])
    out = tmp_path / "page.md"
    out.write_text(f"before\n{START}\nstale\n{END}\nafter\n")
    for _ in range(2):
        runtime.compare(1, out)
        text = out.read_text()
        assert text.startswith(f"before\n{START}\nresnet50-breast")
        assert text.endswith(f"| _memory | 2 x | 3 x | figures |\n{END}\nafter\n")
        assert "stale" not in text


def test_the_documents_table_is_there() -> None:
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text(encoding="utf-8")
    assert text.partition(START)[2].partition(END)[0].count("\n|") >= 8
