"""Pages and files of explanations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bcd_edge import Classifier
from bcd_edge.errors import InputError
from bcd_edge.explain import Explanation, files
from bcd_edge.explain.page import Explained
from bcd_edge.options import RunOptions


def explanation() -> Explanation:
    return Explanation("occlusion", "benign", 0.9, np.zeros((2, 2), np.intp), np.array([0.1]), np.array([np.nan]), 2, True, "done")


def test_a_full_page_is_written_and_another_begun(tmp_path: Path, png: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "IMAGES_PER_PAGE", 2)
    with Classifier.load(options=RunOptions(provider="null")) as classifier:
        record = classifier.classify(png, name="x")
    pages = files.Pages(tmp_path)
    for number in range(5):
        pages.add(Explained(replace(record, source=f"image {number}"), explanation(), png))
        assert len(pages.written) == (number + 1) // 2
    pages.close()
    pages.close()
    assert [path.name for path in pages.written] == ["index.html", "index-2.html", "index-3.html"]
    assert [path.read_text().count("<article>") for path in pages.written] == [2, 2, 1]
    assert pages.images == 5


def test_no_explanation_is_no_page(tmp_path: Path) -> None:
    files.Pages(tmp_path).close()
    assert not list(tmp_path.iterdir())


def test_a_file_that_changed_after_its_answer_is_not_explained(tmp_path: Path, png: bytes) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png)
    with Classifier.load(options=RunOptions(provider="null")) as classifier:
        record = classifier.classify(file)
    assert files.unchanged(file, record) == png
    file.write_bytes(png + b"\0")
    with pytest.raises(InputError, match="changed after it was classified"):
        files.unchanged(file, record)
    file.unlink()
    with pytest.raises(InputError):
        files.unchanged(file, record)
