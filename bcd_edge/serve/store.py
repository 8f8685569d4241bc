"""The folder of results for request handlers: reads in one thread, writes in another, so that the event loop never waits for the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from bcd_edge.results.folder import Results
from bcd_edge.results.journal import NAME, connect

Value = TypeVar("Value")


class Store:
    """Opens the folder; work is a function of the journal's connection, or of `Results`, and runs in a thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._writer = ThreadPoolExecutor(1, "bcd-edge write")
        self._reader = ThreadPoolExecutor(1, "bcd-edge read")
        self._results = self._writer.submit(Results.open, root).result()
        self._connection = self._reader.submit(connect, root / NAME).result()
        self.display_name = self._results.display_name

    async def read(self, work: Callable[[sqlite3.Connection], Value]) -> Value:
        """What `work` finds in the journal; it must not write."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, work, self._connection)

    def read_now(self, work: Callable[[sqlite3.Connection], Value]) -> Value:
        """The same for another thread, which waits."""
        return self._reader.submit(work, self._connection).result()

    async def write(self, work: Callable[[Results], Value]) -> Value:
        """What `work` returns after it wrote; everything it wrote is one transaction, flushed to the disk."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._write, work)

    def _write(self, work: Callable[[Results], Value]) -> Value:
        with self._results.journal.transaction(flushed=True):
            return work(self._results)

    def close(self) -> None:
        """Ends when what was begun is written."""
        self._writer.submit(self._results.close).result()
        self._reader.submit(self._connection.close).result()
        self._writer.shutdown()
        self._reader.shutdown()
