"""Killed with SIGKILL at every step that touches the disk, then started again: one answer each, nothing torn, inputs moved once."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]

# Module, class or nothing, function, whether it is killed before or after it, and at which call.
STEPS = [
    ("watch.queue", "FileQueue", "note_seen", "after", 1),
    ("watch.queue", "FileQueue", "take", "after", 1),
    ("system.atomic", "", "write", "after", 5),
    ("results.staging", "Staging", "wait", "before", 1),
    ("results.staging", "Staging", "wait", "after", 1),
    ("results.staging", "Staging", "publish", "before", 1),
    ("results.staging", "Staging", "publish", "after", 1),
    ("results.daily", "DailyTables", "append", "after", 1),
    ("results.journal", "Journal", "insert_name", "after", 3),
    ("results.journal", "Journal", "add_to_day", "after", 1),
    ("watch.queue", "FileQueue", "add_disposal", "after", 3),
    ("results.folder", "Results", "commit_staged", "after", 1),
    ("watch.disposal", "", "_status", "after", 2),
    ("watch.disposal", "", "_move", "before", 2),
    ("watch.disposal", "", "_move", "after", 2),
    ("watch.queue", "FileQueue", "note_disposed", "before", 1),
    ("results.journal", "Journal", "place", "after", 2),
    ("watch.queue", "FileQueue", "note_disposed", "after", 1),
]

SCRIPT = """
import importlib, itertools, os, signal, sys
module, owner, name, when, call = sys.argv[1:6]
place = importlib.import_module("bcd_edge." + module)
place = getattr(place, owner) if owner else place
real, calls = getattr(place, name), itertools.count(1)
def killed(*arguments, **options):
    now = next(calls) == int(call)
    if when == "before" and now:
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*arguments, **options)
    if when == "after" and now:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(place, name, killed)
if module == "system.atomic":
    importlib.import_module("bcd_edge.results.staging").write = killed
from bcd_edge.cli import main
main(sys.argv[6:])
"""


def accounts(place: Any, wanted: set[str]) -> None:
    """From outside: rows, results, lines and moved inputs are exactly those that are wanted, each once."""
    assert Counter(place.query("SELECT sha256 FROM images WHERE state = 'done'")) == Counter(wanted)
    assert Counter(record["sha256"] for record in place.records()) == Counter(wanted)
    assert Counter(row["sha256"] for row in place.rows()) == Counter(wanted)
    moved = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (place.results / "processed").rglob("*.png")]
    assert Counter(moved) == Counter(wanted)
    assert not list(place.inbox.iterdir())
    assert not list((place.results / "tmp").iterdir())
    verification = place.verification()
    assert (verification.problems, verification.strays) == ((), ())


@pytest.mark.parametrize("step", STEPS, ids=lambda step: "-".join(map(str, step)))
def test_killed_at_a_step(place: Any, step: tuple[str, str, str, str, int]) -> None:
    place.drop(*(f"{index}.png" for index in range(20)))
    wanted = {hashlib.sha256(path.read_bytes()).hexdigest() for path in place.inbox.iterdir()}
    command = [sys.executable, "-c", SCRIPT, *map(str, step), *place.command("--once", "--after", "move")[3:]]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    place.run(after="move")
    accounts(place, wanted)


def test_killed_at_random_moments_while_images_arrive(place: Any) -> None:
    seed = 5
    draw = random.Random(seed)
    wanted = set()
    for turn in range(4):
        process = subprocess.Popen(place.command("--after", "move"), stderr=subprocess.DEVNULL)
        ends = time.monotonic() + draw.uniform(0.5, 3.0)
        index = 0
        while time.monotonic() < ends:
            data = place.picture(f"{turn}-{index}")
            wanted.add(hashlib.sha256(data).hexdigest())
            (place.inbox / f"{turn}-{index}.png").write_bytes(data)
            index += 1
            time.sleep(0.005)
        process.kill()
        process.wait()
    print(f"seed {seed}, {len(wanted)} images")
    place.run(after="move")
    accounts(place, wanted)


def test_what_ends_the_program_again_and_again_goes_to_quarantine(place: Any) -> None:
    place.drop(*(f"{index}.png" for index in range(8)))
    place.drop_without_blue("5.png")
    script = """
import os, sys
from bcd_edge.backends.fake import FakeBackend, darkness
from bcd_edge.backends.providers import null
from bcd_edge.cli import main
from tests.bcd_edge.watch.conftest import without_blue
null.open = lambda *_: FakeBackend(lambda batch: os._exit(9) if without_blue(batch) else darkness(batch), provider="null")
main(sys.argv[1:])
"""
    codes = []
    while not codes or codes[-1] == 9:
        command = [sys.executable, "-c", script, *place.command("--once")[3:]]
        codes.append(subprocess.run(command, cwd=ROOT, capture_output=True).returncode)
        assert len(codes) < 8
    assert codes[-1] == 1
    assert place.done() == 7
    ((path, reason),) = place.query("SELECT path, reason FROM files WHERE state = 'quarantined'")
    assert path == b"5.png"
    assert "ended 3 times" in reason
