"""The loop: the newest frame, is it still and in focus, an answer, smoothed."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import cv2
import numpy as np

from bcd_edge.classifier import Classifier, Prepared
from bcd_edge.errors import InputError
from bcd_edge.live.budget import Governor
from bcd_edge.live.capture import Capture, Frame
from bcd_edge.live.noise import Noise
from bcd_edge.live.optics import Optics, Region, cut
from bcd_edge.live.smoothing import HALF_LIFE_S, Smoothed, Smoother
from bcd_edge.live.stillness import Stillness
from bcd_edge.pictures import DecodedImage
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.records import Record
from bcd_edge.results.clock import Clock
from bcd_edge.slides.tiling import checked_field_um
from bcd_edge.triage.quality import blur_reasons, focus, reduced

State = Literal["answered", "moving", "out of focus", "unusable", "lost", "given up", "ended"]

# Between looks at keys and at the end while no frame comes.
WAIT_S: Final = 0.1
# Frames over which rate and latency are shown.
WINDOW: Final = 50


@dataclass(frozen=True, slots=True)
class Update:
    """What is known after a frame, or after the source was lost or has ended.

    Attributes:
        at: time, ISO 8601.
        frame: number of the frame; None where none has come.
        state: `answered`, or why there is no answer.
        reason: a sentence why there is none, or why it needs review, else empty.
        record: of this frame alone, without a hash, which frames do not need; None without an answer.
        smoothed: of the frames since the picture last moved; the last one while it is out of focus.
        latency_ms: from the moment the frame was there to its answer.
        rate: frames per second that were looked at lately.
        dropped: frames until now that nobody looked at.
        watts: where a budget is kept.
    """

    at: str
    frame: int | None
    state: State
    reason: str = ""
    record: Record | None = None
    smoothed: Smoothed | None = None
    latency_ms: float | None = None
    rate: float = 0.0
    dropped: int = 0
    watts: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        smoothed = self.smoothed and {name: getattr(self.smoothed, name) for name in self.smoothed.__slots__}
        return values | {"record": self.record and self.record.as_dict(), "smoothed": smoothed}


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What was looked at last.

    Attributes:
        number: of the frame.
        frame_hwc_bgr_u8: the whole of it, uint8 BGR, H x W x 3.
        used: the part that was classified.
        picture_hwc_u8: that part in its colours, uint8 RGB, H x W x 3.
    """

    number: int
    frame_hwc_bgr_u8: UInt8Image
    used: Region
    picture_hwc_u8: UInt8Image

    @property
    def is_cut(self) -> bool:
        """Whether only a part of the frame was classified."""
        height, width = self.frame_hwc_bgr_u8.shape[:2]
        return self.used != (width, height, 0, 0)


@dataclass(frozen=True, slots=True)
class Settings:
    """How frames are answered.

    Attributes:
        optics: camera and objective.
        half_life_s: of an answer's weight.
    """

    optics: Optics = field(default_factory=Optics)
    half_life_s: float = HALF_LIFE_S


