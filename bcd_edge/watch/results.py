"""What a person or a program reads: a JSON result an image, and a CSV a day."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from bcd_edge.outputs import printable
from bcd_edge.outputs.formats.csv import COLUMNS, row
from bcd_edge.results import files
from bcd_edge.watch.journal import Journal
from bcd_edge.watch.models import Answer

WATCHED: Final = ("patient", "slide", "seen", "taken", "answered", "same_as")
HEADS: Final = [*COLUMNS, *(f"watch.{name}" for name in WATCHED)]
HEADER: Final = ",".join(HEADS) + "\n"
DAY: Final = re.compile(r"\d{4}-\d\d-\d\d\.csv")
# Flushes at the same time: beyond this they were not faster on the disks tried.
WRITERS: Final = 8


def result_path(sha256: str, bundle_sha256: str) -> str:
    """Of a content and a bundle alone, so that classifying it once more after a power cut replaces the same file."""
    return f"records/{sha256[:2]}/{sha256}.{bundle_sha256[:12]}.json"


def result_bytes(record: dict[str, Any]) -> bytes:
    """The record as a JSON document, as a line of `predict --format jsonl`; ASCII, because a file's name need not be Unicode."""
    return (json.dumps(record) + "\n").encode()


def naming(db: sqlite3.Connection, *, pseudonymise: bool) -> Callable[[str], str]:
    """How names of files and patients are shown: as they are, or as 16 hexadecimal digits, the same for the same name.

    They are keyed with a secret of this journal: a plain hash of a short number is found by trying all numbers.
    """
    if not pseudonymise:
        return printable
    key = db.execute("SELECT value FROM meta WHERE name = 'pseudonym_key'").fetchone()[0]
    return lambda name: hashlib.blake2b(os.fsencode(name), key=key, digest_size=8).hexdigest()


class Results:
    """The folder of results, made with mode 0700.

    Attributes:
        root: the folder.
        shown: how names are written into the CSV; None for as they are.
    """

    def __init__(self, root: Path, shown: Callable[[str], str] | None) -> None:
        self.root = root
        self._shown = shown or str
        self._writers = ThreadPoolExecutor(WRITERS, "bcd-edge write")
        self._begun: dict[str, tuple[bytes, Future[None]]] = {}
        files.clear_temporary(root)
        (root / "daily").mkdir(exist_ok=True)

    def close(self) -> None:
        self._writers.shutdown()

    def begin(self, path: str, content: bytes) -> None:
        """Begins to write a result; a file system flushes several at once nearly as fast as one."""
        self._begun[path] = (content, self._writers.submit(files.put, self.root, path, content))

    def complete(self) -> None:
        """Waits until everything that was begun outlives a power cut. May be called again after it failed.

        Raises:
            OSError: a result could not be written; it is begun anew.
        """
        for path, (content, writing) in self._begun.items():
            try:
                writing.result()
            except OSError:
                self._begun[path] = (content, self._writers.submit(files.put, self.root, path, content))
                raise
        list(self._writers.map(files.flush_folder, files.folders(self.root, self._begun)))
        self._begun.clear()

    def append(self, journal: Journal, day: str, answers: Iterable[Answer]) -> int:
        """Adds a row for each answer to a day's CSV, flushed; returns its length. Not in the journal yet, so not true yet."""
        path = self._mend(journal, day, journal.day_bytes(day))
        known = journal.day_bytes(day)
        added = "".join(self._row(one.record, one.file.path, one.same_as) for one in answers)
        with path.open("r+b" if path.exists() else "wb") as file:
            file.seek(known)
            file.write(((HEADER if not known else "") + added).encode())
            file.flush()
            os.fsync(file.fileno())
            length = file.tell()
        if not known:
            files.flush_folder(path.parent)
        return length

    def mend(self, journal: Journal) -> None:
        """At the start: cuts off rows that the journal does not have, and writes anew what was deleted or shortened."""
        lengths = {f"{day}.csv": length for day, length in journal.connection.execute("SELECT day, bytes FROM days")}
        for found in (self.root / "daily").iterdir():
            if found.name not in lengths and DAY.fullmatch(found.name):
                found.unlink()
        for name, length in lengths.items():
            self._mend(journal, name.removesuffix(".csv"), length)

    def _mend(self, journal: Journal, day: str, known: int) -> Path:
        path = self.root / "daily" / f"{day}.csv"
        length = path.stat().st_size if path.exists() else 0
        if length > known:
            os.truncate(path, known)
        elif length < known:
            content = (HEADER + "".join(self._rows(journal, day))).encode()
            files.write(self.root, f"daily/{day}.csv", content)
            journal.note_day_bytes(day, len(content))
        return path

    def _rows(self, journal: Journal, day: str) -> Iterable[str]:
        """A day's rows, from the journal."""
        for found in journal.connection.execute(
            """SELECT record, path, names.day, same_as, patient, slide, answered_at FROM names JOIN images USING (sha256, bundle_sha256)
               WHERE day = ? ORDER BY names.rowid""",
            (day,),
        ):
            record = json.loads(found["record"])
            record["watch"] |= {"patient": found["patient"], "slide": found["slide"], "answered": found["answered_at"]}
            yield self._row(record, os.fsdecode(found["path"]), os.fsdecode(found["same_as"]) if found["same_as"] else None)

    def _row(self, record: dict[str, Any], path: str, same_as: str | None) -> str:
        told = record["watch"] | {"same_as": same_as}
        told |= {name: self._shown(told[name]) for name in ("same_as", "patient") if told[name]}
        plain = {key: value for key, value in record.items() if key != "watch"} | {"source": self._shown(path)}
        cells = row(plain | {f"watch.{name}": told[name] for name in WATCHED})
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([cells.get(head) for head in HEADS])
        return text.getvalue()
