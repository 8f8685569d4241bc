"""How to watch, what is asked of a running watcher, and what it has done so far."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

After = Literal["keep", "move", "delete"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for.

    Attributes:
        inbox: the folder that is watched.
        results: the folder of results.
        model: arguments of `Classifier.load`.
        include: globs of what is taken; every image if empty.
        exclude: globs of what is not.
        settle_s: a file is taken when it held still over two looks so far apart.
        scan_s: pause between two looks through the whole inbox.
        events: whether the system is asked to tell of changes, too.
        tries: how often a file is tried before it goes to quarantine.
        retry_s: before the second try; doubles with each, up to `LONGEST_RETRY_S`.
        provider_tries: failures of the provider in a row before the watcher gives up.
        after: what becomes of an answered input.
        patients: pattern of patient and slide, see `bcd_edge.results.patients`.
        group: of users who may read the results; None is nobody but the owner.
        pseudonymise: names are replaced in logs, CSV, pages and what `watch` prints.
        overlay: whether each image is explained after its answer.
        min_free: bytes that must stay free where the results are.
        once: end when everything is answered.
        reprocess: classify again what only another bundle has answered.
    """

    inbox: Path
    results: Path
    model: dict[str, Any] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    settle_s: float = 2.0
    scan_s: float = 10.0
    events: bool = True
    tries: int = 5
    retry_s: float = 2.0
    provider_tries: int = 10
    after: After = "keep"
    patients: re.Pattern[str] | None = None
    group: str | None = None
    pseudonymise: bool = False
    overlay: bool = False
    min_free: int = 0
    once: bool = False
    reprocess: bool = False


class Requests:
    """What signals ask of the loop: to stop, or to read its configuration again. Anything asked ends a pause at once."""

    def __init__(self) -> None:
        self.stop = False
        self.reload = False
        self._asked = threading.Event()
        self._stopped = threading.Event()

    def ask(self, *, stop: bool = False, reload: bool = False) -> None:
        """May be called from a signal's handler."""
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
    def anything(self) -> bool:
        return self.stop or self.reload

    def pause(self, seconds: float) -> None:
        """Waits, until something is asked."""
        self._asked.wait(seconds)

    def rest(self, seconds: float) -> None:
        """Waits, until a stop is asked."""
        self._stopped.wait(seconds)


@dataclass(frozen=True, slots=True)
class Clock:
    """`now` never goes back and times everything; `wall` is only written down, and may jump."""

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] = datetime.now

    def text(self) -> str:
        return self.wall().astimezone().isoformat(timespec="milliseconds")

    def day(self) -> str:
        return self.wall().date().isoformat()


@dataclass
class Tally:
    """What a run did and how it stands; read by metrics, heartbeat and screen."""

    state: str = "starting"
    decisions: Counter[str] = field(default_factory=Counter)
    linked: int = 0
    setbacks: Counter[str] = field(default_factory=Counter)
    provider_failures: int = 0
    waiting: int = 0
    rate: float = 0.0
    free_bytes: int = 0
    beat_at: float = 0.0

    @property
    def answered(self) -> int:
        return sum(self.decisions.values()) + self.linked
