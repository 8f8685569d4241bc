"""`python -m benchmarks corpus` on a small folder."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("imagecodecs")
if not sys.platform.startswith("linux"):
    pytest.skip("the limit of memory is Linux's", allow_module_level=True)

from bcd_edge.synthetic import tissue
from benchmarks import corpus


def test_each_file_is_listed_with_what_came_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, listing = tmp_path / "images", tmp_path / "list.csv"
    folder.mkdir()
    picture = Image.fromarray(tissue(1, height=40, width=50, glands=1, scattered=10))
    picture.save(folder / "a.png")
    picture.save(folder / "b.gif")
    Image.fromarray(np.asarray(picture)[..., 0].astype(np.uint16) * 257).save(folder / "grey.png")
    (folder / "empty.jpg").write_bytes(b"")
    corpus.run(folder, listing, None)
    with listing.open(encoding="utf-8", newline="") as file:
        rows = {row["file"]: (row["outcome"], row["beside Pillow"]) for row in csv.DictReader(file)}
    assert rows["a.png"] == rows["grey.png"] == ("decoded", "equal")
    assert rows["b.gif"][0] == rows["empty.jpg"][0] == "refused"
    assert "GIF is not read" in rows["b.gif"][1]
    assert "| 4 files | 0 faults | 0 faults | 2 decoded, 2 refused |" in capsys.readouterr().out
