"""What a run shows while it works: a line on standard error, and `progress.html` in the destination for who looks from elsewhere."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from html import escape
from string import Template
from typing import Final, Protocol

from bcd_edge.archive import folders
from bcd_edge.archive.contents import Counts
from bcd_edge.results.summary import STYLE

# The rate is that of the last minutes, because stores and neighbours change.
WINDOW_S: Final = 300.0
EVERY_S: Final = 10.0
# Counts that their key does not explain.
LABELS: Final = {"copied": "with the same content as another row"}

_PAGE: Final = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="10"><title>bcd-edge archive</title>
<style>
$style</style></head><body><main>
<h1>Archive</h1>
<p><strong>$line</strong></p>
<table><tbody>
$rows</tbody></table></main>
<footer>$time. For research. Assists a pathologist; it does not diagnose alone.</footer>
</body></html>
""")


class Total(Protocol):
    """What is known of the inputs."""

    inputs: int
    is_complete: bool


class Done(Protocol):
    """What is known of the rows."""

    counts: Counts


class Reads(Protocol):
    """What is known of the reads."""

    retries: int


class Progress:
    """Shows rows, rate, time left and failures; at most every `EVERY_S` seconds."""

    def __init__(self, place: str | os.PathLike[str], write: Callable[[str], object]) -> None:
        """Prepares.

        Args:
            place: folder or URL of the data set, where the page goes.
            write: takes a line.
        """
        self._folder, self.write = folders.open(place), write
        self._seen: deque[tuple[float, int]] = deque()
        self._shown_at = 0.0
        self._shown: tuple[int, bool] | None = None

    def start(self, total: Total, done: Done, reads: Reads) -> None:
        """Begins to measure."""
        self._total, self._done, self._reads = total, done, reads
        self._seen.append((time.monotonic(), done.counts["rows"]))
        self._shown_at = time.monotonic()

    def show(self) -> None:
        """Notes that rows were committed, and shows the state if it is time."""
        now = time.monotonic()
        self._seen.append((now, self._done.counts["rows"]))
        while len(self._seen) > 2 and self._seen[0][0] < now - WINDOW_S:
            self._seen.popleft()
        if now - self._shown_at >= EVERY_S:
            self._shown_at = now
            self._emit()

    def finish(self) -> None:
        """Shows the last state, unless that is the one that was shown."""
        self._seen.append((time.monotonic(), self._done.counts["rows"]))
        self._emit(is_repeated=self._shown == self._state())

    def _state(self) -> tuple[int, bool]:
        return self._done.counts["rows"], self._total.is_complete

    def line(self) -> str:
        """The state in a line."""
        counts, inputs = self._done.counts, self._total.inputs
        parts = [f"{counts['rows']:,} of {inputs:,}{'' if self._total.is_complete else ' (and listing)'}"]
        (began, first), (now, last) = self._seen[0], self._seen[-1]
        if now > began and last > first:
            rate = (last - first) / (now - began)
            parts.append(f"{rate:.1f} images/s")
            if self._total.is_complete and inputs > last:
                parts.append(f"{display_time((inputs - last) / rate)} left")
        parts += [f"{counts[key]:,} {LABELS.get(key, key)}" for key in ("copied", "failed") if counts[key]]
        if self._reads.retries:
            parts.append(f"{self._reads.retries:,} retries")
        return ", ".join(parts)

    def _emit(self, *, is_repeated: bool = False) -> None:
        line, self._shown = self.line(), self._state()
        if not is_repeated:
            self.write(line)
        rows = "".join(
            f'<tr><td class="w">{escape(LABELS.get(key, key))}</td><td class="n">{number:,}</td></tr>\n'
            for key, number in sorted(self._done.counts.items(), key=lambda pair: (pair[0].partition(":")[0], -pair[1]))
        )
        page = _PAGE.substitute(style=STYLE, line=escape(line), rows=rows, time=time.strftime("%Y-%m-%d %H:%M:%S %Z"))
        with suppress(OSError):  # the next one may be written
            self._folder.write("progress.html", page.encode())


def display_time(seconds: float) -> str:
    """A duration as `3 d 4 h`, `2 h 5 min`, `7 min` or `40 s`."""
    for unit, length, smaller, smaller_length in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} {int(seconds % length // smaller_length)} {smaller}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
