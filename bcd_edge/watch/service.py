"""The loop: takes what is due, has it classified, and writes answers down in an order that survives being killed."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from bcd_edge.classifier import Classifier, Hashed
from bcd_edge.errors import ProviderError
from bcd_edge.records import Record
from bcd_edge.results import patients
from bcd_edge.watch import disposal
from bcd_edge.watch.batch import BATCH_S, LONGEST_PAUSE_S, Batch
from bcd_edge.watch.housekeeping import Upkeep
from bcd_edge.watch.journal import Journal
from bcd_edge.watch.models import Answer, File, Setback
from bcd_edge.watch.overlays import Overlays
from bcd_edge.watch.reader import Content, read
from bcd_edge.watch.results import result_bytes
from bcd_edge.watch.scanner import Folder
from bcd_edge.watch.settings import Clock, Requests, Settings, Tally

log = logging.getLogger(__name__)

# Files taken at a time, and bytes of them in memory at most, but for a single file that is larger.
CHUNK: Final = 16
BYTES_IN_HAND: Final = 256 * 2**20
READERS: Final = 4
IDLE_S: Final = 0.2
LOOKS: Final = 500
LONGEST_RETRY_S: Final = 300.0


class Watcher:
    """One run over an inbox, from a start or a reading of the configuration to the next stop.

    Everything but reading, decoding, inferring and writing results happens in the thread that calls `run`.
    """

    def __init__(
        self,
        settings: Settings,
        classifier: Classifier,
        journal: Journal,
        batch: Batch,
        overlays: Overlays,
        folder: Folder,
        upkeep: Upkeep,
        requests: Requests,
        tally: Tally,
        clock: Clock,
        shown: Callable[[str], str],
    ) -> None:
        self.settings, self.classifier, self.journal, self.batch, self.overlays, self.folder = settings, classifier, journal, batch, overlays, folder
        self.upkeep, self.requests, self.tally, self.clock, self.shown = upkeep, requests, tally, clock, shown
        self._readers = ThreadPoolExecutor(READERS, "bcd-edge read")
        self._in_hand: dict[str, tuple[File, str]] = {}  # path to what was taken, and when
        self._in_flight: deque[Content] = deque()
        self._hashes: set[str] = set()
        self._failures = 0

    def run(self) -> None:
        """Watches until something is asked, or with `once` until everything is answered.

        Raises:
            ProviderError: the provider failed too often in a row.
            OutputError: results cannot be written, and the watcher was to stop.
        """
        try:
            while not self.requests.anything:
                self._keep_up()
                explaining = False
                if self.upkeep.low:
                    self.overlays.busy()
                    self.upkeep.say("the disk is nearly full: waiting for room")
                elif self.journal.is_due(self.clock.now()):
                    self.overlays.busy()
                    self.upkeep.say("classifying")
                    self._round()
                    continue
                else:
                    explaining = self.overlays.advance()
                    self.upkeep.say("explaining" if explaining else self.folder.problem or "waiting for images")
                if self.settings.once and not explaining and self._is_drained():
                    break
                self.requests.pause(min(IDLE_S, self.settings.settle_s / 4))
        finally:
            self._readers.shutdown(wait=False, cancel_futures=True)
            self.classifier.close()

    def _is_drained(self) -> bool:
        walked = self.folder.walks > 0 or self.folder.problem is not None
        return walked and self.folder.looks.empty() and (self.upkeep.low or not self.journal.unanswered())

    def _keep_up(self) -> None:
        """Hears of what the folder saw, writes answers down, and does what is due beside."""
        now = self.clock.now()
        if looks := self.folder.seen(LOOKS):
            self.batch.persist(lambda: self.journal.saw(looks, now, self.settings.settle_s, self.clock.text()))
        if self.batch.is_due():
            self._flush()
        self.batch.put_away(only_if_due=True)
        self.upkeep.tick()

    def _round(self) -> None:
        """Classifies what is due, until nothing is. What was in hand when something broke is tried alone, first."""
        suspects = self.journal.due(self.clock.now(), 1, suspect=True)
        try:
            with contextlib.closing(self.classifier.classify_many(self._alone(suspects[0]) if suspects else self._due())) as records:
                for record in records:
                    self._answered(self._in_flight.popleft(), record)
                    self._keep_up()
            self._flush()
        except ProviderError as error:
            self._provider_failed(error)

    def _alone(self, file: File) -> Iterator[tuple[str, Hashed]]:
        """What was in hand when this program ended by force: once more, but not for ever."""
        if file.tries < self.settings.tries:
            yield from self._taken([file])
        else:
            self._failed(Content(file, "read"), f"The program ended {file.tries} times with it in hand.", last=True)

    def _due(self) -> Iterator[tuple[str, Hashed]]:
        """Name and bytes of everything that is due and not answered before; ends where it must be begun anew."""
        while not self.requests.anything and not self.upkeep.low:
            now = self.clock.now()
            if self.journal.due(now, 1, suspect=True):
                return
            files = self._fitting(self.journal.due(now, CHUNK, suspect=False))
            if not files:
                return
            yield from self._taken(files)
            self._keep_up()

    def _fitting(self, files: list[File]) -> list[File]:
        """As many as memory is meant for, beside what is in flight; one in any case, if nothing is."""
        room = BYTES_IN_HAND - sum(len(one.data) for one in self._in_flight)
        fitting: list[File] = []
        for file in files:
            room -= file.look.size
            if room < 0 and (fitting or self._in_flight):
                break
            fitting.append(file)
        return fitting

    def _taken(self, files: list[File]) -> Iterator[tuple[str, Hashed]]:
        at = self.clock.text()
        self.batch.persist(lambda: self.journal.take(files, at))
        self._in_hand |= {file.path: (file, at) for file in files}
        places = [self.journal.moved(file) for file in files]
        inbox, results = self.settings.inbox, self.settings.results
        for future in [self._readers.submit(read, file, inbox, results, place) for file, place in zip(files, places, strict=True)]:
            content = future.result()
            if self._is_new(content):
                self._hashes.add(content.sha256)
                self._in_flight.append(content)
                yield content.file.path, Hashed(content.data, content.sha256)

    def _is_new(self, content: Content) -> bool:
        """Whether bytes were read that must be classified; what becomes of a file otherwise is noted."""
        file, now = content.file, self.clock.now()
        if content.state == "changed" and content.now:
            looks = [content.now]
            self._in_hand.pop(file.path)
            self.batch.persist(lambda: self.journal.saw(looks, now, self.settings.settle_s, self.clock.text()))
        elif content.state == "gone" and self.folder.inbox.is_dir():
            log.info("%s was deleted before it was read.", self.shown(file.path))
            self.batch.note(Setback(file, "gone", "It was deleted before it was read.", None))
        elif content.state == "gone":
            self.batch.note(Setback(file, "seen", None, now + self.settings.settle_s, file.tries, file.suspect))
        elif content.state == "unreadable":
            self._failed(content, content.reason, again=True)
        elif content.sha256 in self._hashes:  # the same is being classified under another name: soon it is known
            self.batch.note(Setback(file, "seen", None, now + min(self.settings.settle_s, BATCH_S), file.tries, file.suspect))
        elif known := self.journal.answered(content.sha256, by_any=not self.settings.reprocess):
            self._link(content, *known)
        else:
            return True
        return False

    def _link(self, content: Content, state: str, record: dict[str, Any]) -> None:
        if state == "quarantined":
            self._failed(content, f"{record['error']} (the same content as an earlier file)", last=True)
            return
        told = self._told(content.file)
        plain = record | {"watch": record["watch"] | {name: told[name] for name in ("patient", "slide", "answered")}}
        self.batch.add(Answer(content.file, content.sha256, plain, None, record["source"], *self._after(content), False))
        self.tally.linked += 1
        log.info("%s: the same as %s, %s", self.shown(content.file.path), self.shown(record["source"]), record["decision"])

    def _answered(self, content: Content, record: Record) -> None:
        if record.status == "failed":
            self._hashes.discard(content.sha256)
            self._failed(content, str(record.error), record=record.as_dict() | {"watch": self._told(content.file)})
            return
        self._failures = 0
        plain = record.as_dict() | {"watch": self._told(content.file)}
        result = result_bytes(plain)
        hashed = hashlib.sha256(result).hexdigest()
        self.batch.add(Answer(content.file, content.sha256, plain, hashed, None, *self._after(content), self.settings.overlay), result)
        self.tally.decisions[str(record.decision)] += 1
        fields = {"file": self.shown(content.file.path), "sha256": content.sha256, "decision": record.decision, "p_malignant": record.p_malignant}
        log.info("%s: %s, p %.3f", fields["file"], record.decision, record.p_malignant, extra={"fields": fields})

    def _told(self, file: File) -> dict[str, Any]:
        patient, slide = patients.find(self.settings.patients, file.path.rpartition("/")[2])
        _, taken = self._in_hand[file.path]
        return {"patient": patient, "slide": slide, "seen": file.seen_at, "taken": taken, "answered": self.clock.text()}

    def _after(self, content: Content) -> tuple[str, str | None]:
        """What becomes of the input, and where it will lie."""
        after = self.settings.after
        if content.moved:
            return "keep", None
        return after, disposal.target_path(content.file.path, content.sha256, self.clock.day(), self.settings.results) if after == "move" else None

    def _failed(
        self, content: Content, reason: str, *, again: bool = False, last: bool = False, record: dict[str, Any] | None = None, suspect: bool = False
    ) -> None:
        """A file is tried later, or goes to quarantine; there, too, what could not be read is tried `again`."""
        file, tries = content.file, content.file.tries + 1
        quarantined = last or tries >= self.settings.tries
        wait = min(self.settings.retry_s * 2 ** min(tries - 1, 30), LONGEST_RETRY_S)
        due = None if quarantined and not again else self.clock.now() + (LONGEST_RETRY_S if quarantined else wait)
        state = "quarantined" if quarantined else "failed"
        self.batch.note(Setback(file, state, reason, due, tries, suspect, content.sha256 or None, record if quarantined else None))
        told = "in quarantine; mend it, or see: bcd-edge watch retry" if quarantined else f"trying again in {wait:g} s"
        if not (quarantined and file.tries >= self.settings.tries):  # said before
            log.log(logging.WARNING if quarantined else logging.INFO, "%s: %s Now %s.", self.shown(file.path), reason, told)

    def _flush(self) -> None:
        for one in self.batch.flush():
            self._in_hand.pop(one.file.path, None)
            if isinstance(one, Answer):
                self._hashes.discard(one.sha256)

    def _provider_failed(self, error: ProviderError) -> None:
        """Keeps what was answered, puts back what was in hand, rests, and starts the provider anew.

        A single image that breaks the provider again and again, while others pass, is the culprit.
        """
        self._flush()
        alone = len(self._in_hand) == 1
        self._in_flight.clear()
        self._hashes.clear()
        for file, _ in list(self._in_hand.values()):
            if alone and file.suspect:
                self._failed(Content(file, "read"), f"The provider failed with it alone: {error}", suspect=True)
            else:
                self.batch.note(Setback(file, "seen", None, self.clock.now(), file.tries, True))
        self._flush()
        while True:
            self._failures += 1
            self.tally.provider_failures += 1
            if self._failures >= self.settings.provider_tries:
                raise ProviderError(f"The provider failed {self._failures} times in a row, nothing is lost; see: bcd-edge doctor. {error}")
            wait = min(self.settings.retry_s * 2 ** (self._failures - 1), LONGEST_PAUSE_S)
            log.warning("The provider failed (%s); trying again in %g s.", error, wait)
            self.upkeep.say("the provider failed: pausing")
            self.upkeep.beat()
            self.requests.pause(wait)
            if self.requests.anything:
                return
            try:
                self.classifier.close()
                self.classifier = Classifier.load(**self.settings.model, purpose="throughput")
                return
            except ProviderError as again:
                error = again
