"""A folder of results that answers are committed to, by any number of processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from bcd_edge.bundle import Bundle
from bcd_edge.decision import DecisionRule
from bcd_edge.errors import OutputError
from bcd_edge.records import Record
from bcd_edge.results.clock import Clock
from bcd_edge.results.daily import DailyTables
from bcd_edge.results.journal import NAME, Journal
from bcd_edge.results.models import Answer, Committed, intake
from bcd_edge.results.pseudonyms import naming
from bcd_edge.results.records import result_bytes, result_path
from bcd_edge.results.staging import TEMPORARY, Staging, clear_abandoned
from bcd_edge.system.atomic import atomic_write


class Results:
    """Commits answers: exactly one for each content and bundle, whoever else commits to the folder. One object per thread.

        with Results.open(folder) as results, Classifier.load() as classifier:
            results.use(classifier.bundle, classifier.rule)
            record = classifier.classify(data, name="upload.png")
            committed = results.commit("upload.png", record)

    Attributes:
        root: the folder.
        journal: its journal.
        clock: what is written down as the time.
        display_name: how names of files and patients appear in logs and pages; in the CSVs, too, where they are pseudonyms.
    """

    def __init__(self, root: Path, journal: Journal, clock: Clock) -> None:
        self.root, self.journal, self.clock = root, journal, clock
        pseudonymise = journal.setting("pseudonymise")
        self.display_name = naming(journal.connection, pseudonymise=pseudonymise)
        self.tables = DailyTables(str(root), journal, self.display_name if pseudonymise else str, excel=journal.setting("excel"))
        self._staging = Staging(str(root))
        self._staged: list[Answer] = []

    @classmethod
    def open(cls, root: Path, *, pseudonymise: bool | None = None, excel: bool | None = None, clock: Clock | None = None) -> Results:
        """Opens a folder of results; makes it, for this user alone, if it is not there.

        Args:
            root: the folder.
            pseudonymise: whether names are replaced by hashes in CSVs and pages from now on; as the folder has it if not given.
            excel: whether CSVs are written as Excel opens them; as the folder has it if not given.
            clock: another one, for a test.

        Raises:
            OutputError: the journal is damaged or belongs to another version.
            OSError: the folder cannot be written.
        """
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        journal = Journal(root / NAME)
        try:
            clear_abandoned(str(root))
            with journal.transaction(flushed=True):
                changed = [journal.change_setting(name, value) for name, value in (("pseudonymise", pseudonymise), ("excel", excel))]
                results = cls(root, journal, clock or Clock())
                if any(changed):
                    results.tables.rewrite_all()
                results.tables.repair_all()
        except BaseException:
            journal.close()
            raise
        return results

    def close(self) -> None:
        """Answers that were staged and not committed are dropped."""
        self._staging.close()
        self.journal.close()

    def __enter__(self) -> Results:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def use(self, bundle: Bundle, rule: DecisionRule) -> None:
        """Notes which bundle answers from now on, and the rule that decides what all images of a patient say together."""
        self.journal.use_bundle(bundle.sha256, bundle.name, rule, self.clock.text())

    def commit(self, key: str, record: Record, *, patient: str | None = None, slide: str | None = None, overlay: bool = False) -> Committed:
        """Commits one answer, flushed to the disk.

        Args:
            key: the image's name.
            record: what was answered, with status `ok`.
            patient: whose image it is.
            slide: which slide of the patient.
            overlay: whether an overlay is to be drawn later.

        Returns:
            What the journal has now: the record of another process, if that has answered this content first.

        Raises:
            OutputError: the record is a failed one.
            OSError: it could not be written; nothing is committed.
            sqlite3.OperationalError: the disk is full, or another process keeps the journal locked.
        """
        if record.status != "ok" or record.sha256 is None:
            raise OutputError(f"The record of {key} is a failed one, not an answer; commit records with status ok.")
        at = self.clock.text()
        plain = record.as_dict() | {"intake": intake(seen=at, taken=at, answered=at, patient=patient, slide=slide)}
        self.stage(Answer(key, plain, overlay))
        try:
            return self.commit_staged()[-1]
        finally:
            self.discard_staged()

    def stage(self, answer: Answer) -> None:
        """Takes an answer for the next `commit_staged`, and starts to write its record."""
        self._staged.append(answer)
        if not answer.is_link and _path(answer) not in self._staging:
            self._staging.add(_path(answer), result_bytes(answer.record))

    @property
    def staged(self) -> int:
        """How many answers wait for `commit_staged`."""
        return len(self._staged)

    def discard_staged(self) -> None:
        """Drops what was staged and not committed."""
        self._staged.clear()
        self._staging.clear()

    def commit_staged(self, also: Callable[[list[Committed]], None] = lambda committed: None) -> list[Committed]:
        """Commits everything that was staged in one flushed transaction; see `bcd_edge.results` for the order.

        May be called again after it failed.

        Args:
            also: called inside the transaction with what is committed; what it writes to the journal becomes true with it.

        Raises:
            OSError: a file could not be written; nothing is committed.
            sqlite3.OperationalError: likewise the journal.
        """
        self._staging.wait()
        with self.journal.transaction(flushed=bool(self._staged)):
            committed = self._settle()
            new = [entry.answer for entry in committed if entry.same_as is None]
            self._staging.publish(_path(answer) for answer in new)
            for answer in new:
                self.journal.insert_image(answer.record, self._staging.content(_path(answer)), overlay=answer.overlay)
            named = [entry for entry in committed if entry.is_new]
            if named:
                day = self.clock.day()
                length = self.tables.append(day, named)  # first, because it repairs the CSV from the names that are there
                for entry in named:
                    self.journal.insert_name(entry, day)
                self.journal.add_to_day(day, length, named)
            also(committed)
        self.discard_staged()
        return committed

    def replace_record(self, record: dict[str, Any]) -> None:
        """Writes the record of an answered image anew, in the caller's transaction."""
        sha256, bundle_sha256 = record["sha256"], record["execution"]["bundle_sha256"]
        content = result_bytes(record)
        self.restore_record(sha256, bundle_sha256, content)
        self.journal.replace_record(sha256, bundle_sha256, content)

    def restore_record(self, sha256: str, bundle_sha256: str, content: bytes) -> None:
        """Writes the file of a record anew, in the caller's transaction."""
        path = os.path.join(self.root, result_path(sha256, bundle_sha256))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        atomic_write(path, content, temporary=os.path.join(self.root, TEMPORARY), durable=True)

    def _settle(self) -> list[Committed]:
        """What each staged answer becomes, now that no other process can answer: the answer, or a further name of an earlier one."""
        settled: dict[tuple[str, str], dict[str, Any]] = {}
        return [self._settled(answer, settled) for answer in self._staged]

    def _settled(self, answer: Answer, settled: dict[tuple[str, str], dict[str, Any]]) -> Committed:
        content = (answer.sha256, answer.bundle_sha256)
        known = None if answer.is_link else settled.get(content) or self._done(*content)
        record = answer.record if known is None else known | {"intake": known["intake"] | _own(answer)}
        settled[content] = record if known is None else known
        same_as = record["source"] if answer.is_link or known else None
        is_new = not self.journal.is_named(answer.key, *content)
        return Committed(Answer(answer.key, record, answer.overlay, same_as is not None), same_as, is_new)

    def _done(self, sha256: str, bundle_sha256: str) -> dict[str, Any] | None:
        known = self.journal.known(sha256, bundle_sha256, by_any=False)
        return known[1] if known and known[0] == "done" else None


def link(key: str, earlier: dict[str, Any], own: dict[str, Any]) -> Answer:
    """A further name of an answered content: the earlier record, with patient, slide and time of this name."""
    names = ("patient", "slide", "answered")
    return Answer(key, earlier | {"intake": earlier["intake"] | {name: own[name] for name in names}}, is_link=True)


def _own(answer: Answer) -> dict[str, Any]:
    return {name: answer.record["intake"][name] for name in ("patient", "slide", "answered")}


def _path(answer: Answer) -> str:
    return result_path(answer.sha256, answer.bundle_sha256)
