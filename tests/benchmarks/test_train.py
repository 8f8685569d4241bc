"""What the loader adds to a step, as a row of the documentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import train


def test_the_row_says_what_the_loader_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        train, "rates", lambda *_, **__: {"step alone": np.full(12, 10.0), "loader alone": np.full(12, 400.0), "both": np.full(12, 8.0)}
    )
    out = tmp_path / "page.md"
    out.write_text("a\n<!-- train -->\nstale\n<!-- /train -->\nb\n")
    train.compare(1, "cpu", out)
    text = out.read_text()
    assert "stale" not in text
    assert (
        "| at most 5% | +25.0% [+25.0%, +25.0%] | medians of 12 turns: step alone 10 images/s, loader alone 400 images/s, both 8 images/s |" in text
    )


def test_the_document_has_the_marks() -> None:
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text(encoding="utf-8")
    assert "<!-- train -->" in text
    assert "<!-- /train -->" in text
