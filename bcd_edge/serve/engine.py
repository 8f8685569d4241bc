"""Pictures of all requests through one pipeline: what waits is batched, answered in a thread, and committed in another."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bcd_edge.classifier import Classifier
from bcd_edge.errors import BcdEdgeError, OutputError
from bcd_edge.pictures import HashedBytes
from bcd_edge.readers import raster
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.records import Record
from bcd_edge.results import pictures
from bcd_edge.results.folder import Results, link
from bcd_edge.results.models import Answer, Committed, intake
from bcd_edge.serve import slide_answers, uploads
from bcd_edge.serve.settings import Settings
from bcd_edge.slides import tiling

log = logging.getLogger(__name__)

# As a watcher's: a flush of the disk for each would take longer than the picture.
BATCH: Final = 64
WRITERS: Final = 8
RETRY_S: Final = 2.0


class BusyError(BcdEdgeError):
    """More pictures wait than may; `retry_after_s` says when to try again, `is_own` whether they are mostly the caller's own."""

    def __init__(self, message: str, retry_after_s: int, *, is_own: bool) -> None:
        super().__init__(message)
        self.retry_after_s, self.is_own = retry_after_s, is_own


@dataclass(eq=False, slots=True)
class Job:
    """One picture to be answered; `answer` gets its record as plain values: a committed one, a failed one, or one of pixels.

    Pixels, uint8 RGB, H x W x 3, have no file, so what they are answered is not committed.
    """

    name: str
    picture: HashedBytes | UInt8Image
    owner: str
    received_at: str
    patient: str | None = None
    slide: str | None = None
    answer: Future[dict[str, Any]] = field(default_factory=Future)
    kept: Future[None] = field(default_factory=Future)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.picture.data) if isinstance(self.picture, HashedBytes) else self.picture.nbytes

    @property
    def file(self) -> HashedBytes:
        """The picture, of a job whose answer is committed."""
        assert isinstance(self.picture, HashedBytes)
        return self.picture


@dataclass(slots=True)
class Stats:
    """Counts since the start."""

    answered: int = 0
    linked: int = 0
    failed: int = 0
    refused: int = 0
    waiting: int = 0
    batches: int = 0

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return {name: getattr(self, name) for name in self.__slots__}


