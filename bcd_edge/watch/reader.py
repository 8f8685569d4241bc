"""Takes due files from the queue, reads each whole, and says what it needs. Commits nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from bcd_edge.errors import InputError
from bcd_edge.pictures import HashedBytes
from bcd_edge.readers import raster, slide
from bcd_edge.readers.metadata import Metadata
from bcd_edge.results.folder import Results
from bcd_edge.watch.models import QueuedFile
from bcd_edge.watch.queue import FileQueue
from bcd_edge.watch.scanner import FileStat, stat
from bcd_edge.watch.settings import Session

# Files taken at a time, and bytes of them in memory at most, except for a single file that is larger.
CHUNK: Final = 16
BYTES_IN_HAND: Final = 256 * 2**20
READERS: Final = 4

NOTHING: Final = Metadata()

State = Literal["new", "answered", "quarantined", "duplicate", "changed", "gone", "part", "unreadable"]


@dataclass(frozen=True, slots=True)
class Content:
    """What became of reading a file.

    Attributes:
        file: as it was in the queue.
        state: `new` must be classified; `answered` and `quarantined` are known from an earlier file (`record`); a `duplicate` is
            being classified under another name; `changed` since it was seen (as `now`), `gone`, a `part` of a slide that another file stands for,
            `unreadable` (because of `reason`).
        data: the bytes; none of a whole slide.
        slide: where the file lies, if it is a whole slide.
        sha256: of the bytes.
        metadata: what the file's header says.
        reason: a sentence.
        now: the file as it is now.
        moved: where it lies below the results, if it is not in the inbox any more.
        record: of the earlier file.
        taken_at: ISO 8601.
    """

    file: QueuedFile
    state: State
    data: bytes = b""
    slide: str | None = None
    sha256: str = ""
    metadata: Metadata = NOTHING
    reason: str = ""
    now: FileStat | None = None
    moved: str | None = None
    record: dict[str, Any] | None = None
    taken_at: str = ""

    @property
    def picture(self) -> HashedBytes | InputError:
        """For a classifier; what is not to be classified passes through it as an error, so that everything keeps its order."""
        if self.state == "new" and self.slide is None:
            return HashedBytes(self.data, self.sha256)
        return InputError(f"It is not classified here: {self.state}.")


class Reader:
    """Reads what is due; keeps account of what is in hand, from `contents` until `release`."""

    def __init__(
        self, session: Session, queue: FileQueue, results: Results, bundle_sha256: str, persist: Callable[[Callable[[], None]], None]
    ) -> None:
        self._session, self._queue, self._results = session, queue, results
        self._bundle_sha256, self._persist = bundle_sha256, persist
        self._threads = ThreadPoolExecutor(READERS, "bcd-edge read")
        self._bytes = 0
        self._classifying: set[str] = set()
        self.in_hand: dict[str, QueuedFile] = {}

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def due(self, should_end: Callable[[], bool]) -> Iterator[Content]:
        """Everything that is due, in its order; ends where nothing is, where a poison file is, or where it `should_end`."""
        while not should_end():
            now = self._session.clock.now()
            if self._queue.due(now, 1, poison=True):
                return
            files = self._fitting(self._queue.due(now, CHUNK, poison=False))
            if not files:
                return
            yield from self.contents(files)

    def contents(self, files: list[QueuedFile]) -> Iterator[Content]:
        """Takes files and reads them, several at the same time."""
        at = self._session.clock.text()
        self._persist(lambda: self._queue.take(files, at))
        self.in_hand |= {file.path: file for file in files}
        places = [self._results.journal.placed(file.path, file.sha256) for file in files]
        inbox, root = self._session.settings.inbox, self._results.root
        for future in [self._threads.submit(read, file, inbox, root, place) for file, place in zip(files, places, strict=True)]:
            content = replace(self._recognised(future.result()), taken_at=at)
            self._bytes += len(content.data)
            if content.state == "new":
                self._classifying.add(content.sha256)
            yield content

    def returned(self, content: Content) -> Content:
        """The content without its bytes, which are not needed any more."""
        self._bytes -= len(content.data)
        return replace(content, data=b"")

    def release(self, file: QueuedFile, sha256: str | None) -> None:
        """A file has its new state in the journal."""
        self.in_hand.pop(file.path, None)
        self._classifying.discard(sha256 or "")

    def give_up(self) -> list[QueuedFile]:
        """Forgets everything; returns what was in hand."""
        files = list(self.in_hand.values())
        self.in_hand.clear()
        self._classifying.clear()
        self._bytes = 0
        return files

    def _fitting(self, files: list[QueuedFile]) -> list[QueuedFile]:
        """As many as there is memory for, beside what is in hand; at least one, if nothing is."""
        room = BYTES_IN_HAND - self._bytes
        fitting: list[QueuedFile] = []
        for file in files:
            room -= file.stat.size
            if room < 0 and (fitting or self._bytes):
                break
            fitting.append(file)
        return fitting

    def _recognised(self, content: Content) -> Content:
        """With what the journal knows of the same bytes."""
        if content.state != "new":
            return content
        if content.sha256 in self._classifying:
            return replace(content, state="duplicate")
        known = self._results.journal.known(content.sha256, self._bundle_sha256, by_any=not self._session.settings.reprocess)
        if known is None:
            return content
        return replace(content, state="quarantined" if known[0] == "quarantined" else "answered", record=known[1])


def read(file: QueuedFile, inbox: Path, results: Path, moved: str | None) -> Content:
    """Reads a file between two looks at its status, which must be as it was when it was seen first.

    Args:
        file: as it was seen first.
        inbox: where it lies.
        results: the folder of results.
        moved: where below the results it was moved after an earlier answer, if it was.

    Returns:
        A content that is `new`, `changed`, `gone`, a `part` or `unreadable`.
    """
    try:
        now = stat(inbox, file.path)
        if now is None:
            return replace(_content(file, os.path.join(results, moved)), moved=moved) if moved else Content(file, "gone")
        if now != file.stat:
            return Content(file, "changed", now=now)
        content = _content(file, os.path.join(inbox, file.path))
        after = stat(inbox, file.path)
    except OSError as error:
        return Content(file, "unreadable", reason=f"The file's status could not be read ({error.strerror}).")
    if after is None:
        return Content(file, "gone")
    return content if after == now else Content(file, "changed", now=after)


def _content(file: QueuedFile, path: str) -> Content:
    if slide.is_installed() and slide.recognises(path):
        if slide.is_secondary(path):
            return Content(file, "part")
        return Content(file, "new", slide=path, sha256=slide.sha256(path), metadata=slide.metadata(path))
    try:
        data = raster.read(path)
    except InputError as error:
        return Content(file, "unreadable", reason=str(error).replace(path, "The file"))
    return Content(file, "new", data, sha256=hashlib.sha256(data).hexdigest(), metadata=raster.metadata(data))
