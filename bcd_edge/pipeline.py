"""A pipeline from items to answers: decoding and inference overlap in threads, order is kept, memory is bounded.

Threads suffice, because OpenCV, hashing and the engines release the global interpreter lock while they work.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from bcd_edge.errors import InputError

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")


# A network share that was disconnected does not respond sooner.
TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """How work is distributed.

    Attributes:
        decoders: number of threads that prepare items.
        streams: number of threads that run inference, each on a batch at a time.
        batch: maximum number of items per inference.
        timeout_s: seconds that preparing one item may take; after that the item fails and the rest continues.
        batch_timeout_s: seconds without a new item after which an incomplete batch runs, so that an image that decodes
            slowly does not delay others.
        shutdown_timeout_s: seconds that closing waits for threads that are inside an engine or a decoder; they are daemon
            threads, so nothing waits longer.
    """

    decoders: int = 2
    streams: int = 1
    batch: int = 1
    timeout_s: float = TIMEOUT_S
    batch_timeout_s: float = 0.05
    shutdown_timeout_s: float = 0.8

    @property
    def window(self) -> int:
        """Maximum number of items in progress: enough for every stream to run a batch while its next one is prepared."""
        return 2 * (self.decoders + self.streams * self.batch)


class _Slot(Generic[Item, Prepared, Answer]):
    """One item in progress. `started` is when its preparation began; `answer` is yielded once it is `done`."""

    __slots__ = ("answer", "done", "item", "prepared", "started")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.started: float | None = None
        self.prepared: Prepared | None = None
        self.answer: Answer | InputError | None = None
        self.done = False


class _Pipeline(Generic[Item, Prepared, Answer]):
    """The state that the threads share, guarded by `changed`."""

    def __init__(self, prepare: Callable[[Item], Prepared], infer: Callable[[Sequence[Prepared]], Sequence[Answer]], config: PipelineConfig) -> None:
        self.prepare, self.infer, self.config = prepare, infer, config
        self.changed = threading.Condition()
        self.todo: queue.SimpleQueue[_Slot[Item, Prepared, Answer] | None] = queue.SimpleQueue()
        self.ready: queue.SimpleQueue[_Slot[Item, Prepared, Answer] | None] = queue.SimpleQueue()
        self.gathering = threading.Lock()  # one inference thread fills its batch at a time
        self.preparing = 0
        self.failure: BaseException | None = None
        self.stopped = False
        self.threads: list[threading.Thread] = []
        for _ in range(config.decoders):
            self.start(self.decode)
        for _ in range(config.streams):
            self.start(self.answer)

    def start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True, name=f"bcd-edge {work.__name__}")
        self.threads.append(thread)
        thread.start()

    def add(self, item: Item) -> _Slot[Item, Prepared, Answer]:
        slot: _Slot[Item, Prepared, Answer] = _Slot(item)
        with self.changed:
            self.preparing += 1
        self.todo.put(slot)
        return slot

    def decode(self) -> None:
        while (slot := self.todo.get()) is not None and not self.stopped:
            slot.started = time.monotonic()
            answer: InputError | None = None
            try:
                slot.prepared = self.prepare(slot.item)
            except InputError as error:
                answer = error
            except BaseException as error:
                self.fail(error)
                return
            with self.changed:
                if slot.done:  # timed out, and another thread has replaced this one
                    return
                self.preparing -= 1
                slot.started = None
                if answer is not None:
                    slot.answer, slot.done = answer, True
                    self.changed.notify_all()
            if answer is None:
                self.ready.put(slot)

    def give_up(self, slot: _Slot[Item, Prepared, Answer]) -> None:
        """Fails an item whose preparation hangs, and replaces its thread. The caller holds `changed`."""
        slot.answer, slot.done = InputError(f"Reading and decoding took longer than {self.config.timeout_s:g} s; copy the file again."), True
        self.preparing -= 1
        self.start(self.decode)

    def answer(self) -> None:
        while slots := self.gather():
            try:
                answers = self.infer([slot.prepared for slot in slots])  # type: ignore[misc]
            except BaseException as error:
                self.fail(error)
                return
            with self.changed:
                for slot, answer in zip(slots, answers, strict=True):
                    slot.answer, slot.prepared, slot.done = answer, None, True
                self.changed.notify_all()

    def gather(self) -> list[_Slot[Item, Prepared, Answer]]:
        """The next batch: full, or incomplete if nothing else is being prepared or `batch_timeout_s` has passed."""
        slots: list[_Slot[Item, Prepared, Answer]] = []
        with self.gathering:
            while len(slots) < self.config.batch and not self.stopped:
                try:
                    slot = self.ready.get(timeout=None if not slots else self.config.batch_timeout_s if self.preparing else 0)
                except queue.Empty:
                    break
                if slot is None:
                    break
                slots.append(slot)
        return [] if self.stopped else slots

    def fail(self, error: BaseException) -> None:
        with self.changed:
            self.failure = self.failure or error
            self.changed.notify_all()

    def close(self) -> None:
        self.stopped = True
        for _ in self.threads:
            self.todo.put(None)
            self.ready.put(None)
        ends = time.monotonic() + self.config.shutdown_timeout_s
        for thread in self.threads:
            thread.join(max(0.0, ends - time.monotonic()))


def run_pipeline(
    items: Iterable[Item],
    prepare: Callable[[Item], Prepared],
    infer: Callable[[Sequence[Prepared]], Sequence[Answer]],
    config: PipelineConfig,
) -> Generator[tuple[Item, Answer | InputError], None, None]:
    """Yields `(item, answer)` in the order of the items, which are read as needed, at most `config.window` ahead.

    Args:
        items: any number of items.
        prepare: called in several threads; an `InputError` that it raises becomes the item's answer.
        infer: called in several threads with 1 to `config.batch` prepared items; returns answers in their order.
        config: how work is distributed.

    Raises:
        Exception: any other exception of `prepare` or `infer`, after the answers of all items before the first without one.
    """
    pipeline = _Pipeline(prepare, infer, config)
    source = iter(items)
    in_progress: deque[_Slot[Item, Prepared, Answer]] = deque()
    more = True
    try:
        while more or in_progress:
            if more and len(in_progress) < config.window and not (in_progress and in_progress[0].done):
                try:
                    in_progress.append(pipeline.add(next(source)))
                except StopIteration:
                    more = False
                continue
            with pipeline.changed:
                head = in_progress[0]
                while not head.done and pipeline.failure is None:
                    left = None if head.started is None else head.started + config.timeout_s - time.monotonic()
                    if left is not None and left <= 0:
                        pipeline.give_up(head)
                    else:
                        # with a time-out, because nothing is notified when `started` is set
                        pipeline.changed.wait(min(1.0, left or 1.0))
                if not head.done:
                    assert pipeline.failure is not None
                    raise pipeline.failure
            in_progress.popleft()
            assert head.answer is not None
            yield head.item, head.answer
    finally:
        pipeline.close()
