"""What watching a folder costs, and the table of docs/reliability.md."""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from bcd_edge import Classifier, bundle
from bcd_edge.interleaved import in_turns
from bcd_edge.options import RunOptions
from bcd_edge.outputs.formats import csv as csv_output
from bcd_edge.results.clock import Clock
from bcd_edge.results.journal import Journal
from bcd_edge.results.models import Answer, Committed, intake
from bcd_edge.results.records import result_bytes
from bcd_edge.synthetic import tissue
from bcd_edge.watch.models import QueuedFile
from bcd_edge.watch.queue import FileQueue
from bcd_edge.watch.run import watch
from bcd_edge.watch.scanner import FileStat
from bcd_edge.watch.settings import ControlSignals, Settings, Stats
from benchmarks import fault_injection, two_writers
from benchmarks.tables import Row, markdown, put, shown

BATCH: Final = 64
DISTINCT: Final = 60


def measure(out: Path | None, seed: int, *, full: bool) -> None:
    """Runs everything, prints the table, and puts it between the marks `watch` of `out`.

    Args:
        out: a Markdown file.
        seed: of pictures, moments and behaviours.
        full: the sizes that are promised; otherwise a twentieth or less.
    """
    rows: tuple[Callable[[], Row], ...] = (
        lambda: fault_injection.crashes(10_000 if full else 200, 30 if full else 4, seed),
        lambda: two_writers.second_writer(3_000 if full else 90, 12 if full else 2, seed),
        lambda: fault_injection.writers(2_000 if full else 96, seed, 32 if full else 16),
        lambda: fault_injection.full_disk(seed, min_free=0),
        lambda: fault_injection.full_disk(seed, min_free=1_000_000),
        lambda: fault_injection.unreadable_files(seed),
        lambda: fault_injection.vanishing_inbox(seed),
        lambda: clock_jump(seed, 200),
        lambda: overhead(100_000 if full else 2_000),
        lambda: memory(100_000 if full else 1_000, seed),
        lambda: throughput(1_200 if full else 24, turns=5 if full else 1),
    )
    measured = shown(row() for row in rows)
    put(f"Seed {seed}. " + markdown(bundle.open().name, measured), out, "watch")


