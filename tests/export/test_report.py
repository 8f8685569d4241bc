"""What the export says: a table that fits a terminal, and a page that is one file and hides nothing."""

from __future__ import annotations

import io
import json
import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from export import gate, report
from tests.export.test_gate import RULE, collection, joined
from tests.train.evaluation.test_report import Page

EVIL = '<script>alert("1")</script>'


@pytest.fixture(scope="module")
def judged() -> dict[str, dict[str, Any]]:
    """Half-precision that changed nothing to speak of, and an INT8 that lost something."""
    test, p = joined(collection("breakhis", 12, 8, 0), collection("idc", 40, 5, 1))
    noise = np.random.default_rng(2).normal(0, 1, len(p))
    return {
        "fp16": gate.judge("fp16", np.clip(p + 1e-6 * noise, 0, 1), p, test, RULE, gate.BOUNDS),
        "int8": gate.judge("int8", np.clip(p + 0.2 * noise, 0, 1), p, test, RULE, gate.BOUNDS),
    }


def content(
    judged: dict[str, dict[str, Any]], *, carried: bool = False, providers: tuple[str, ...] = ("cpu", "openvino"), **more: Any
) -> dict[str, Any]:
    how = {"tool": "onnxruntime static", "format": "QDQ", "calibration": {"method": "MinMax", "images": 256}, "kept in float": ["conv1", "fc"]}
    variants = [
        {
            "precision": precision,
            "file": f"model.{precision}.onnx",
            "bytes": size,
            "quantisation": how if precision == "int8" else None,
            "gate": gate_says,
            "latency": {provider: {"p50_ms": size / 4e6, "p90_ms": size / 3e6, "runs": 77} for provider in providers},
            "carried": not gate_says["refused"] or carried,
        }
        for (precision, gate_says), size in zip(judged.items(), (47_100_000, 24_000_000), strict=True)
    ]
    return {
        "name": "resnet50-breast",
        "version": "2",
        "reference": "PyTorch 2.14.1 float32",
        "bounds": gate.BOUNDS,
        "decision": asdict(RULE),
        "variants": variants,
        "versions": {"onnx": "1.19", "onnxruntime": "1.23"},
        "revision": "abc123",
    } | more


