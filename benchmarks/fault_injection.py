"""Faults injected into a watched folder: crashes, misbehaving writers, full disks; the results are counted from outside, file by file."""

from __future__ import annotations

import contextlib
import csv
import ctypes
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from bcd_edge.results.journal import NAME
from benchmarks.tables import Row

QUICK: Final = ("--provider", "null", "--stable-for", "300ms", "--scan", "500ms", "--retry-after", "300ms", "--min-free", "0")
TIMEOUT_S: Final = 120.0
# How long a watcher lives before it is killed: from before it has started to well after.
LIFE_S: Final = (0.5, 4.0)
BURSTS: Final = 20
# prctl(2) and capability.h: without these two, root may not read what its mode forbids either.
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def picture(seed: int, index: int, side: int = 24) -> bytes:
    """A PNG of random pixels, none like another."""
    pixels = np.random.default_rng((seed, index)).integers(0, 256, (side, side, 3), np.uint8)
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


@contextmanager
def watching(inbox: Path, results: Path, *options: str, **how: object) -> Iterator[subprocess.Popen[bytes]]:
    """A watcher in a process of its own, stopped at the end; its log is `RESULTS.log`."""
    command = [sys.executable, "-m", "bcd_edge", "watch", str(inbox), "--out", str(results), *QUICK, *options]
    with results.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **how)  # type: ignore[call-overload]
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) in (0, -signal.SIGTERM), results.with_suffix(".log").read_text()  # the latter if it has hardly started


def until(condition: Callable[[], bool], event: str, timeout_s: float = TIMEOUT_S) -> None:
    """Waits for a condition; `event` names it if it does not come."""
    ends = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends, f"no sign of {event} after {timeout_s:g} s"
        time.sleep(0.05)


def answered(results: Path) -> int:
    """How many contents are done."""
    return sum(row[0] for row in _query(results, "SELECT COUNT(*) FROM images WHERE state = 'done'"))


def _done(results: Path) -> set[str]:
    return {row[0] for row in _query(results, "SELECT sha256 FROM images WHERE state = 'done'")}


