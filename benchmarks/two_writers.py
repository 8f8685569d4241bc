"""A watcher and a second writer commit to one folder of results, and one of them is killed at random moments."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from bcd_edge.watch.lock import is_locked
from benchmarks import fault_injection
from benchmarks.tables import Row

# As a server would: classify an upload, commit it, and only then acknowledge it by its hash.
WRITER = """
import sys
from pathlib import Path
from bcd_edge import Classifier
from bcd_edge.options import RunOptions
from bcd_edge.results.folder import Results
with Results.open(Path(sys.argv[1])) as results, Classifier.load(options=RunOptions(provider="null")) as classifier:
    results.use(classifier.bundle, classifier.rule)
    for path in sorted(Path(sys.argv[2]).iterdir(), reverse=sys.argv[3] == "backwards"):
        key = f"upload/{path.name}"
        print(results.commit(key, classifier.classify(path.read_bytes(), name=key)).answer.sha256, flush=True)
"""


def second_writer(count: int, kills: int, seed: int) -> Row:
    """Both are given overlapping contents; in turns the watcher and the writer are killed, then both finish."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        inbox, uploads, results = Path(name, "inbox"), Path(name, "uploads"), Path(name, "results")
        inbox.mkdir()
        uploads.mkdir()
        dropped, uploaded = _pictures(inbox, seed, range(2 * count // 3)), _pictures(uploads, seed, range(count // 3, count))
        acknowledged: set[str] = set()
        for turn in range(kills):
            with fault_injection.watching(inbox, results, "--after", "move") as watcher:
                writer = _writer(results, uploads, backwards=turn % 4 > 1)
                acknowledged |= _killed(results, watcher, writer, draw.uniform(*fault_injection.LIFE_S), watcher_dies=turn % 2 == 0)
        with fault_injection.watching(inbox, results, "--after", "move"):
            acknowledged |= set(_writer(results, uploads).communicate()[0].split())
            fault_injection.until(lambda: fault_injection.answered(results) == len(dropped | uploaded), "the rest")
        assert acknowledged == uploaded, "an upload was not acknowledged in the end"
        fault_injection.check_accounts(results, dropped | uploaded)
        moved = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (results / "processed").rglob("*.png")}
        assert moved == dropped, "moved inputs are not what was answered"
        assert not list(inbox.iterdir()), "inputs were left"
        with closing(sqlite3.connect(results / "journal.sqlite3")) as journal:
            linked = journal.execute("SELECT COUNT(*) FROM names WHERE same_as IS NOT NULL").fetchone()[0]
    return Row(
        f"{count:,} images by a watcher and a second writer, a third of them by both, `kill -9` on either, {kills} times",
        "one answer and one record each; 0 lost, 0 doubled, 0 torn",
        f"{len(dropped | uploaded):,} done; 0 lost, 0 doubled, 0 torn",
        f"seed {seed}; {linked:,} further names of contents that the other one had answered",
    )


def _killed(results: Path, watcher: subprocess.Popen[bytes], writer: subprocess.Popen[str], seconds: float, *, watcher_dies: bool) -> set[str]:
    """Kills one of them after some seconds; what the writer had acknowledged."""
    time.sleep(seconds)
    if watcher_dies:
        watcher.kill()
        watcher.wait()
    else:
        writer.kill()
        fault_injection.until(lambda: is_locked(results), "the watcher, which listens to signals by then")
    return set(writer.communicate()[0].split())


def _writer(results: Path, uploads: Path, *, backwards: bool = False) -> subprocess.Popen[str]:
    order = "backwards" if backwards else "forwards"
    return subprocess.Popen([sys.executable, "-c", WRITER, str(results), str(uploads), order], stdout=subprocess.PIPE, text=True)


def _pictures(folder: Path, seed: int, indices: range) -> set[str]:
    hashes = set()
    for index in indices:
        data = fault_injection.picture(seed, index)
        (folder / f"{index:06}.png").write_bytes(data)
        hashes.add(hashlib.sha256(data).hexdigest())
    return hashes
