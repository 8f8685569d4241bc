"""`bcd-edge bundle` as a person types it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bcd_edge import bundle, selftest
from bcd_edge.backends.fake import FakeBackend
from bcd_edge.backends.providers import cpu
from bcd_edge.cli import main
from bcd_edge.errors import BundleError, ProviderError, UsageError

Changed = Callable[..., Path]


def run(*arguments: str | Path) -> Result:
    done = CliRunner().invoke(main, ["bundle", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_info_shows_what_a_person_must_know_in_80_columns() -> None:
    done = run("info")
    assert done.exit_code == 0
    assert all(len(line) <= 80 for line in done.output.splitlines())
    manifest = bundle.open().manifest
    words = " ".join(done.output.replace("\n-", " ").split())
    for sentence in (manifest["intended_use"], *manifest["limits"], *manifest["data"], manifest["decision"]["chosen"]):
        assert sentence in words
    auroc = next(iter(manifest["variants"][0]["test"].values()))["metrics"]["auroc"]
    assert f"{auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]" in words
    assert json.loads(run("info", "--json").output) == manifest


def test_info_shows_what_the_gate_said_and_cannot_steer_the_terminal(changed: Changed) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        first = manifest["variants"][0]
        manifest["variants"] = [first | {"gate": {"refused": []}}, first | {"providers": ["cuda"], "gate": {"refused": ["lost [red]\x1b[31m"]}}]
        manifest["limits"] = ["\x1b[2J[/]"]
        del first["test"]

    done = run("info", changed(edit))
    assert done.exit_code == 0
    assert "passed" in done.output
    assert r"REFUSED: lost [red]\x1b[31m" in " ".join(done.output.split())
    assert "cuda" in done.output
    assert "\x1b" not in done.output


def test_info_of_an_ensemble(ensemble: Changed) -> None:
    done = run("info", ensemble())
    assert done.exit_code == 0
    assert "192 x 192, 192 x 192 pixels; p is the mean of 2 networks" in " ".join(done.output.split())
    assert f"{2 * (bundle.embedded() / 'model.int8.onnx').stat().st_size / 1e6:.1f}" in done.output


def test_verify_says_fine(golden: Changed, tmp_path: Path) -> None:
    folder = golden()
    for path in (folder, shutil.make_archive(str(tmp_path / "zipped"), "zip", folder)):
        done = run("verify", path)
        assert done.exit_code == 0, done.output
        assert done.output.startswith("fine: ")
        assert "golden images 2" in done.output


def test_verify_names_strays_and_does_not_mind_them(changed: Changed) -> None:
    folder = changed()
    (folder / "sub").mkdir()
    (folder / "sub" / "weights.bin").touch()
    done = run("verify", folder)
    assert done.exit_code == 0
    assert "never loaded: sub/weights.bin\n" in done.output
    assert "MODEL_CARD" not in done.output


def test_verify_lists_every_problem_and_is_3(golden: Changed) -> None:
    folder = golden(lambda manifest: manifest["golden"][0].update(sha256="0" * 64))
    (folder / "model.int8.onnx").write_bytes(b"")
    (folder / "golden-2.png").unlink()
    done = run("verify", folder)
    assert done.exit_code == 3
    assert [line.partition(": ")[2].split()[0] for line in done.output.splitlines()[:3]] == ["model.int8.onnx", "golden-1.png", "golden-2.png"]
    assert "3 of its files" in done.output
    assert "fine" not in done.output


@pytest.mark.parametrize("command", ["info", "verify", "selftest"])
def test_a_bundle_that_is_none_is_3(command: str, tmp_path: Path, changed: Changed) -> None:
    assert run(command, tmp_path / "none").exit_code == 3
    assert run(command, changed(lambda manifest: manifest.update(schema=9))).exit_code == 3


def test_selftest_of_what_was_measured_here_is_fine(golden: Changed) -> None:
    done = run("selftest", golden(), "--provider", "cpu")
    assert done.exit_code == 0, done.output
    (row,) = [line.split() for line in done.output.splitlines() if line.startswith("cpu")]
    assert row == ["cpu", "model.int8.onnx", "0.0e+00", "0.0e+00", "fine"]


def test_the_embedded_bundle_answers_here_as_it_did_where_it_was_made() -> None:
    done = run("selftest")
    assert done.exit_code == 0, done.output
    assert "fine" in done.output


def test_selftest_without_golden_images_is_2(changed: Changed) -> None:
    done = run("selftest", changed())
    assert done.exit_code == 2
    assert "contains no golden images" in done.output


def moved(by: float) -> Callable[[dict[str, Any]], None]:
    """What the exporter measured for the second image, and only that, moved."""

    def edit(manifest: dict[str, Any]) -> None:
        measured = manifest["golden"][1]["variants"]
        for file, p in measured.items():
            measured[file] = p - by if p > 0.5 else p + by

    return edit


def test_a_variant_that_is_off_is_1(golden: Changed) -> None:
    selftest = [sys.executable, "-m", "bcd_edge", "bundle", "selftest", golden(moved(0.06)), "--provider", "cpu", "--json"]
    done = subprocess.run(selftest, capture_output=True, text=True)
    assert done.returncode == 1
    (outcome,) = json.loads(done.stdout)
    assert outcome["verdict"] == "off"
    assert outcome["from_exported"] == pytest.approx(0.06)
    assert outcome["from_reference"] == 0
    assert "do not use" in done.stderr


def test_rounding_is_not_off_and_the_reference_does_not_judge(golden: Changed) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        moved(0.04)(manifest)
        manifest["golden"][0]["p_malignant"] = 0.01

    (outcome,) = selftest.run(golden(edit), provider="cpu")
    assert outcome.verdict == "fine"
    assert outcome.from_reference
    assert outcome.from_reference > 0.1


def test_selftest_of_a_damaged_bundle_is_3(golden: Changed) -> None:
    assert run("selftest", golden(lambda manifest: manifest["golden"][0].update(sha256="0" * 64))).exit_code == 3


def test_selftest_runs_what_is_meant_for_a_provider(golden: Changed) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        first = manifest["variants"][0] | {"providers": ["cpu"]}
        manifest["variants"] = [first | {"precision": "fp16", "providers": ["cuda"]}, first, first | {"precision": "fp32"}]

    folder = golden(edit)
    assert [row.precision for row in selftest.run(folder, provider="cpu")] == ["int8", "fp32"]
    assert [row.precision for row in selftest.run(folder, provider="cpu", precision="fp32")] == ["fp32"]
    with pytest.raises(BundleError, match="no fp16 variant for the provider cpu"):
        selftest.run(folder, provider="cpu", precision="fp16")
    with pytest.raises(UsageError, match="abacus"):
        selftest.run(folder, provider="abacus")


def test_a_provider_that_is_not_here_is_listed_with_its_reason_and_4_if_alone(golden: Changed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    folder = golden()
    done = run("selftest", folder)
    assert done.exit_code == 0
    assert "openvino: openvino does not import" in done.output
    assert 'fix: pip install "bcd-edge[openvino]"' in done.output
    with pytest.raises(ProviderError, match="openvino"):
        selftest.run(folder, provider="openvino")
    assert run("selftest", folder, "--provider", "openvino").exit_code == 4


def test_an_engine_that_fails_is_a_row_and_1(golden: Changed, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(batch_nhwc_u8: np.ndarray) -> np.ndarray:
        raise ProviderError("Inference on the cpu failed (no memory).")

    folder = golden()
    monkeypatch.setattr(cpu, "open", lambda *_: FakeBackend(fail))
    done = run("selftest", folder, "--provider", "cpu")
    assert done.exit_code == 1
    assert "failed" in done.output
    assert "no memory" in done.output


def test_an_ensemble_has_golden_images_too(golden: Changed, tmp_path: Path) -> None:
    folder = golden()
    manifest = json.loads((folder / "manifest.json").read_text())
    taken, variant = manifest["input"], manifest["variants"][0]
    file = {key: variant.pop(key) for key in ("file", "sha256", "bytes", "opset", "ir_version")}
    member = {"name": "one", "input": taken, "temperature": manifest["output"]["temperature"]}
    del manifest["novelty"]
    manifest.update(schema=2, members=[member, member])
    manifest["output"]["temperature"] = 1
    variant["members"] = [file, file]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (outcome,) = selftest.run(folder, provider="cpu")
    assert (outcome.file, outcome.verdict) == ("model.int8.onnx", "fine")