class Session:
    """Answers the frames of a capture with a classifier.

    Attributes:
        view: what was looked at last; None before the first frame.
    """

    def __init__(self, capture: Capture, classifier: Classifier, settings: Settings = Settings(), governor: Governor | None = None) -> None:
        """See `Session`."""
        self._capture, self._classifier, self._settings, self._governor = capture, classifier, settings, governor
        scale = classifier.bundle.scale
        self._scale, self._field_um = scale, checked_field_um(classifier.bundle) if scale else math.inf
        self._stillness, self._noise, self._smoother = Stillness(), Noise(), Smoother(classifier.rule, settings.half_life_s)
        self._clock = Clock()
        self._times: deque[float] = deque(maxlen=WINDOW)
        self._smoothed: Smoothed | None = None
        self.view: View | None = None

    @property
    def picture_hwc_u8(self) -> UInt8Image | None:
        """What was classified last, uint8 RGB, H x W x 3; None before the first frame."""
        return self.view.picture_hwc_u8 if self.view else None

    def updates(self) -> Iterator[Update | None]:
        """One after each frame, and after each change of the source's state; None now and then while nothing comes.

        Raises:
            ProviderError: the engine failed.
            UsageError: the region is not in the frame.
        """
        state: str = self._capture.state
        answered_s = -math.inf
        while True:
            if self._governor:
                self._governor.observe(time.monotonic())
                if (wait_s := answered_s + self._governor.interval_s - time.monotonic()) > 0:
                    time.sleep(min(wait_s, WAIT_S))
                    yield None
                    continue
            answered_s = time.monotonic()
            frame = self._capture.newest(WAIT_S)
            if frame is not None:
                state = "open"
                yield self._look(frame)
            elif (now := self._capture.state) != state and now in ("lost", "ended", "given up"):
                state = now
                self._smoother.reset()
                self._smoothed = None
                yield Update(self._clock.text(), None, now, self._capture.problem, dropped=self._capture.dropped)
            elif self._capture.has_ended:
                return
            else:
                yield None

    def _look(self, frame: Frame) -> Update:
        decoded_s = time.perf_counter()
        optics, (height, width) = self._settings.optics, frame.pixels_hwc_bgr_u8.shape[:2]
        used = optics.used(width, height, self._scale, self._field_um)
        picture = optics.balance(cut(frame.pixels_hwc_bgr_u8, used))
        self.view = View(frame.number, frame.pixels_hwc_bgr_u8, used, picture)
        update = self._answer(frame, DecodedImage(picture, "", 1000 * (time.perf_counter() - decoded_s), optics.um_per_pixel))
        now_s = time.perf_counter()
        self._times.append(now_s)
        rate = (len(self._times) - 1) / (now_s - self._times[0]) if len(self._times) > 1 else 0.0
        watts = self._governor.watts if self._governor else None
        return replace(update, latency_ms=1000 * (now_s - frame.captured_s), rate=rate, dropped=self._capture.dropped, watts=watts)

    def _answer(self, frame: Frame, image: DecodedImage) -> Update:
        """Motion and focus are looked at before the network is run, on what it would see."""
        at = self._clock.text()
        try:
            prepared = self._classifier.prepare(f"{self._capture.source.name}#{frame.number}", image)
        except InputError as error:
            self._restart()
            return Update(at, frame.number, "unusable", str(error))
        is_still = self._stillness.is_still(prepared.inputs_hwc_u8[0])
        blur = self._blur(prepared, image.pixels_hwc_u8, is_still=is_still)
        if not is_still:
            self._restart()
            return Update(at, frame.number, "moving", "The picture moves; hold the slide still.")
        if blur:
            return Update(at, frame.number, "out of focus", blur.partition(": ")[2], smoothed=self._smoothed)
        record = replace(self._classifier.answer(prepared), sha256=None)
        if self._governor:
            self._governor.answered()
        self._smoothed = self._smoother.add(record, frame.captured_s)
        reason = _why_review(record) if self._smoothed.decision == "review" else ""
        return Update(at, frame.number, "answered", reason, record, self._smoothed)

    def _blur(self, prepared: Prepared, picture_hwc_u8: UInt8Image, *, is_still: bool) -> str:
        """Why it is out of focus, without the camera's noise, which a single picture does not tell from detail; empty if it is not."""
        if prepared.quality is None:
            return ""
        grey = np.asarray(cv2.cvtColor(reduced(picture_hwc_u8, prepared.inputs_hwc_u8[0]), cv2.COLOR_RGB2GRAY), np.uint8)
        self._noise.observe(grey, is_still=is_still)
        return next(iter(blur_reasons(focus(grey, self._noise.energy), min(grey.shape))), "")

    def _restart(self) -> None:
        self._smoother.reset()
        self._smoothed = None


def _why_review(record: Record) -> str:
    if record.decision == "review":
        return record.reasons[0]
    return "The mean of the frames is in or near the review band, or most of them need review."
