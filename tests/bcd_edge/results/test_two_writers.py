"""A watcher and a second writer commit to one folder of results, with overlapping contents.

`tests/benchmarks/test_watch.py` kills either of them at random moments; here the second writer is killed at each step.
"""

from __future__ import annotations

import csv
import json
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest

IMAGES = 25
SEED = 11

# What a server would do with each upload: classify, commit, answer. Says what it was told, so that lost answers are noticed.
SERVER = """
import sys
from pathlib import Path
from bcd_edge.options import RunOptions
from bcd_edge.classifier import Classifier
from bcd_edge.results.folder import Results
with Results.open(Path(sys.argv[1])) as results, Classifier.load(options=RunOptions(provider="null")) as classifier:
    results.use(classifier.bundle, classifier.rule)
    for path in map(Path, sys.argv[2:]):
        key = f"upload/{path.name}"
        committed = results.commit(key, classifier.classify(path.read_bytes(), name=key))
        print(committed.answer.sha256, flush=True)
"""


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    (tmp_path / "pictures").mkdir()
    paths = [tmp_path / "pictures" / f"{index:03}.png" for index in range(IMAGES)]
    for index, path in enumerate(paths):
        pixels = np.random.default_rng((SEED, index)).integers(0, 256, (12, 12, 3), np.uint8)
        path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return paths


def watcher(tmp_path: Path, *options: str) -> subprocess.Popen[bytes]:
    quick = (
        "--provider",
        "null",
        "--stable-for",
        "50ms",
        "--scan",
        "200ms",
        "--retry-after",
        "20ms",
        "--min-free",
        "0",
        "--after",
        "move",
        "--quiet",
    )
    command = [sys.executable, "-m", "bcd_edge", "watch", str(tmp_path / "inbox"), "--out", str(tmp_path / "results"), *quick, *options]
    return subprocess.Popen(command)


def server(tmp_path: Path, pictures: list[Path]) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path / "results"), *map(str, pictures)], stdout=subprocess.PIPE, text=True)


def serve(tmp_path: Path, pictures: list[Path]) -> set[str]:
    """A server that ends well; what it promised."""
    with server(tmp_path, pictures) as process:
        promised = process.communicate()[0].split()
    assert process.returncode == 0
    return set(promised)


def hashes(paths: list[Path]) -> set[str]:
    return {sha256(path.read_bytes()).hexdigest() for path in paths}


def account(results: Path, contents: set[str]) -> None:
    """From outside: each content has one answer, one record that is the journal's, and one row that is not a further name."""
    with closing(sqlite3.connect(results / "journal.sqlite3")) as journal:
        done = {row[0]: row[1] for row in journal.execute("SELECT sha256, record FROM images WHERE state = 'done'")}
    assert done.keys() == contents
    records = [path.read_text() for path in (results / "records").rglob("*.json")]
    assert Counter(records) == Counter(f"{record}\n" for record in done.values())
    rows = [row for path in (results / "daily").iterdir() for row in csv.DictReader(path.read_text().splitlines())]
    assert Counter(row["sha256"] for row in rows if not row["intake.same_as"]) == Counter(contents)
    assert max(Counter((row["source"], row["sha256"]) for row in rows).values()) == 1
    assert not list((results / "tmp").iterdir())
    checked = subprocess.run([sys.executable, "-m", "bcd_edge", "watch", "verify", str(results)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


# Steps of a commit: the second writer is killed before or after each, while the watcher answers the same contents.
STEPS = [
    ("staging", "Staging", "wait", "after"),
    ("folder", "Results", "_settle", "after"),
    ("staging", "Staging", "publish", "after"),
    ("journal", "Journal", "insert_image", "after"),
    ("daily", "DailyTables", "append", "after"),
    ("journal", "Journal", "add_to_day", "after"),
    ("folder", "Results", "commit_staged", "after"),
]

KILLED = """
import importlib, itertools, os, signal, sys
module, owner, name, when = sys.argv[1:5]
owner = getattr(importlib.import_module("bcd_edge.results." + module), owner)
real, calls = getattr(owner, name), itertools.count(1)
def killed(*arguments, **options):
    now = next(calls) == 3  # however many the watcher has answered before, some are left
    result = real(*arguments, **options)
    if now:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(owner, name, killed)
del sys.argv[1:5]
"""


@pytest.mark.parametrize("step", STEPS, ids="-".join)
def test_a_second_writer_killed_at_each_step_of_a_commit(tmp_path: Path, pictures: list[Path], step: tuple[str, ...]) -> None:
    (tmp_path / "inbox").mkdir()
    for path in pictures[:20]:
        (tmp_path / "inbox" / path.name).write_bytes(path.read_bytes())
    command = [sys.executable, "-c", KILLED + SERVER, *step, str(tmp_path / "results"), *map(str, pictures[5:])]
    watching = watcher(tmp_path, "--once")
    serving = subprocess.run(command, capture_output=True, text=True)
    assert serving.returncode == -signal.SIGKILL, serving.stderr
    assert watching.wait() == 0
    serve(tmp_path, pictures[5:])
    account(tmp_path / "results", hashes(pictures))


def test_the_second_writer_is_given_the_answer_that_holds(tmp_path: Path, pictures: list[Path]) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "a.png").write_bytes(pictures[0].read_bytes())
    assert watcher(tmp_path, "--once").wait() == 0
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "results" / "records").rglob("*.json")]
    serve(tmp_path, pictures[:1])
    (same,) = [json.loads(path.read_text()) for path in (tmp_path / "results" / "records").rglob("*.json")]
    assert same == record
    rows = [row for path in (tmp_path / "results" / "daily").iterdir() for row in csv.DictReader(path.read_text().splitlines())]
    assert [(row["source"], row["intake.same_as"]) for row in rows] == [("a.png", ""), ("upload/000.png", "a.png")]
