"""What is printed: one line that is written over itself on a terminal, else one line a second; or a JSON object for each frame."""

from __future__ import annotations

import json
import time
from typing import Final, TextIO

from bcd_edge.live.session import Update
from bcd_edge.outputs import printable

WIDTH: Final = 80
# Of a file or pipe, and of a terminal, which nobody reads faster.
LINE_S, REWRITE_S = 1.0, 0.1


def line(update: Update) -> str:
    """At most `WIDTH` characters."""
    parts = [f"{_state(update):<12}"]
    if update.smoothed and update.state in ("answered", "out of focus"):
        smoothed = update.smoothed
        parts.append(f"p {smoothed.p_malignant:.2f} ({smoothed.low:.2f} to {smoothed.high:.2f})")
    else:
        parts.append(" " * 21 if update.frame is not None else "")
    if update.latency_ms is not None:
        parts.append(f"{update.rate:5.1f}/s {update.latency_ms:5.0f} ms  dropped {update.dropped}")
    if update.watts is not None:
        parts.append(f"{update.watts:.1f} W")
    if update.frame is None and update.reason:
        parts.append(printable(update.reason))
    return " ".join(parts)[: WIDTH - 1].rstrip()


def _state(update: Update) -> str:
    """The decision, or why there is none."""
    return update.smoothed.decision if update.state == "answered" and update.smoothed else update.state


class Lines:
    """Writes updates as lines for a reader."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._is_terminal = stream, stream.isatty()
        self._next_s, self._state = 0.0, ""

    def write(self, update: Update) -> None:
        """Writes it if it is time to, or if something has changed; a lost source is said in full."""
        now_s, state = time.monotonic(), _state(update)
        if update.frame is None and update.reason:
            if update.state != "given up":  # the command's error says it
                self.say(update.reason)
        elif now_s >= self._next_s or (state != self._state and not self._is_terminal):
            self._put(line(update))
            self._next_s = now_s + (REWRITE_S if self._is_terminal else LINE_S)
        self._state = state

    def say(self, sentence: str) -> None:
        """Writes a sentence that stays."""
        self._stream.write(f"\r\x1b[K{printable(sentence)}\n" if self._is_terminal else f"{printable(sentence)}\n")
        self._stream.flush()

    def _put(self, text: str) -> None:
        self._stream.write(f"\r\x1b[K{text}" if self._is_terminal else f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Ends the line."""
        if self._is_terminal:
            self._stream.write("\n")


class JsonLines:
    """Writes every update as a JSON object."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, update: Update) -> None:
        """Writes it at once."""
        values = update.as_dict()
        for name in ("latency_ms", "rate", "watts"):
            values[name] = values[name] and round(values[name], 3)
        self._stream.write(json.dumps(values) + "\n")
        self._stream.flush()

    def say(self, sentence: str) -> None:
        """Writes a sentence as an object of its own."""
        self._stream.write(json.dumps({"message": sentence}) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is open."""
