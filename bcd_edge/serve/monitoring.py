"""`bcd-edge monitor` for /metrics: in a process of its own, because it takes seconds of a core and pages must not wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from typing import Final

from bcd_edge.serve.settings import Settings

log = logging.getLogger(__name__)

# How old figures may be before a request for them starts the next.
EVERY_S: Final = 600.0
NICE: Final = 10
AGE: Final = """\
# HELP bcd_edge_monitor_age_seconds Seconds since the figures of bcd_edge_monitor were computed.
# TYPE bcd_edge_monitor_age_seconds gauge
bcd_edge_monitor_age_seconds {age:.0f}
"""


class Monitoring:
    """The latest figures, in Prometheus's text format; asking for them has outdated ones computed anew, without waiting."""

    def __init__(self, settings: Settings) -> None:
        bundle = settings.model.get("path")
        own = ["--bundle", str(bundle)] if bundle else []
        self._command = [sys.executable, "-m", "bcd_edge", "monitor", str(settings.results), "--format", "prometheus", *own]
        self._text, self._computed, self._started = "", 0.0, -EVERY_S
        self._task: asyncio.Task[None] | None = None

    def text(self) -> str:
        """The figures and their age; empty until there are any."""
        now = time.monotonic()
        if now - self._started >= EVERY_S and (self._task is None or self._task.done()):
            self._started = now
            self._task = asyncio.get_running_loop().create_task(self._compute())
        return self._text + AGE.format(age=now - self._computed) if self._text else ""

    async def wait(self) -> None:
        """Until what is being computed is there."""
        if self._task:
            await self._task

    async def end(self) -> None:
        """Gives up what is being computed."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _compute(self) -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*self._command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        with contextlib.suppress(AttributeError, OSError):  # not on Windows
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        try:
            output, problem = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode in (0, 1):  # 1: the pictures changed
            self._text, self._computed = output.decode(), time.monotonic()
        else:
            log.info("No figures of the monitor: %s", problem.decode(errors="replace").strip())
