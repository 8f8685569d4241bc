"""The loop: has classified what the reader reads, and hands the answers to be committed."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bcd_edge.classifier import Classifier
from bcd_edge.errors import BcdEdgeError, InputError, OutputError, ProviderError
from bcd_edge.pictures import HashedBytes
from bcd_edge.readers import slide
from bcd_edge.records import Record
from bcd_edge.results import patients
from bcd_edge.results.folder import Results, link
from bcd_edge.results.models import Answer, intake
from bcd_edge.slides import classify as slides
from bcd_edge.slides import tiling
from bcd_edge.watch import disposal
from bcd_edge.watch.batch import BATCH_S, LONGEST_PAUSE_S, Batch
from bcd_edge.watch.disposal import Disposer
from bcd_edge.watch.housekeeping import Housekeeping
from bcd_edge.watch.models import FailedAttempt, QueuedFile
from bcd_edge.watch.overlays import Overlays
from bcd_edge.watch.queue import FileQueue
from bcd_edge.watch.reader import Content, Reader
from bcd_edge.watch.scanner import Scanner
from bcd_edge.watch.settings import Session

log = logging.getLogger(__name__)

IDLE_S: Final = 0.2
FETCHED: Final = 500
LONGEST_RETRY_S: Final = 300.0


class _InterruptedError(Exception):
    """The watcher stops, or its configuration is read again."""


class Watcher:
    """One run over an inbox, from a start or a reading of the configuration to the next stop.

    Everything but reading, decoding, inferring and writing records happens in the thread that calls `run`.
    """

    def __init__(self, session: Session, classifier: Classifier, results: Results, scanner: Scanner) -> None:
        self.session, self.settings, self.classifier, self.results, self.scanner = session, session.settings, classifier, results, scanner
        self.queue = FileQueue(results.journal)
        self.housekeeping = Housekeeping(session, results, self.queue, scanner)
        self.batch = Batch(session, results, self.queue, self.housekeeping)
        self.disposer = Disposer(session, results, self.queue, self.batch.persist)
        self.overlays = Overlays(session, results, classifier.bundle.sha256, self.batch.persist, self.disposer.run)
        self.reader = Reader(session, self.queue, results, classifier.bundle.sha256, self.batch.persist)
        self._provider_failures = 0

    def run(self) -> None:
        """Watches until anything is asked, or with `once` until everything is answered.

        Raises:
            ProviderError: the provider failed too often in a row.
            OutputError: results cannot be written, and the watcher was to stop.
        UsageError: the bundle does not know tiles of the size that is asked for.
        """
        state = "stopped"
        try:
            self._begin()
            while not self.session.signals.any:
                self._keep_up()
                if not self._work():
                    break
        except BcdEdgeError as error:
            state = f"ended: {error}"
            raise
        finally:
            self.reader.close()
            self.overlays.close()
            self.classifier.close()
            self.housekeeping.finish(state)

    def _begin(self) -> None:
        now = self.session.clock.now()
        tiling.checked_field_um(self.classifier.bundle, self.settings.slides.field_um, self.settings.slides.overlap)
        self.results.use(self.classifier.bundle, self.classifier.rule)
        self.queue.begin(now, self.settings.stable_for_s)
        if self.settings.reprocess and (count := self.queue.reprocess(self.classifier.bundle.sha256, now)):
            log.warning("%d files that only another bundle has answered are classified again.", count)
        if self.settings.patients and patients.is_outdated(self.results, self.settings.patients):
            log.warning("Some images were answered without --patients or with another pattern; to correct them: bcd-edge watch recount")

    def _work(self) -> bool:
        """Classifies what is due, or waits a moment; returns whether to go on."""
        explaining = False
        if self.housekeeping.low:
            self.overlays.pause()
            self.housekeeping.set_state("the disk is nearly full: waiting for room")
        elif self.queue.is_due(self.session.clock.now()):
            self.overlays.pause()
            self.housekeeping.set_state("classifying")
            self._classify_due()
            return True
        else:
            explaining = self.overlays.advance()
            self.housekeeping.set_state("explaining" if explaining else self.scanner.problem or "waiting for images")
        if self.settings.once and not explaining and self._is_drained():
            return False
        self.session.signals.wait(min(IDLE_S, self.settings.stable_for_s / 4))
        return True

    def _is_drained(self) -> bool:
        scanned = self.scanner.scans > 0 or self.scanner.problem is not None
        return scanned and self.scanner.seen.empty() and (self.housekeeping.low or not self.queue.unanswered())

    def _keep_up(self) -> None:
        """Queues what the scanner saw, commits answers, and does what is due beside."""
        if files := self.scanner.fetch(FETCHED):
            now, at = self.session.clock.now(), self.session.clock.text()
            self.batch.persist(lambda: self.queue.note_seen(files, now, self.settings.stable_for_s, at))
        if self.batch.is_due():
            self._commit()
        self.disposer.run(only_if_due=True)
        self.housekeeping.tick()

    def _classify_due(self) -> None:
        """Classifies what is due, until nothing is. What was in hand when something broke is tried alone, first."""
        poison = self.queue.due(self.session.clock.now(), 1, poison=True)
        if poison and poison[0].attempts >= self.settings.max_attempts:
            self._fail(poison[0], f"The program ended {poison[0].attempts} times with it in hand.", last=True)
            self._commit()
            return
        contents = self.reader.contents(poison) if poison else self.reader.due(self._should_pause)
        try:
            with contextlib.closing(self.classifier.classify_many(_pictures(contents), name=lambda content: content.file.path)) as records:
                for content, record in records:
                    self._settle(self.reader.returned(content), record)
                    self._keep_up()
            self._commit()
        except ProviderError as error:
            self._recover(error)

    def _should_pause(self) -> bool:
        return self.session.signals.any or self.housekeeping.low

    def _settle(self, content: Content, record: Record) -> None:
        """What becomes of a file that was read."""
        file, now = content.file, self.session.clock.now()
        if content.state == "new" and content.slide:
            self._classify_slide(content, content.slide)
        elif content.state == "new":
            self._answer(content, record)
        elif content.state == "answered" and content.record:
            self.batch.add(file, link(file.path, content.record, self._intake(content)), *self._after(content))
        elif content.state == "quarantined" and content.record:
            self._fail(file, f"{content.record['error']} (the same content as an earlier file)", last=True, sha256=content.sha256)
        elif content.state == "duplicate":  # the same is being classified under another name: soon it is known
            self._postpone(file, min(self.settings.stable_for_s, BATCH_S))
        elif content.state == "changed" and content.now:
            stat, at = content.now, self.session.clock.text()
            self.reader.release(file, None)
            self.batch.persist(lambda: self.queue.note_seen([stat], now, self.settings.stable_for_s, at))
        elif content.state == "part":
            self.batch.fail(FailedAttempt(file, "gone", "It is a part of a slide that another file stands for.", None))
        elif content.state == "unreadable":
            self._fail(file, content.reason, again=True)
        elif self.scanner.inbox.is_dir():
            log.info("%s was deleted before it was read.", self.results.display_name(file.path))
            self.batch.fail(FailedAttempt(file, "gone", "It was deleted before it was read.", None))
        else:
            self._postpone(file, self.settings.stable_for_s)

    def _classify_slide(self, content: Content, path: str) -> None:
        """Classifies a slide while everything else waits; one that is interrupted goes on after the next start."""
        folder = os.path.join(slides.FOLDER, content.sha256[:16])
        title = self.results.display_name(content.file.path)
        settings = replace(self.settings.slides, folder=self.results.root / folder, title=title, um_per_pixel=self.settings.model.get("um_per_pixel"))
        try:
            record = slides.classify(self.classifier, Path(path), settings, name=content.file.path, progress=self._on_tile)
        except _InterruptedError:
            self._postpone(content.file, 0.0)
            return
        except OutputError as error:
            if self.session.signals.any or self.settings.once:
                raise
            log.warning("%s Trying again in %g s.", error, LONGEST_PAUSE_S)
            self._postpone(content.file, LONGEST_PAUSE_S)
            self.reader.release(content.file, content.sha256)
            return
        if record.slide:
            record = replace(record, slide=replace(record.slide, files=folder))
        self._answer(content, record)

    def _on_tile(self, done: int, total: int) -> None:
        if self.session.signals.any:
            raise _InterruptedError
        self._keep_up()

    def _answer(self, content: Content, record: Record) -> None:
        plain = record.as_dict() | {"sha256": content.sha256, "intake": self._intake(content)}
        if record.status == "failed":
            self._fail(content.file, str(record.error), sha256=content.sha256, record=plain)
            return
        self._provider_failures = 0
        self.batch.add(content.file, Answer(content.file.path, plain, self.settings.overlay and record.kind == "image"), *self._after(content))

    def _intake(self, content: Content) -> dict[str, Any]:
        times = {"seen": content.file.seen_at, "taken": content.taken_at, "answered": self.session.clock.text()}
        header = content.metadata
        if header.patient or header.study:  # a file that says whose it is needs no pattern
            slide = header.slide and self.results.display_name(header.slide)  # often an accession number, and shown as it is kept
            return intake(**times, patient=header.patient, slide=slide, study=header.study)
        patient, slide = patients.match(self.settings.patients, content.file.path)
        return intake(**times, patient=patient, slide=slide)

    def _after(self, content: Content) -> tuple[str, str | None]:
        """What to do with the input, and where it will lie."""
        if content.slide and slide.is_of_several_files(content.slide):  # what would be left of it is of no use, or would be answered again
            return "keep", None
        if content.moved or self.settings.after != "move":
            return "keep" if content.moved else self.settings.after, None
        return "move", disposal.target_path(content.file.path, content.sha256, self.session.clock.day(), self.results.root)

    def _postpone(self, file: QueuedFile, seconds: float) -> None:
        self.batch.fail(FailedAttempt(file, "seen", None, self.session.clock.now() + seconds, file.attempts, file.poison))

    def _fail(
        self,
        file: QueuedFile,
        reason: str,
        *,
        again: bool = False,
        last: bool = False,
        poison: bool = False,
        sha256: str = "",
        record: dict[str, Any] | None = None,
    ) -> None:
        """A file is tried later, or goes to quarantine; there, too, what could not be read is tried `again`."""
        attempts = file.attempts + 1
        quarantined = last or attempts >= self.settings.max_attempts
        wait = min(self.settings.retry_s * 2 ** min(attempts - 1, 30), LONGEST_RETRY_S)
        due = None if quarantined and not again else self.session.clock.now() + (LONGEST_RETRY_S if quarantined else wait)
        state = "quarantined" if quarantined else "failed"
        self.batch.fail(FailedAttempt(file, state, reason, due, attempts, poison, sha256 or None, record if quarantined else None))
        if not (quarantined and file.attempts >= self.settings.max_attempts):  # reported before
            held = f"It is in quarantine; fix it, then: bcd-edge watch retry {self.results.root}"
            outcome = held if quarantined else f"Trying again in {wait:g} s."
            log.log(logging.WARNING if quarantined else logging.INFO, "%s: %s %s", self.results.display_name(file.path), reason, outcome)

    def _commit(self) -> None:
        files = self.batch.commit()
        for file, sha256 in files:
            self.reader.release(file, sha256)
        if files and self.settings.after != "keep":
            self.disposer.run()

    def _recover(self, error: ProviderError) -> None:
        """Keeps what was answered, puts back what was in hand, waits, and loads the provider anew.

        A single image that makes the provider fail again and again, while others pass, is the cause.
        """
        self._commit()
        files = self.reader.give_up()
        for file in files:
            if len(files) == 1 and file.poison:
                self._fail(file, f"The provider failed with it alone: {error}", poison=True)
            else:
                self.batch.fail(FailedAttempt(file, "seen", None, self.session.clock.now(), file.attempts, True))
        self._commit()
        failure: ProviderError | None = error
        while failure:
            failure = self._load_anew(failure)

    def _load_anew(self, error: ProviderError) -> ProviderError | None:
        """Waits and loads the provider; returns why that failed, and None also where anything was asked meanwhile.

        Raises:
            ProviderError: it failed too often in a row.
        """
        self._provider_failures += 1
        self.session.stats.provider_failures += 1
        if self._provider_failures >= self.settings.max_provider_attempts:
            raise ProviderError(f"The provider failed {self._provider_failures} times in a row, nothing is lost; see: bcd-edge doctor. {error}")
        wait = min(self.settings.retry_s * 2 ** (self._provider_failures - 1), LONGEST_PAUSE_S)
        log.warning("The provider failed (%s); trying again in %g s.", error, wait)
        self.housekeeping.set_state("the provider failed: waiting")
        self.housekeeping.beat()
        self.session.signals.wait(wait)
        if self.session.signals.any:
            return None
        try:
            self.classifier.close()
            self.classifier = Classifier.load(**self.settings.model, purpose="throughput")
        except ProviderError as again:
            return again
        return None


def _pictures(contents: Iterable[Content]) -> Iterator[tuple[Content, HashedBytes | InputError]]:
    for content in contents:
        yield content, content.picture
