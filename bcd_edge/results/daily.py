"""The CSV of a day: one row per name that was answered on it. Written under the journal's write lock."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from bcd_edge.outputs.formats.csv import COLUMNS, row
from bcd_edge.outputs.formats.excel import BYTE_ORDER_MARK, safe
from bcd_edge.results.journal import Journal
from bcd_edge.results.models import Committed
from bcd_edge.results.staging import TEMPORARY
from bcd_edge.system.atomic import atomic_write, flush_folder

INTAKE: Final = ("patient", "slide", "seen", "taken", "answered", "same_as")
HEADS: Final = [*COLUMNS, *(f"intake.{name}" for name in INTAKE)]
FOLDER: Final = "daily"
DAY: Final = re.compile(r"\d{4}-\d\d-\d\d\.csv")


class DailyTables:
    """The CSVs of a folder of results. The journal has the length of each; what lies beyond it was never committed."""

    def __init__(self, root: str, journal: Journal, display_name: Callable[[str], str], *, excel: bool) -> None:
        self._root, self._journal, self._display_name, self._excel = root, journal, display_name, excel
        self._header = (BYTE_ORDER_MARK if excel else "") + ",".join(HEADS) + "\n"
        os.makedirs(os.path.join(root, FOLDER), exist_ok=True)

    def append(self, day: str, committed: Iterable[Committed]) -> int:
        """Adds a row for each, flushed; returns the CSV's length, which is not in the journal yet and so not true yet.

        Raises:
            OSError: it could not be written.
        """
        known = self.repair(day)
        path = self._path(day)
        added = "".join(self._row(entry.answer.record, entry.answer.key, entry.same_as) for entry in committed)
        with open(path, "r+b" if os.path.exists(path) else "wb") as file:
            file.seek(known)
            file.write(((self._header if not known else "") + added).encode())
            file.flush()
            os.fsync(file.fileno())
            length = file.tell()
        if not known:
            flush_folder(os.path.dirname(path))
        return length

    def repair_all(self) -> None:
        """Cuts off rows that were never committed, and writes anew what was deleted or shortened."""
        with self._journal.transaction(flushed=True) as db:
            days = {f"{day}.csv" for (day,) in db.execute("SELECT day FROM days")}
            for name in os.listdir(os.path.join(self._root, FOLDER)):
                if name not in days and DAY.fullmatch(name):
                    os.unlink(os.path.join(self._root, FOLDER, name))
            for name in days:
                self.repair(name.removesuffix(".csv"))

    def rewrite_all(self) -> None:
        """Writes every day anew, for example because names are shown in another way now; in the caller's transaction."""
        for (day,) in self._journal.connection.execute("SELECT day FROM days").fetchall():
            self.rewrite(day)

    def repair(self, day: str) -> int:
        """The same for one day, in the caller's transaction; returns its length."""
        path, known = self._path(day), self._known(day)
        length = os.path.getsize(path) if os.path.exists(path) else 0
        if length > known:
            os.truncate(path, known)
        return known if length == known or (length > known and self._is_whole(day)) else self.rewrite(day)

    def rewrite(self, day: str) -> int:
        """Writes a day anew from the journal, in the caller's transaction; returns its length."""
        content = (self._header + "".join(self._rows(day))).encode()
        atomic_write(self._path(day), content, temporary=os.path.join(self._root, TEMPORARY), durable=True)
        self._journal.connection.execute("UPDATE days SET bytes = ? WHERE day = ?", (len(content), day))
        return len(content)

    def _is_whole(self, day: str) -> bool:
        """Whether a CSV that was cut holds the rows of the journal: rewriting it may have been killed, too."""
        rows = self._journal.connection.execute("SELECT COUNT(*) FROM names WHERE day = ?", (day,)).fetchone()[0]
        with open(self._path(day), encoding="utf-8", errors="replace", newline="") as file:
            text = file.read()
        if not text:
            return not rows
        try:
            return text.endswith("\n") and sum(1 for _ in csv.reader(io.StringIO(text, newline=""), strict=True)) == rows + 1
        except csv.Error:
            return False

    def _path(self, day: str) -> str:
        return os.path.join(self._root, FOLDER, f"{day}.csv")

    def _known(self, day: str) -> int:
        length = self._journal.connection.execute("SELECT bytes FROM days WHERE day = ?", (day,)).fetchone()
        return length["bytes"] if length else 0

    def _rows(self, day: str) -> Iterator[str]:
        for name in self._journal.connection.execute(
            """SELECT record, path, names.day, same_as, patient, slide, answered_at FROM names JOIN images USING (sha256, bundle_sha256)
               WHERE day = ? ORDER BY names.rowid""",
            (day,),
        ):
            record = json.loads(name["record"])
            record["intake"] |= {"patient": name["patient"], "slide": name["slide"], "answered": name["answered_at"]}
            yield self._row(record, os.fsdecode(name["path"]), os.fsdecode(name["same_as"]) if name["same_as"] else None)

    def _row(self, record: dict[str, Any], key: str, same_as: str | None) -> str:
        intake = record["intake"] | {"same_as": same_as}
        intake |= {name: self._display_name(intake[name]) for name in ("same_as", "patient") if intake[name]}
        plain = {name: value for name, value in record.items() if name != "intake"} | {"source": self._display_name(key)}
        cells = row(plain | {f"intake.{name}": intake[name] for name in INTAKE})
        text, values = io.StringIO(), [cells.get(head) for head in HEADS]
        csv.writer(text, lineterminator="\n").writerow(map(safe, values) if self._excel else values)
        return text.getvalue()
