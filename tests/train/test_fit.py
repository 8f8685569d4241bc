"""A network trained on drawn pictures: what a run leaves, how it resumes, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from tests.conftest import training_options
from train import checkpoint, runs
from train.__main__ import main
from train.data import split

ROOT = Path(__file__).parents[2]


def fit(*options: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["fit", *map(str, options)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_a_run_leaves_what_a_reviewer_asks_for(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    scores = metrics["test"]["breakhis"]
    assert scores["patients"] == 5
    assert scores["images"] == 15
    assert set(scores["metrics"]) >= {"auroc", "sensitivity", "specificity", "accuracy", "brier"}
    assert all(metric["low"] <= metric["high"] for metric in scores["metrics"].values())
    assert metrics["baseline"]["breakhis"]["auroc"]["value"] > 0.5
    assert len((run / "history.csv").read_text().splitlines()) == 3
    assert len((run / "predictions.csv").read_text().splitlines()) == 16
    assert scores["per_class"]["benign"]["tp"] == scores["confusion"]["tn"]
    assert scores["patient_level"]["images"] == 5
    assert "does not diagnose alone" in (run / "report.html").read_text()
    for name in ("history.png", "breakhis_curves.png", "breakhis_confusion.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    assert checkpoint.load(run / "best.pt")["meta"]["test"] == metrics["test"]
    assert [path.name for path in run.glob(".*")] == [runs.LOCK]


def test_what_was_trained_on_is_what_the_split_says(run: Path) -> None:
    parts = split.read(run / "split.json").parts
    trained = checkpoint.load(run / "best.pt")["meta"]["trained_on"]
    assert set(trained) == {group for group, part in parts.items() if part == "train"}


def test_an_existing_run_is_not_overwritten(run: Path, collection: str) -> None:
    code, output = fit("--data", collection, "--out", run)
    assert code == 1
    assert "--resume" in output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU, so asking for one is no error")
def test_a_gpu_that_is_not_there_is_an_error(collection: str, tmp_path: Path) -> None:
    code, output = fit("--data", collection, "--out", tmp_path / "out", "--device", "cuda")
    assert code == 1
    assert "no CUDA GPU" in output
    assert not (tmp_path / "out").exists()


def test_resume_wants_a_run_and_the_same_settings(run: Path, collection: str, tmp_path: Path) -> None:
    assert "no run to resume" in fit("--data", collection, "--out", tmp_path, "--resume")[1]
    code, output = fit("--data", collection, "--out", run, "--resume", "--network", "tiny", "--size", "32", "--epochs", "2", "--seed", "5")
    assert code == 1
    assert "seed" in output
    assert "batch_size" in output


def test_weights_that_saw_a_held_out_patient_are_refused(run: Path, collection: str, tmp_path: Path) -> None:
    for name in ("best.pt", "last.pt"):
        code, output = fit("--data", collection, "--out", tmp_path / "leaky", "--network", "tiny", "--init", run / name, "--seed", "1")
        assert code == 1
        assert "that this run holds out" in output
    assert "same --seed" in output


KILLS_ITSELF = """
import os, signal, sys
import tests.networks
from train import fit
from train.__main__ import main

step, steps = fit.Training.step, []

def killed_in_the_second_epoch(*arguments):
    steps.append(1)
    if len(steps) == 40:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments)

fit.Training.step = killed_in_the_second_epoch
main()
"""


def test_a_killed_run_resumes_to_the_same_result(run: Path, collection: str, tmp_path: Path) -> None:
    """Killed for real within its second epoch; the losses of both epochs are those of the run that was left alone."""
    out = tmp_path / "killed"
    options = training_options(collection, out)
    process = subprocess.run([sys.executable, "-c", KILLS_ITSELF, "fit", *options], cwd=ROOT, stderr=subprocess.DEVNULL)
    assert process.returncode == -signal.SIGKILL
    assert len(checkpoint.load(out / "last.pt")["history"]) == 1
    code, output = fit(*options, "--resume")
    assert code == 0, output
    resumed, alone = (
        [[float(value) for value in line.split(",")[1:3]] for line in (folder / "history.csv").read_text().splitlines()[1:]] for folder in (out, run)
    )
    assert resumed == [pytest.approx(row, rel=1e-3) for row in alone]


def test_ctrl_c_names_the_command_that_goes_on(collection: str, tmp_path: Path) -> None:
    out = tmp_path / "interrupted"
    script = "import tests.networks; from train.__main__ import main; main()"
    command = [sys.executable, "-c", script, "fit", *training_options(collection, out), "--epochs", "10000"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (out / "last.pt").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Continue with the same command and --resume." in message
    assert "Traceback" not in message


def test_a_second_training_into_one_folder_is_refused(collection: str, tmp_path: Path) -> None:
    with runs.exclusive(tmp_path / "out", ""):
        code, output = fit(*training_options(collection, tmp_path / "out"))
    assert code == 1
    assert "Another training is writing to" in output
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a full disk in a file")
def test_a_full_disk_keeps_the_last_good_checkpoint(run: Path, tmp_path: Path) -> None:
    good = tmp_path / "last.pt"
    checkpoint.save(good, {"model": {}, "epoch": 1})
    (tmp_path / f".{os.getpid()}.last.pt.part").symlink_to("/dev/full")
    with pytest.raises(click.ClickException, match="free some space"):
        checkpoint.save(good, checkpoint.load(run / "best.pt"))
    assert checkpoint.load(good)["epoch"] == 1