def clock_jump(seed: int, count: int) -> Row:
    """The wall clock goes back a day in the middle of a run."""
    asked = 0

    def wall() -> datetime:
        nonlocal asked
        asked += 1
        return datetime.fromisoformat("2026-03-02T00:10:00" if asked < 3 * count // 4 else "2026-03-01T00:10:00")

    with tempfile.TemporaryDirectory() as name:
        inbox, results = _folders(name)
        wanted = fault_injection.drop(inbox, seed, count)
        _once(inbox, results, clock=Clock(wall=wall), stats=Stats())
        fault_injection.check_accounts(results, wanted)
        days = sorted(file.stem for file in (results / "daily").iterdir())
    return Row(
        "clock jumping back by a day in the middle of a run",
        "recovers without a restart, nothing lost",
        "nothing lost, nothing doubled",
        f"{count} files, in the CSVs of {' and '.join(days)}",
    )


def overhead(rows: int) -> Row:
    """What the journal costs per image, from its first sight to the flushed answer, in batches as the watcher writes them."""
    with tempfile.TemporaryDirectory() as name, closing(Journal(Path(name, "journal.sqlite3"))) as journal:
        queue = FileQueue(journal)
        times = []
        for start in range(0, rows, BATCH):
            began = time.perf_counter()
            _journalled(journal, queue, start)
            times.append(1000 * (time.perf_counter() - began) / BATCH)
        assert journal.connection.execute("SELECT COUNT(*) FROM images WHERE state = 'done'").fetchone()[0] >= rows
        last = times[-max(1, len(times) // 10) :]
        return Row(
            f"journal overhead at {rows:,} rows",
            "under 1 ms an image",
            f"{sum(last) / len(last):.2f} ms",
            f"mean of the last tenth, batches of {BATCH}, flushed; first tenth {sum(times[: len(last)]) / len(last):.2f} ms, "
            f"journal {Path(name, 'journal.sqlite3').stat().st_size / 1e6:.0f} MB",
        )


def _journalled(journal: Journal, queue: FileQueue, start: int) -> None:
    queue.note_seen([FileStat(f"inbox/{index:06}.png", 1000 + index, index, index) for index in range(start, start + BATCH)], 0.0, 0.0, _AT)
    files = queue.due(0.0, BATCH, poison=False)
    queue.take(files, _AT)
    with journal.transaction(flushed=True):
        committed = [_committed(journal, queue, file) for file in files]
        journal.add_to_day("2026-01-01", 1000 * (start + BATCH), committed)


def _committed(journal: Journal, queue: FileQueue, file: QueuedFile) -> Committed:
    sha256 = hashlib.sha256(file.path.encode()).hexdigest()
    assert journal.known(sha256, "b" * 64, by_any=True) is None
    answer = Answer(file.path, _RECORD | {"sha256": sha256, "source": file.path})
    committed = Committed(answer, None, not journal.is_named(file.path, sha256, "b" * 64))
    journal.insert_image(answer.record, result_bytes(answer.record), overlay=False)
    journal.insert_name(committed, "2026-01-01")
    queue.note_done(file, sha256, _AT)
    return committed


_AT: Final = "2026-01-01T12:00:00.000+00:00"
_RECORD: Final[dict[str, Any]] = {
    **{"source": "", "sha256": "", "status": "ok", "error": None, "label": "benign", "p_malignant": 0.1, "decision": "benign"},
    "reasons": ["p_malignant 0.100 is below 0.159, where the review band begins"],
    "timing_ms": {"decode": 6.4, "resize": 1.2, "infer": 2.6, "total": 10.2},
    "execution": {
        **{"provider": "cpu", "device": "a processor", "precision": "int8", "bundle": "resnet50-breast 2", "bundle_sha256": "b" * 64},
        **{"version": "0.1.0", "requested": "auto"},
    },
    "intake": intake(seen=_AT, taken=_AT, answered=_AT),
}


def memory(count: int, seed: int) -> Row:
    """Resident memory of a watcher after a tenth of the files and after all."""
    with tempfile.TemporaryDirectory() as name:
        inbox, results = _folders(name)
        for index in range(count):
            folder = inbox / f"{index // 1000:03}"
            folder.mkdir(exist_ok=True)
            pixels = np.random.default_rng((seed, index)).integers(0, 256, (8, 8, 3), np.uint8)
            (folder / f"{index:06}.bmp").write_bytes(cv2.imencode(".bmp", pixels)[1].tobytes())
        command = [sys.executable, "-m", "bcd_edge", "watch", str(inbox), "--out", str(results), *fault_injection.QUICK, "--once", "--quiet"]
        process = subprocess.Popen(command)
        tenth, last = 0.0, 0.0
        while process.poll() is None:
            resident = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8"))
            last = int(resident[1]) / 1024 if resident else last
            if not tenth and fault_injection.answered(results) >= count // 10:
                tenth = last
            time.sleep(0.1)
        assert process.returncode == 0
        assert fault_injection.answered(results) == count
    detail = f"null provider; {tenth:.0f} MiB after a tenth, {last:.0f} MiB at the end"
    return Row(f"memory over {count:,} files", "flat", f"{last - tenth:+.0f} MiB", detail)


def throughput(count: int, turns: int) -> Row:
    """Images per second from the first taken to the last answered, beside what `predict` does with the same files; in turns."""
    with tempfile.TemporaryDirectory() as name, Classifier.load(purpose="throughput") as classifier:
        inbox = Path(name, "inbox")
        inbox.mkdir()
        files = _tissues(inbox, count)
        results = (Path(name, f"results-{turn}") for turn in itertools.count())
        measures = {"predict": lambda: _predict_s(classifier, files, Path(name, "predictions.csv")), "watch": lambda: _watch_s(inbox, next(results))}
        seconds = in_turns(measures, turns + 1)
        ran = classifier.execution
    predict, watched = (count / float(np.median(seconds[key][1:])) for key in measures)  # the first turn finds cold caches
    return Row(
        f"throughput: {count:,} PNGs of 700 x 460, beside `bcd-edge predict`",
        "at least 90 % of it",
        f"{100 * watched / predict:.0f} %",
        f"{ran.provider} {ran.precision}: {watched:.0f} images/s, predict {predict:.0f}; medians of {turns} turns",
    )


def _predict_s(classifier: Classifier, files: Sequence[Path], csv: Path) -> float:
    started = time.perf_counter()
    with csv.open("w", encoding="utf-8") as stream:
        output = csv_output.open(stream)
        for _, record in classifier.classify_many((file, file) for file in files):
            output.write(record)
        output.close()
    return time.perf_counter() - started


def _watch_s(inbox: Path, results: Path) -> float:
    _once(inbox, results, provider=None, stats=Stats())
    assert fault_injection.answered(results) == len(list(inbox.iterdir()))
    return _seconds(results)


def _seconds(results: Path) -> float:
    with closing(sqlite3.connect(results / "journal.sqlite3")) as journal:
        first, last = journal.execute("SELECT MIN(taken_at), MAX(ended_at) FROM images").fetchone()
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()


def _tissues(folder: Path, count: int) -> list[Path]:
    """Generated tissue; the same pictures come again with a comment that makes their bytes others."""
    files = []
    pictures = [cv2.imencode(".png", tissue(seed)[..., ::-1])[1].tobytes() for seed in range(min(count, DISTINCT))]
    for index in range(count):
        files.append(folder / f"{index:05}.png")
        files[-1].write_bytes(_commented(pictures[index % len(pictures)], f"{index}"))
    return files


def _commented(png: bytes, text: str) -> bytes:
    """With a tEXt chunk before the end (PNG specification, 11.3.4.3)."""
    import zlib

    chunk = b"tEXtComment\0" + text.encode()
    return png[:-12] + (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + png[-12:]


def _folders(name: str) -> tuple[Path, Path]:
    Path(name, "inbox").mkdir()
    return Path(name, "inbox"), Path(name, "results")


def _once(inbox: Path, results: Path, *, stats: Stats, provider: str | None = "null", clock: Clock | None = None) -> None:
    logging.getLogger("bcd_edge").setLevel(logging.ERROR)
    settings = Settings(inbox, results, {"options": RunOptions(provider=provider)}, stable_for_s=0.1, events=False, once=True)
    watch(settings, ControlSignals(), stats, lambda: settings, clock)
