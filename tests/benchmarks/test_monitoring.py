"""The simulated clinics, and their table."""

from __future__ import annotations

from pathlib import Path

from benchmarks import monitoring


def test_the_table_goes_into_the_document(tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    out.write_text("<!-- monitoring -->\nold\n<!-- /monitoring -->\n")
    monitoring.measure(3, out)
    text = out.read_text()
    assert "\nold\n" not in text
    assert text.count("\n| ") == 1 + 1 + 3 + 2


def test_the_document_has_the_marks() -> None:
    text = (Path(__file__).parents[2] / "docs" / "loop.md").read_text(encoding="utf-8")
    assert "<!-- monitoring -->" in text
    assert "<!-- /monitoring -->" in text