class Engine:
    """Answers pictures until it ends. `problem` is a sentence while the provider or the disk fails, else empty."""

    def __init__(self, settings: Settings, load: Callable[[], Classifier]) -> None:
        """Loads the classifier.

        Raises:
            BcdEdgeError: it cannot be loaded.
        """
        self._settings, self._load, self.classifier = settings, load, load()
        tiling.checked_field_um(self.classifier.bundle, settings.slides.field_um, settings.slides.overlap)
        self.stats, self.problem = Stats(), ""
        self._owners: Counter[str] = Counter()
        self._bytes = 0
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._slides: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._answered: queue.SimpleQueue[tuple[Job, Record] | None] = queue.SimpleQueue()
        self._in_hand: list[Job] = []
        self._writers = ThreadPoolExecutor(WRITERS, "bcd-edge keep")
        self._threads = [
            threading.Thread(target=work, name=f"bcd-edge {work.__name__}") for work in (self._classify, self._classify_slides, self._commit)
        ]
        self._rate = 0.0
        self._is_open = False

    @property
    def is_ready(self) -> bool:
        """Whether pictures get answers."""
        return self._is_open and not self.problem

    def begin(self) -> None:
        """Starts to answer, first what a server that ended has left."""
        self._is_open = True
        for thread in self._threads:
            thread.start()
        for sha256, about in uploads.all_pending(self._settings.results):
            data = (self._settings.results / pictures.kept_path(sha256)).read_bytes()
            self._add(Job(about["name"], HashedBytes(data, sha256), about["owner"], about["received_at"], about["patient"], about["slide"]))

    def end(self) -> None:
        """Answers the pictures that wait, and ends; what was accepted of slides goes on at the next start."""
        self._is_open = False
        self._slides.put(None)
        self._threads[1].join()  # before the thread that commits is told to end
        self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._writers.shutdown()
        self.classifier.close()

    def submit(self, job: Job) -> None:
        """Takes a picture, which is written to `uploads/` meanwhile.

        Raises:
            BusyError: too many wait.
        """
        self.check(job)
        self._add(job)

    def accept(self, root: Path, job: Job) -> None:
        """Takes a picture durably; waits until it is on the disk, and not for its answer."""
        pictures.keep(root, job.file.sha256, job.file.data)
        about = {"name": job.name, "owner": job.owner, "received_at": job.received_at, "patient": job.patient, "slide": job.slide}
        uploads.accept(root, job.file.sha256, about)
        self._add(job)

    def check(self, job: Job) -> None:
        """Whether there is room for another picture.

        Raises:
            BusyError: too many wait.
        """
        limits, size = self._settings, job.size
        with self._lock:
            wait_s = max(1, round(self.stats.waiting / self._rate)) if self._rate else 1
            is_full = self.stats.waiting >= limits.max_waiting or self._bytes + size > max(limits.max_waiting_bytes, size)
            is_own = self._owners[job.owner] >= limits.max_waiting_each
            if is_full or is_own or not self._is_open:
                self.stats.refused += 1
                raise BusyError(
                    f"Too many pictures wait for an answer ({self.stats.waiting}); send this one again in {wait_s} s.", wait_s, is_own=is_own
                )

    def _add(self, job: Job) -> None:
        with self._lock:
            self.stats.waiting += 1
            self._owners[job.owner] += 1
            self._bytes += job.size
        if isinstance(job.picture, HashedBytes):
            job.kept = self._writers.submit(pictures.keep, self._settings.results, job.picture.sha256, job.picture.data)
        is_slide = isinstance(job.picture, HashedBytes) and slide_answers.is_slide(job.picture.data)
        (self._slides if is_slide else self._jobs).put(job)

    def _classify_slides(self) -> None:
        """Answers slides one by one, beside the pictures, which do not wait for them."""
        while (job := self._slides.get()) is not None:
            try:
                job.kept.result()
                self._answered.put((job, slide_answers.answer(self.classifier, self._settings, job, self._check_open)))
            except Exception as error:  # whatever it is, others still wait for an answer
                log.warning("The slide %s has no answer: %s", job.file.sha256[:16], error)
                self._settle(job, error)

    def _check_open(self, done: int, total: int) -> None:
        if not self._is_open:
            raise OutputError(f"The server stops after {done} of {total} tiles; send the slide again, and it goes on with it.")

    def _classify(self) -> None:
        while (first := self._jobs.get()) is not None:
            self._in_hand = [first]
            try:
                self._classify_waiting(first)
            except Exception as error:  # whatever it is, others still wait for an answer
                self._recover(error)
        self._answered.put(None)

    def _classify_waiting(self, first: Job) -> None:
        """Answers one picture without the pipeline's threads, and many with them; those that come meanwhile are among them."""
        if self._jobs.empty():
            self._hand_on(first, self.classifier.classify(first.picture, name=first.name))
            return
        self.stats.batches += 1
        with closing(self.classifier.classify_many(self._waiting(first), name=lambda job: job.name)) as records:
            for job, record in records:
                self._hand_on(job, record)

    def _hand_on(self, job: Job, record: Record) -> None:
        self._in_hand.remove(job)
        if isinstance(job.picture, HashedBytes):
            self._answered.put((job, record))
        else:
            self._settle(job, record)

    def _waiting(self, first: Job) -> Iterator[tuple[Job, HashedBytes | UInt8Image]]:
        yield first, first.picture
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is None:  # the end: for the loop that reads the next
                self._jobs.put(None)
                return
            self._in_hand.append(job)
            yield job, job.picture

    def _recover(self, error: Exception) -> None:
        """Whoever waits is told; what comes next is tried with a provider that was loaded anew."""
        self.problem = str(error)
        log.warning("The provider failed: %s", error)
        for job in self._in_hand:
            self._settle(job, error)
        time.sleep(RETRY_S)
        try:
            self.classifier.close()
            self.classifier = self._load()
        except BcdEdgeError as again:
            log.warning("The provider could not be loaded: %s", again)

    def _commit(self) -> None:
        """Commits what is answered; while the disk is flushed, the next answers gather."""
        with Results.open(self._settings.results) as results:
            results.use(self.classifier.bundle, self.classifier.rule)
            while (entry := self._answered.get()) is not None:
                batch = [entry]
                while len(batch) < BATCH and not self._answered.empty():
                    following = self._answered.get()
                    if following is None:  # the end: for the loop that reads the next
                        self._answered.put(None)
                        break
                    batch.append(following)
                self._commit_batch(results, batch)

    def _commit_batch(self, results: Results, batch: list[tuple[Job, Record]]) -> None:
        started = time.monotonic()
        # the same name and content twice is one answer
        good = {(job.name, job.file.sha256): (job, record) for job, record in batch if record.status == "ok"}
        try:
            for job, record in good.values():
                results.stage(self._answer(results, job, record))
                job.kept.result()
            committed = dict(zip(good, results.commit_staged(lambda entries: _place(results, entries)), strict=True))
        except Exception as error:  # whatever it is, others still wait for an answer
            results.discard_staged()
            self.problem = f"Results cannot be written ({error}); make room."
            log.warning(self.problem)
            for job, _ in batch:
                self._settle(job, OutputError(self.problem))
            return
        self.problem = ""
        for job, record in batch:
            if record.status == "ok":
                uploads.settle(results.root, job.file.sha256)
                self._settle(job, committed[job.name, job.file.sha256])
        for job, record in batch:
            if record.status == "failed":
                self._fail(results.root, job, record)
        self._rate = len(batch) / max(time.monotonic() - started, 1e-3)

    def _answer(self, results: Results, job: Job, record: Record) -> Answer:
        at = results.clock.text()
        header = raster.metadata(job.file.data)
        slide = job.slide or (header.slide and results.display_name(header.slide))
        names = {"patient": job.patient or header.patient, "slide": slide, "study": header.study}
        own = intake(seen=job.received_at, taken=job.received_at, answered=at, **names)
        known = results.journal.known(job.file.sha256, record.execution.bundle_sha256, by_any=False)
        if known and known[0] == "done":
            return link(job.name, known[1], own)
        return Answer(job.name, record.as_dict() | {"intake": own})

    def _fail(self, root: Path, job: Job, record: Record) -> None:
        if uploads.pending(root, job.file.sha256):
            uploads.accept(root, job.file.sha256, {"error": record.error, "record": record.as_dict()})
        self.stats.failed += 1
        self._settle(job, record)

    def _settle(self, job: Job, outcome: Committed | Record | Exception) -> None:
        with self._lock:
            self.stats.waiting -= 1
            self._owners[job.owner] -= 1
            self._bytes -= job.size
        if isinstance(outcome, Exception):
            job.answer.set_exception(outcome)
        elif isinstance(outcome, Record):
            job.answer.set_result(outcome.as_dict())
        else:
            self.stats.answered += outcome.same_as is None
            self.stats.linked += outcome.same_as is not None
            job.answer.set_result(outcome.answer.record)


def _place(results: Results, committed: list[Committed]) -> None:
    """Inside the transaction: where the pictures lie."""
    for entry in committed:
        results.journal.place(entry.answer.key, entry.answer.sha256, pictures.kept_path(entry.answer.sha256))