def printed(reported: dict[str, Any], out: Path | None, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    report.table(reported, out, console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_the_terminal_says_who_passed_why_one_did_not_and_what_to_type(judged: dict[str, dict[str, Any]]) -> None:
    lines = printed(content(judged), Path("my bundle"))
    assert all(len(line.rstrip()) <= 80 for line in lines)
    rows = [line.split() for line in lines]
    assert ["fp16", "47.1", "+0.0000", "+0.0000", "0", "11.8", "11.8", "passed"] in rows
    difference = judged["int8"]["difference"]
    auroc, sensitivity = (f"{difference[metric]['value']:+.4f}" for metric in ("auroc", "sensitivity"))
    assert ["int8", "24.0", auroc, sensitivity, str(len(judged["int8"]["flips"])), "6.0", "6.0", "REFUSED"] in rows
    text = " ".join(" ".join(lines).split())
    for sentence in judged["int8"]["refused"]:
        assert f"REFUSED: {sentence}." in text
    assert lines[-2:] == ["    bcd-edge predict --bundle 'my bundle' IMAGE", "    bcd-edge bundle selftest 'my bundle'"]


@pytest.mark.parametrize("providers", [(), ("cpu",), ("cpu", "cuda", "tensorrt")])
def test_no_number_wraps_at_80_columns(judged: dict[str, dict[str, Any]], providers: tuple[str, ...]) -> None:
    lines = printed(content(judged, providers=providers, carried=True), Path("out"))
    assert "…" not in "".join(lines)
    (row,) = [number for number, line in enumerate(lines) if line.startswith("int8 ")]
    assert len(lines[row].split()) == 5 + len(providers) + (2 if lines[row].rstrip().endswith("refused, allowed") else 1)
    assert "refused," in lines[row]
    assert "allowed" in lines[row] + lines[row + 1]
    assert all(len(line.rstrip()) <= 80 for line in lines)


def test_a_long_path_is_pasted_whole(judged: dict[str, dict[str, Any]]) -> None:
    out = Path("/home/nurse/" + "very-long-" * 12 + "[bold]$(reboot)")
    last = printed(content(judged), out)[-1]
    assert shlex.split(last) == ["bcd-edge", "bundle", "selftest", str(out)]


def test_nothing_is_proposed_where_nothing_was_written(judged: dict[str, dict[str, Any]]) -> None:
    lines = printed(content(judged), None)
    assert not any("Wrote" in line or "Next" in line for line in lines)


def test_a_variant_without_probabilities_is_shown_too(tmp_path: Path, judged: dict[str, dict[str, Any]]) -> None:
    test, p = collection("breakhis", 12, 8, 0)
    broken = content(judged | {"int8": gate.judge("int8", np.full(len(p), np.nan), p, test, RULE, gate.BOUNDS)})
    assert any(line.split()[:5] == ["int8", "24.0", "–", "–", "0"] for line in printed(broken, None))
    report.write(tmp_path, broken)
    text = (tmp_path / "export.html").read_text()
    assert "nothing was compared" in text
    assert "96 of 96 test images" in text


def test_a_page_is_one_file_that_loads_nothing_and_the_data_are_beside_it(tmp_path: Path, judged: dict[str, dict[str, Any]]) -> None:
    reported = content(judged)
    report.write(tmp_path, reported)
    page = Page(tmp_path / "export.html")
    assert page.addresses == []
    assert not {"script", "link", "iframe", "object", "img"} & set(page.tags)
    assert "url(" not in page.text
    assert "@import" not in page.text
    assert page.tags.count("table") == page.tags.count("caption")
    assert page.tags.count("h1") == 1
    assert json.loads((tmp_path / "export.json").read_text()) == reported
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export.html", "export.json"]


def test_a_page_says_what_a_reviewer_asks(tmp_path: Path, judged: dict[str, dict[str, Any]]) -> None:
    report.write(tmp_path, content(judged))
    text = (tmp_path / "export.html").read_text()
    for variant in judged.values():
        for differences in (variant["difference"], *variant["by_source"].values()):
            for difference in differences.values():
                value, low, high = (f"{round(difference[end], 4) + 0.0:+.4f}" for end in ("value", "low", "high"))
                assert f"{value} [{low}, {high}]</td>" in text
    for sentence in judged["int8"]["refused"]:
        assert sentence.replace("'", "&#39;") in text
    for sentence in (
        "does not diagnose alone",
        "PyTorch 2.14.1 float32",
        "method MinMax, images 256",
        "conv1, fc",
        "breakhis, 12 patients",
        "all, 52 patients",
        "model.int8.onnx",
        "24000000",
        "openvino",
        "abc123",
        "onnxruntime",
        '<span class="bad">REFUSED</span>',
        '<span class="good">passed</span>',
        judged["int8"]["flips"][0]["sha256"][:12],
    ):
        assert sentence in text
    assert text.count("✗") == 1 + 2 + len(judged["int8"]["refused"])  # explained once; in the overview AUROC and sensitivity


def test_an_allowed_refusal_is_never_called_passed(tmp_path: Path, judged: dict[str, dict[str, Any]]) -> None:
    report.write(tmp_path, content(judged, carried=True))
    text = (tmp_path / "export.html").read_text()
    assert '<span class="bad">refused, allowed</span>' in text
    assert "though the bundle carries it" in text
    assert text.count('<span class="good">passed</span>') == 2


def test_fifty_flips_are_shown_and_all_are_counted(tmp_path: Path, judged: dict[str, dict[str, Any]]) -> None:
    many = judged["int8"] | {"flips": [judged["int8"]["flips"][0] | {"patient": f"person-{number}"} for number in range(60)]}
    report.write(tmp_path, content(judged | {"int8": many}))
    text = (tmp_path / "export.html").read_text()
    assert "50 of 60" in text
    assert text.count("person-") == 50
    assert "<td>60</td>" in text
    assert len(json.loads((tmp_path / "export.json").read_text())["variants"][1]["gate"]["flips"]) == 60


def test_what_a_user_named_is_text_and_never_markup(tmp_path: Path, judged: dict[str, dict[str, Any]]) -> None:
    report.write(tmp_path, content(judged, name=EVIL, revision=EVIL, reference=EVIL, versions={EVIL: EVIL}))
    page = Page(tmp_path / "export.html")
    assert "script" not in page.tags
    assert page.text.count("&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;") >= 5


def test_a_folder_that_cannot_be_written_leaves_what_was_there(tmp_path: Path, judged: dict[str, dict[str, Any]]) -> None:
    report.write(tmp_path, content(judged))
    before = (tmp_path / "export.json").read_bytes()
    (tmp_path / f".{os.getpid()}.export.json.part").mkdir()
    with pytest.raises(OSError, match="directory"):
        report.write(tmp_path, content(judged, name="other"))
    assert (tmp_path / "export.json").read_bytes() == before