def _query(results: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of the journal; none while it is being made."""
    with contextlib.suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{results}/{NAME}?mode=ro", uri=True, timeout=30)) as journal:
        return journal.execute(sql).fetchall()
    return []


def check_accounts(results: Path, expected: set[str], *, only: bool = True) -> str:
    """Asserts that each content has one done row, one whole record and one row of a CSV.

    Args:
        results: of a watcher that has ended.
        expected: SHA-256 of every content that must be answered.
        only: and no other.
    """
    with closing(sqlite3.connect(results / "journal.sqlite3")) as journal:
        rows = Counter(row[0] for row in journal.execute("SELECT sha256 FROM images WHERE state = 'done'"))
    records = [json.loads(file.read_text(encoding="utf-8")) for file in (results / "records").rglob("*.json")]
    listed = [row for file in (results / "daily").iterdir() for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())]
    answers = {
        "rows": rows,
        "records": Counter(record["sha256"] for record in records),
        "CSV rows": Counter(row["sha256"] for row in listed if not row["intake.same_as"]),
    }
    for name, counts in answers.items():
        lost, doubled = expected - counts.keys(), [sha256 for sha256, count in counts.items() if count > 1]
        assert not lost, f"{len(lost)} lost among the {name}"
        assert not doubled, f"{len(doubled)} doubled among the {name}"
        assert not only or counts.keys() == expected, f"{len(counts.keys() - expected)} too many among the {name}"
    assert not list((results / "tmp").iterdir()), "unfinished files were left"
    checked = subprocess.run([sys.executable, "-m", "bcd_edge", "watch", "verify", str(results)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    return checked.stdout.strip()


def crashes(count: int, kills: int, seed: int) -> Row:
    """Images in bursts, the watcher killed at random moments; inputs are moved, so that moving is interrupted as well."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        inbox, results = Path(name, "inbox"), Path(name, "results")
        inbox.mkdir()
        expected: set[str] = set()
        busy = 0
        for turn in range(kills):
            before, upto = answered(results), count * (turn + 1) // kills
            with watching(inbox, results, "--after", "move") as process:
                _bursts(inbox, seed, expected, upto, draw.uniform(*LIFE_S))
                process.kill()
                process.wait()
            busy += before < answered(results) < upto
        run = [sys.executable, "-m", "bcd_edge", "watch", str(inbox), "--out", str(results), *QUICK, "--after", "move", "--once"]
        subprocess.run(run, check=True)
        check_accounts(results, expected)
        kept = Counter(hashlib.sha256(file.read_bytes()).hexdigest() for file in (results / "processed").rglob("*.png"))
        assert kept == Counter(expected), "moved inputs are not what was answered"
        assert not list(inbox.iterdir()), "inputs were left"
    return Row(
        f"{count:,} images in bursts, `kill -9` at {kills} random moments with restart, inputs moved",
        "one answer and one record each; 0 lost, 0 doubled, 0 torn",
        f"{len(expected):,} done; 0 lost, 0 doubled, 0 torn",
        f"seed {seed}; {busy} kills fell between the first answer of a run and its last",
    )


def _bursts(inbox: Path, seed: int, expected: set[str], upto: int, seconds: float) -> None:
    """Adds pictures until there are so many, spread over a time; `expected` holds the hashes of all."""
    first = len(expected)
    for burst in range(BURSTS):
        for index in range(len(expected), first + (upto - first) * (burst + 1) // BURSTS):
            data = picture(seed, index)
            expected.add(hashlib.sha256(data).hexdigest())
            (inbox / f"{index:06}.png").write_bytes(data)
        time.sleep(seconds / BURSTS)


def writers(count: int, seed: int, threads: int = 8) -> Row:
    """Files that are copied slowly, truncated, renamed, replaced and deleted while the watcher looks on."""
    complete: set[str] = set()
    guard = threading.Lock()
    behaviours = (_slowly, _truncated, _renamed, _renamed_late, _replaced, _deleted)
    with tempfile.TemporaryDirectory() as name:
        inbox, results = Path(name, "inbox"), Path(name, "results")
        inbox.mkdir()

        def work(part: int) -> None:
            draw = random.Random(f"{seed} {part}")
            for index in range(part, count, threads):
                first, second = picture(seed, 2 * index), picture(seed, 2 * index + 1)
                with guard:
                    complete.update(hashlib.sha256(data).hexdigest() for data in (first, second))
                draw.choice(behaviours)(inbox / f"{index:06}.png", first, second, draw)

        with watching(inbox, results, "-v"):
            working = [threading.Thread(target=work, args=(part,)) for part in range(threads)]
            for thread in working:
                thread.start()
            for thread in working:
                thread.join()
            left = {hashlib.sha256(file.read_bytes()).hexdigest() for file in inbox.glob("*.png")}
            until(lambda: left <= _done(results), "every file that is left to be answered")
        check_accounts(results, left, only=False)
        contents = _done(results)
        with closing(sqlite3.connect(results / "journal.sqlite3")) as journal:
            states = dict(journal.execute("SELECT state, COUNT(*) FROM files GROUP BY state"))
        retried = results.with_suffix(".log").read_text().count("trying again in")
    partial = contents - complete
    assert not partial, f"{len(partial)} answers from partial files"
    return Row(
        f"{count:,} files by writers that copy slowly, truncate, rename, replace and delete",
        "no answer from a partial file; every complete file answered",
        f"0 answers from a partial file; all {len(left):,} files that were left answered",
        f"seed {seed}; {len(contents):,} contents answered, {states.get('gone', 0)} gone before they were read, {retried} attempts on partial ones",
    )


def _slowly(path: Path, data: bytes, _: bytes, draw: random.Random) -> None:
    with path.open("wb") as file:
        at = 0
        while at < len(data):
            step = draw.randint(1, len(data))
            file.write(data[at : at + step])
            file.flush()
            at += step
            time.sleep(draw.choice((0.01, 0.1, 0.7)))  # the last is longer than the file must hold still


def _truncated(path: Path, data: bytes, _: bytes, draw: random.Random) -> None:
    path.write_bytes(data)
    os.truncate(path, draw.randint(0, len(data) - 1))
    time.sleep(draw.choice((0.0, 0.5)))
    path.write_bytes(data)


def _renamed(path: Path, data: bytes, _: bytes, draw: random.Random) -> None:
    _slowly(path.with_suffix(".part"), data, data, draw)
    path.with_suffix(".part").rename(path)


def _renamed_late(path: Path, data: bytes, _: bytes, draw: random.Random) -> None:
    path.write_bytes(data)
    time.sleep(draw.uniform(0, 0.6))
    path.rename(path.with_name(f"renamed-{path.name}"))


def _replaced(path: Path, data: bytes, other: bytes, draw: random.Random) -> None:
    path.write_bytes(data)
    status = path.stat()
    time.sleep(draw.uniform(0, 0.6))
    beside = path.with_suffix(".tmp")
    beside.write_bytes(other)
    if draw.random() < 0.5:  # as `cp -p` does: only the content and the time of change of status tell
        os.utime(beside, ns=(status.st_atime_ns, status.st_mtime_ns))
    beside.replace(path)


def _deleted(path: Path, data: bytes, _: bytes, draw: random.Random) -> None:
    path.write_bytes(data)
    time.sleep(draw.uniform(0, 0.6))
    path.unlink()


def unreadable_files(seed: int) -> Row:
    """Files without permission to read, given later."""
    with _folders() as (inbox, results):
        expected = drop(inbox, seed, 20)
        for file in list(inbox.iterdir())[::2]:
            file.chmod(0)
        with watching(inbox, results, "--max-attempts", "2", preexec_fn=_without_privileges if os.geteuid() == 0 else None):
            until(lambda: answered(results) == 10, "the files that may be read")
            until(lambda: "may not be read" in results.with_suffix(".log").read_text(), "a message about the others")
            for file in inbox.iterdir():
                file.chmod(0o600)
            until(lambda: answered(results) == 20, "the files that may be read now")
        check_accounts(results, expected)
    return _recovered("unreadable files, in quarantine, then readable", "10 of 20")


def vanishing_inbox(seed: int) -> Row:
    """The inbox taken away, and brought back with more in it."""
    with _folders() as (inbox, results):
        expected = drop(inbox, seed, 10)
        with watching(inbox, results):
            until(lambda: answered(results) == 10, "the first files")
            inbox.rename(inbox.with_name("away"))
            until(lambda: "cannot be read" in results.with_suffix(".log").read_text(), "a message about the inbox")
            expected |= drop(inbox.with_name("away"), seed, 20)
            inbox.with_name("away").rename(inbox)
            until(lambda: answered(results) == 20, "what came with the inbox")
            expected |= drop(inbox, seed, 30)
            until(lambda: answered(results) == 30, "what came after")
        check_accounts(results, expected)
    return _recovered("vanishing inbox", "10 files before, 10 with it, 10 after")


def full_disk(seed: int, *, min_free: int) -> Row:
    """Results on a small tmpfs that another program fills: at once below `--min-free`, or to the last byte if that is 0."""
    work = f"full disk (tmpfs of 4 MB), {'--min-free 1MB' if min_free else '--min-free 0, filled to the last byte'}"
    with _folders() as (inbox, results), _tmpfs(results) as mounted:
        if not mounted:
            return Row(work, "recovers without a restart, nothing lost", "not measured", "mounting a tmpfs needs root")
        ballast = results / "ballast"
        _fill(ballast, least=8192)  # it is full when the watcher starts, too
        with watching(inbox, results / "out", "--min-free", str(min_free)) as process:
            expected = drop(inbox, seed, 10)
            time.sleep(3.0)
            assert process.poll() is None, "it ended on a full disk"
            ballast.unlink()
            until(lambda: answered(results / "out") == 10, "the first files")
            _fill(ballast, least=min_free // 2)
            if min_free:
                until(lambda: "less than --min-free" in (results / "out.log").read_text(errors="replace"), "a message about the disk")
            expected |= drop(inbox, seed, 60)
            if not min_free:  # the log has no room either
                time.sleep(3.0)
            time.sleep(1.0)
            assert answered(results / "out") < 60, "the disk was not full"
            ballast.unlink()
            until(lambda: answered(results / "out") == 60, "the rest, when there is room")
            assert "can be written again" in (results / "out.log").read_text() or min_free, "it was never full"
        check_accounts(results / "out", expected)
    return _recovered(work, "50 files arrived meanwhile")


def _fill(path: Path, least: int) -> None:
    """Writes zeros until only `least` bytes are free."""
    with path.open("wb", buffering=0) as file:
        while shutil.disk_usage(path.parent).free > least:
            try:
                file.write(bytes(min(4096, max(1, shutil.disk_usage(path.parent).free - least))))
            except OSError:
                return


def drop(inbox: Path, seed: int, upto: int) -> set[str]:
    """Adds pictures until there are so many; returns the hashes of all of them."""
    hashes = set()
    for index in range(upto):
        data = picture(seed, index)
        hashes.add(hashlib.sha256(data).hexdigest())
        if not (inbox / f"{index:06}.png").exists():
            (inbox / f"{index:06}.png").write_bytes(data)
    return hashes


def _recovered(work: str, detail: str) -> Row:
    return Row(work, "recovers without a restart, nothing lost", "recovered, nothing lost", detail)


@contextmanager
def _folders() -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory() as name:
        Path(name, "inbox").mkdir()
        yield Path(name, "inbox"), Path(name, "results")


@contextmanager
def _tmpfs(where: Path) -> Iterator[bool]:
    """Whether a tmpfs of 4 MB could be mounted."""
    where.mkdir()
    mounted = (
        os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(where)], capture_output=True).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(where)], check=True)


def _without_privileges() -> None:
    library = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        library.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
