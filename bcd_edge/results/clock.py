"""Two clocks: one that never goes back, and the one on the wall."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone


def local_now() -> datetime:
    """The local time with its offset; the time zone is that of the system, or of the variable TZ."""
    return datetime.now(timezone.utc).astimezone()  # by way of UTC, because a local hour happens twice in autumn


@dataclass(frozen=True, slots=True)
class Clock:
    """`now` never goes back and times everything; `wall` is only written down, and may jump."""

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] = local_now

    def text(self) -> str:
        """ISO 8601 with milliseconds and the offset from UTC."""
        return self.wall().astimezone().isoformat(timespec="milliseconds")

    def day(self) -> str:
        """The local day."""
        return self.wall().astimezone().date().isoformat()


def shown_time(text: str | None) -> str:
    """A time of the journal for a reader: local, to the second, with the name of its time zone."""
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S %Z}" if text else ""
