"""`bcd-edge explain` as a person types it."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from bcd_edge import classifier
from bcd_edge.cli import main
from bcd_edge.readers import raster

pytest.importorskip("lime", reason='pip install "bcd-edge[explain]"')


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "bcd_edge", *map(str, arguments)], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done


class Sources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.sources += [str(value) for name, value in attributes if name in ("src", "href")]


def test_overlay_numbers_and_page(tmp_path: Path, png: bytes) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a <b>.png").write_bytes(png)
    (tmp_path / "in" / "broken.png").write_bytes(png[:200])
    out = tmp_path / "why"
    done = run("explain", tmp_path / "in", "--out", out, "--samples", "64")
    assert done.returncode == 1
    assert "broken.png" in done.stderr
    assert "64 samples" in done.stdout
    (numbers,) = out.glob("*.json")
    content = json.loads(numbers.read_text())
    assert content["explanation"]["samples"] == 64
    assert sum(row["area"] for row in content["explanation"]["superpixels"]) == pytest.approx(1)
    assert content["record"]["status"] == "ok"
    overlay = cv2.imread(str(numbers.with_suffix(".png")))
    assert overlay.shape[1] >= 480
    html = (out / "index.html").read_text()
    parser = Sources()
    parser.feed(html)
    assert parser.sources
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    assert "a &lt;b&gt;.png" in html
    assert "<b>" not in html
    assert not list(out.glob(".*"))


def test_check_says_how_stable_and_how_faithful(tmp_path: Path, png: bytes) -> None:
    (tmp_path / "a.png").write_bytes(png)
    done = run("explain", tmp_path / "a.png", "--out", tmp_path / "why", "--check", "2", "--samples", "32", "--segments", "8", "--provider", "null")
    assert done.returncode == 0
    assert "2 seeds: top-5 Jaccard" in done.stdout
    assert "random order" in done.stdout


def test_predict_explains_what_it_classifies(tmp_path: Path, png: bytes) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(png)
    (tmp_path / "in" / "broken.png").write_bytes(png[:200])
    (tmp_path / "in" / f"{'long' * 60}.png").write_bytes(png)
    out = tmp_path / "why"
    done = run("predict", tmp_path / "in", "--explain", "--explain-out", out, "--format", "jsonl", "--provider", "null")
    assert done.returncode == 1
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["status"] for record in records] == ["ok", "failed", "ok"]
    assert "with 2 explanations" in done.stderr
    explanations = [json.loads(path.read_text()) for path in out.glob("*.json")]
    assert sorted(explained["record"]["source"] for explained in explanations) == sorted(
        record["source"] for record in records if record["status"] == "ok"
    )
    assert {explained["record"]["execution"]["provider"] for explained in explanations} == {"null"}


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_the_model_is_loaded_once_and_an_image_decoded_once(tmp_path: Path, png: bytes, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    calls = []
    for module, name in ((raster, "decode"), (classifier, "load_model")):
        counted = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, name=name, counted=counted: (calls.append(name), counted(*given))[1])
    (tmp_path / "a.png").write_bytes(png)
    options = ["--explain", "--explain-out"] if command == "predict" else ["--max-samples", "33", "--check", "2", "--out"]
    done = CliRunner().invoke(main, [command, str(tmp_path / "a.png"), *options, str(tmp_path / "why"), "--provider", "null"])
    assert done.exit_code == 0
    assert sorted(calls) == ["decode", "load_model"]


def test_predict_says_before_the_first_image_that_it_cannot_explain(tmp_path: Path, png: bytes) -> None:
    (tmp_path / "a.png").write_bytes(png)
    done = run("predict", tmp_path / "a.png", "--explain", "--explain-out", "/proc/nowhere", "--format", "csv")
    assert done.returncode == 5
    assert not done.stdout


@pytest.mark.parametrize(
    "wrong", [["--time-budget", "soon"], ["--explainer", "tea"], ["--segments", "0"], ["--max-samples", "0"], ["--label", "maybe"]]
)
def test_usage_is_2(tmp_path: Path, png: bytes, wrong: list[str]) -> None:
    (tmp_path / "a.png").write_bytes(png)
    assert run("explain", tmp_path / "a.png", "--out", tmp_path / "why", *wrong).returncode == 2


def test_a_folder_that_cannot_be_written_is_5(tmp_path: Path, png: bytes) -> None:
    (tmp_path / "a.png").write_bytes(png)
    done = run("explain", tmp_path / "a.png", "--out", "/proc/nowhere")
    assert done.returncode == 5
