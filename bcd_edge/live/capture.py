"""The newest frame of a source: a thread reads it, keeps one frame, and connects again when it is lost.

Inference never makes the source wait, so no frame grows old in a queue: what nobody took is dropped and counted.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Final, Literal

from bcd_edge.errors import BcdEdgeError, InputError
from bcd_edge.live.sources import Reader, Source
from bcd_edge.readers.raster import UInt8Image

log = logging.getLogger(__name__)

State = Literal["connecting", "open", "lost", "ended", "given up"]

# Between attempts to connect again: doubled from the first to the last.
FIRST_DELAY_S: Final = 0.5
LAST_DELAY_S: Final = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        pixels_hwc_bgr_u8: uint8 BGR, H x W x 3, as OpenCV gives it.
        number: how many came before it.
        captured_s: when it was there, by `time.perf_counter`.
    """

    pixels_hwc_bgr_u8: UInt8Image
    number: int
    captured_s: float


class Capture:
    """Reads a source in a thread of its own; a context manager.

    Attributes:
        source: what is read.
        state: `lost` while it connects again, `ended` after the last frame of a recording, `given up` after `give_up_s` without a frame.
        problem: a sentence while it is lost or given up, else empty.
        frames: how many came.
        taken: how many were taken by `newest`; the others, but for the one that waits, were dropped.
    """

    def __init__(self, source: Source, *, give_up_s: float = 60.0, first_delay_s: float = FIRST_DELAY_S) -> None:
        """See `Capture`; it begins with `with`."""
        self.source, self.problem = source, ""
        self.frames = self.taken = 0
        self.state: State = "connecting"
        self._give_up_s, self._first_delay_s = give_up_s, first_delay_s
        self._frame: Frame | None = None
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bcd-edge capture", daemon=True)  # a driver may hang

    @property
    def dropped(self) -> int:
        """Frames that came while others were answered."""
        return self.frames - self.taken - (self._frame is not None)

    def newest(self, timeout_s: float) -> Frame | None:
        """Takes the newest frame that was not taken, waiting for one; None if none has come in time, or the state has changed."""
        with self._changed:
            before = self.state
            self._changed.wait_for(lambda: self._frame is not None or self.state != before or self.has_ended, timeout_s)
            frame, self._frame = self._frame, None
            self.taken += frame is not None
            return frame

    @property
    def has_ended(self) -> bool:
        """Whether no frame will come any more."""
        return self.state in ("ended", "given up")

    def _run(self) -> None:
        last_s, delay_s = time.monotonic(), self._first_delay_s
        while not self._stopped.is_set():
            before = self.frames
            problem = self._read()
            if self._stopped.is_set():
                return
            if not self.source.is_endless:
                self._set("ended" if self.frames > before else "given up", "" if self.frames > before else problem)
                return
            if self.frames > before:
                last_s, delay_s = time.monotonic(), self._first_delay_s
            if time.monotonic() - last_s + delay_s > self._give_up_s:
                self._set("given up", f"{problem} Given up after {self._give_up_s:g} s.")
                return
            self._set("lost", f"{problem} Trying again.")
            self._stopped.wait(delay_s)
            delay_s = min(2 * delay_s, LAST_DELAY_S)

    def _read(self) -> str:
        """Reads until no frame comes any more; says why."""
        try:
            reader = self.source.open()
        except BcdEdgeError as error:
            return str(error)
        try:
            return self._read_frames(reader)
        finally:
            reader.close()

    def _read_frames(self, reader: Reader) -> str:
        while not self._stopped.is_set() and (captured_s := reader.grab()) is not None:
            pixels = reader.retrieve()
            if pixels is None:
                log.warning("%s: a frame could not be decoded.", self.source.name)
                continue
            with self._changed:
                self._frame = Frame(pixels, self.frames, captured_s)
                self.frames += 1
                self.state, self.problem = "open", ""
                self._changed.notify_all()
        return f"{self.source.name} gives no frames any more; check cable, power and network."

    def _set(self, state: State, problem: str) -> None:
        with self._changed:
            self.state, self.problem = state, problem
            self._changed.notify_all()

    def raise_problem(self) -> None:
        """Where it was given up.

        Raises:
            InputError: with the reason.
        """
        if self.state == "given up":
            raise InputError(self.problem)

    def stop(self) -> None:
        """Ends the thread; a driver that hangs is left behind."""
        self._stopped.set()
        self._set("ended", "")
        self._thread.join(1.0)

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
