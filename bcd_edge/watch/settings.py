"""How to watch, what is asked of a running watcher, and what it has done so far."""

from __future__ import annotations

import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bcd_edge.results.clock import Clock
from bcd_edge.slides.settings import SlideSettings

After = Literal["keep", "move", "delete"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of a watcher.

    Attributes:
        inbox: the folder that is watched.
        results: the folder of results.
        model: arguments of `Classifier.load`.
        include: globs of what is taken; every image if empty.
        exclude: globs of what is not.
        stable_for_s: a file is taken when it did not change for so long.
        scan_s: pause between two scans of the whole inbox.
        events: whether the system is asked to report changes, too.
        max_attempts: attempts per file before it goes to quarantine.
        retry_s: before the second attempt; doubles with each, up to `watcher.LONGEST_RETRY_S`.
        max_provider_attempts: failures of the provider in a row before the watcher gives up.
        after: what to do with an answered input.
        patients: pattern of patient and slide, see `bcd_edge.results.patients`.
        group: of users who may read the results; None is nobody but the owner.
        pseudonymise: names are replaced in logs, CSVs, pages and what `watch` prints.
        excel: CSVs are written as Excel opens them.
        overlay: whether each image is explained after its answer.
        slides: how whole slides are classified; the watcher says where their files go.
        min_free: bytes that must stay free where the results are.
        once: end when everything is answered.
        reprocess: classify again what only another bundle has answered.
    """

    inbox: Path
    results: Path
    model: dict[str, Any] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    stable_for_s: float = 2.0
    scan_s: float = 10.0
    events: bool = True
    max_attempts: int = 5
    retry_s: float = 2.0
    max_provider_attempts: int = 10
    after: After = "keep"
    patients: re.Pattern[str] | None = None
    group: str | None = None
    pseudonymise: bool = False
    excel: bool = False
    overlay: bool = False
    slides: SlideSettings = field(default_factory=SlideSettings)
    min_free: int = 0
    once: bool = False
    reprocess: bool = False


class ControlSignals:
    """What signals ask of the loop: to stop, or to read its configuration again. Either ends a pause at once."""

    def __init__(self) -> None:
        self.stop = False
        self.reload = False
        self._asked = threading.Event()
        self._stopped = threading.Event()

    def ask(self, *, stop: bool = False, reload: bool = False) -> None:
        """May be called from a signal handler."""
        self.stop |= stop
        self.reload |= reload
        self._asked.set()
        if self.stop:
            self._stopped.set()

    def reloaded(self) -> None:
        """The configuration was read again."""
        self.reload = False
        if not self.stop:
            self._asked.clear()

    @property
    def any(self) -> bool:
        return self.stop or self.reload

    def wait(self, seconds: float) -> None:
        """Waits until the time is over or anything is asked."""
        self._asked.wait(seconds)

    def wait_for_stop(self, seconds: float) -> None:
        """Waits until the time is over or a stop is asked."""
        self._stopped.wait(seconds)


@dataclass
class Stats:
    """What a watcher has done and what it does now; read by metrics, heartbeat and screen."""

    state: str = "starting"
    decisions: Counter[str] = field(default_factory=Counter)
    linked: int = 0
    failed_attempts: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, int] = field(default_factory=dict)
    provider_failures: int = 0
    waiting: int = 0
    rate: float = 0.0
    free_bytes: int = 0
    beat_at: float = 0.0

    @property
    def answered(self) -> int:
        return sum(self.decisions.values()) + self.linked


@dataclass(frozen=True, slots=True)
class Session:
    """What all parts of a running watcher share."""

    settings: Settings
    signals: ControlSignals
    stats: Stats
    clock: Clock
    started: str
