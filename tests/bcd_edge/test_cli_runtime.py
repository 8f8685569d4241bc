"""Streaming, doctor, tune, warmup, configuration and logs: the command as a person types it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from bcd_edge.system import doctor


def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run([sys.executable, "-m", "bcd_edge", *map(str, arguments)], capture_output=True, **options)  # type: ignore[call-overload]
    assert b"Traceback" not in done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path, png: bytes) -> Path:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for index in range(60):
        (inbox / f"{index:03}.png").write_bytes(png if index % 10 else png[: len(png) // 2])
    return inbox


def test_a_folder_is_answered_whole_and_in_order(folder: Path) -> None:
    done = run("predict", folder, "--format", "jsonl", "--streams", "2", "--batch", "4")
    assert done.returncode == 1
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(record["source"]).name for record in records] == [f"{index:03}.png" for index in range(60)]
    assert [record["status"] for record in records] == ["ok" if index % 10 else "failed" for index in range(60)]
    assert len({record["p_malignant"] for record in records if record["status"] == "ok"}) == 1
    assert all(record["sha256"] for record in records)
    assert {record["execution"]["requested"] for record in records} == {"auto"}
    assert records[1]["timing_ms"]["total"] == pytest.approx(sum(records[1]["timing_ms"][key] for key in ("decode", "resize", "infer")), abs=0.01)


def test_one_image_and_a_folder_of_it_give_the_same_probability(folder: Path) -> None:
    alone = json.loads(run("predict", folder / "001.png", "--format", "jsonl").stdout)
    many = [json.loads(line) for line in run("predict", folder / "001.png", folder / "002.png", "--format", "jsonl").stdout.splitlines()]
    assert [record["p_malignant"] for record in many] == pytest.approx([alone["p_malignant"]] * 2, abs=1e-6)


@pytest.mark.parametrize("blows", [signal.SIGINT])
def test_ctrl_c_ends_within_seconds_and_what_was_written_is_whole(folder: Path, tmp_path: Path, blows: signal.Signals) -> None:
    for index in range(3000):
        os.link(folder / "001.png", folder / f"more{index:05}.png")
    out = tmp_path / "out.csv"
    with out.open("wb") as stream:
        process = subprocess.Popen([sys.executable, "-m", "bcd_edge", "predict", folder, "--format", "csv"], stdout=stream, stderr=subprocess.PIPE)
        ends = time.monotonic() + 60
        while out.stat().st_size < 20_000 and time.monotonic() < ends:
            time.sleep(0.01)
        process.send_signal(blows)
        _, message = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Interrupted" in message
    assert b"Traceback" not in message
    content = out.read_text()
    assert content.endswith("\n")
    rows = list(csv.DictReader(content.splitlines()))
    assert 20 < len(rows) < 3060
    assert [Path(row["source"]).name for row in rows[:60]] == [f"{index:03}.png" for index in range(min(60, len(rows)))]
    assert all(row["execution.requested"] == "auto" for row in rows)


def test_null_runs_and_warns(folder: Path) -> None:
    done = run("predict", folder / "001.png", "--provider", "null", "--format", "jsonl")
    assert json.loads(done.stdout)["execution"]["provider"] == "null"
    assert b"warning: The provider null does not run the model" in done.stderr


def test_quiet_verbose_and_json_logs(folder: Path) -> None:
    image = folder / "001.png"
    assert run("predict", image, "--provider", "null", "-q").stderr == b""
    assert b"info: Plan(" in run("predict", image, "-v").stderr
    lines = [json.loads(line) for line in run("predict", image, "--provider", "null", "-v", "--json-logs").stderr.splitlines()]
    assert [line["level"] for line in lines] == ["warning", "info"]
    assert set(lines[0]) == {"time", "level", "logger", "message"}
    assert datetime.fromisoformat(lines[0]["time"]).utcoffset() is not None
    assert json.loads(run("predict", image, "--provider", "null", "--format", "jsonl", env=os.environ | {"BCD_EDGE_JSON_LOGS": "1"}).stderr)


def provider(*arguments: str | Path, **variables: str) -> str:
    done = run("predict", *arguments, "--format", "jsonl", env=os.environ | variables)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["execution"]["requested"])


def test_the_command_line_comes_before_variables_before_the_file(folder: Path, tmp_path: Path) -> None:
    image = folder / "001.png"
    file = tmp_path / "config.toml"
    file.write_text('\ufeffprovider = "null"\n[predict]\nformat = "csv"\nthreshold = 0.2\n', encoding="utf-8")  # as Notepad saves it
    assert provider(image) == "auto"
    assert provider(image, BCD_EDGE_CONFIG=str(file)) == "null"
    assert provider(image, BCD_EDGE_CONFIG=str(file), BCD_EDGE_PROVIDER="cpu") == "cpu"
    assert provider(image, "--provider", "auto", BCD_EDGE_CONFIG=str(file), BCD_EDGE_PROVIDER="cpu") == "auto"
    done = run("predict", image, env=os.environ | {"BCD_EDGE_PREDICT_FORMAT": "csv"})
    assert done.stdout.startswith(b"source,sha256,status")
    done = run("predict", image, "--format", "jsonl", env=os.environ | {"BCD_EDGE_PREDICT_THRESHOLD": "1.5"})
    assert (done.returncode, b"1.5" in done.stderr) == (2, True)
    home = tmp_path / "home" / "bcd-edge"
    home.mkdir(parents=True)
    (home / "config.toml").write_text('[predict]\nprovider = "null"\n')
    if sys.platform == "linux":
        assert provider(image, XDG_CONFIG_HOME=str(tmp_path / "home")) == "null"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("provider = ", "could not be read"),
        ('colour = "red"', "no command has an option colour"),
        ('[predict]\ncolour = "red"', "predict has no option colour"),
        ("[prodict]", "there is no command prodict"),
        ("[predict]\nthreshold = 7", "7"),
        (None, "could not be read"),
    ],
)
def test_a_wrong_configuration_is_2_and_names_the_mistake(folder: Path, tmp_path: Path, content: str | None, sentence: str) -> None:
    file = tmp_path / "config.toml"
    if content is not None:
        file.write_text(content)
    done = run("--config", file, "predict", folder / "001.png")
    assert done.returncode == 2
    assert sentence in done.stderr.decode()


def test_doctor_lists_what_runs_here_and_exits_with_0() -> None:
    done = run("doctor")
    assert done.returncode == 0, done.stdout
    output = done.stdout.decode()
    assert max(len(line) for line in output.splitlines()) <= 80
    report = json.loads(run("doctor", "--json").stdout)
    assert report["ok"] is True
    assert report["chosen"] in {check["name"] for check in report["providers"] if check["ok"]}
    assert {check["name"] for check in report["checks"]} >= {"bundle", "memory", "disk", "one onnxruntime", "one cv2", "provider auto"}
    assert all(check["ok"] is True or check["message"] for check in report["providers"])


def test_doctor_is_1_when_what_was_asked_for_cannot_run(changed: Callable[..., Path]) -> None:
    done = run("doctor", "--provider", "tensorrt")
    if done.returncode == 0:
        pytest.skip("TensorRT runs here")
    assert done.returncode == 1
    assert b"fix the items marked NO" in done.stdout
    broken = changed()
    (broken / "model.int8.onnx").write_bytes(b"x")
    done = run("doctor", "--bundle", broken)
    assert done.returncode == 1
    assert b"wrong SHA-256" in b" ".join(done.stdout.split())


@pytest.mark.parametrize(("provider", "code"), [("cpu", 0), ("tensorrt", 1), ("abacus", 2)])
def test_doctor_heeds_the_variable_as_a_container_that_asks_for_its_health(provider: str, code: int) -> None:
    assert run("doctor", env=os.environ | {"BCD_EDGE_PROVIDER": provider}).returncode == code


def test_two_engines_in_each_others_way_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"onnxruntime": "1.20.0", "onnxruntime-gpu": "1.20.0", "opencv-python-headless": "4.8"}
    monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name, ""))
    report = doctor.examine()
    (both,) = [check for check in report.checks if check.name == "one onnxruntime"]
    assert both.ok is False
    assert both.fix.startswith("pip uninstall -y onnxruntime onnxruntime-gpu")
    assert not report.ok


def test_tune_keeps_what_predict_then_uses(folder: Path, tmp_path: Path) -> None:
    cache = os.environ | {"BCD_EDGE_CACHE": str(tmp_path / "cache")}
    done = run("tune", "--seconds", "0.1", "--provider", "cpu", env=cache)
    assert done.returncode == 0, done.stderr
    assert b"best for" in done.stdout
    assert b"combinations: at least " in done.stderr
    (kept,) = (tmp_path / "cache" / "tune").iterdir()
    rows = json.loads(kept.read_text())["rows"]
    best = max(rows, key=lambda row: row["images_per_s"])["plan"]
    message = run("predict", folder / "001.png", folder / "002.png", "-v", env=cache).stderr.decode()
    assert f"batch={best['batch']}, threads={best['threads']}, streams={best['streams']}" in message
    assert run("tune", "--seconds", "0.1", "--provider", "cuda", env=cache).returncode in (0, 4)


def test_a_tune_that_cannot_be_kept_is_5(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = run("tune", "--seconds", "0.1", env=os.environ | {"BCD_EDGE_CACHE": str(tmp_path / "file")})
    assert done.returncode == 5
    assert b"BCD_EDGE_CACHE" in done.stderr


def test_warmup_says_how_long_it_took() -> None:
    done = run("warmup")
    assert done.returncode == 0
    assert b" 1 stream: " in done.stdout


def test_the_shell_can_complete() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from bcd_edge.cli import main; main(prog_name='bcd-edge')"],
        env=os.environ | {"_BCD_EDGE_COMPLETE": "bash_source"},
        capture_output=True,
    )
    assert b"complete -o nosort -F _bcd_edge_completion bcd-edge" in done.stdout


def test_a_command_imports_only_what_it_uses(folder: Path) -> None:
    script = "import sys; from bcd_edge.cli import main; main(sys.argv[1:], standalone_mode=False); print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script, "predict", str(folder / "001.png"), "--format", "csv", "--provider", "cpu"], capture_output=True, text=True
    )
    loaded = set(done.stderr.split("'"))
    assert "onnxruntime" in loaded
    for name in ("rich.progress", "rich.table", "openvino", "skimage", "psutil", "bcd_edge.system.doctor", "bcd_edge.tune", "bcd_edge.cli.bundle"):
        assert name not in loaded, name
