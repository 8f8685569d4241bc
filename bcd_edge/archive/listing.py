"""The listing of a collection, in shards that are written before they are worked on, so that a run that goes on has the same ones."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final

import pyarrow as pa

from bcd_edge.archive import items as item_files
from bcd_edge.archive import sources
from bcd_edge.archive.folders import Folder
from bcd_edge.archive.items import Item
from bcd_edge.errors import BcdEdgeError, OutputError, UsageError

COMPLETE: Final = "complete.json"


def name_of(shard: int) -> str:
    """The file of a shard's items in the folder of the data set."""
    return f"listing/{shard:06}.parquet"


def read_items(folder: Folder, shard: int) -> list[Item]:
    """The items of a shard.

    Raises:
        FileNotFoundError: it is not listed.
        UsageError: its file is damaged.
    """
    return _read(folder, shard)[0]


def _read(folder: Folder, shard: int) -> tuple[list[Item], dict[str, str]]:
    content = folder.read(name_of(shard))
    try:
        return item_files.from_bytes(content)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UsageError(
            f"{folder}/{name_of(shard)} is damaged ({error}), so this run cannot go on; take it from a backup, or begin with another --out."
        ) from None


class Listing:
    """Lists in a thread, from behind the last item that an earlier run listed; a context manager that stops it.

    Attributes:
        shards: number of shards that are listed.
        shard_size: number of items in each but the last.
        inputs: number of items in them.
        size: bytes in them, as far as the sources tell.
        fingerprint: of all items.
        is_complete: whether the sources are listed to their end.
    """

    def __init__(self, folder: Folder, texts: Sequence[str], shard_size: int) -> None:
        """Reads what is listed already.

        Args:
            folder: of the data set; the listing's files go below it.
            texts: sources, as for `bcd_edge.archive.sources.open`.
            shard_size: items of a shard.

        Raises:
            UsageError: a source does not exist, or what is listed is damaged.
        """
        self._folder, self._texts, self.shard_size = folder, texts, shard_size
        names = folder.names("listing")
        self.shards = sum(name.endswith(".parquet") for name in names)
        for missing in {f"{number:06}.parquet" for number in range(self.shards)} - set(names):
            raise UsageError(f"{folder}/listing/{missing} is missing, so this run cannot go on; take it from a backup, or begin with another --out.")
        self.inputs, self.size, self.fingerprint = 0, 0, ""
        self._last: Item | None = None
        if self.shards:
            items, totals = _read(folder, self.shards - 1)
            self._last = items[-1]
            self.inputs, self.size, self.fingerprint = int(totals["inputs"]), int(totals["bytes"]), totals["fingerprint"]
        self.is_complete = COMPLETE in names
        self._changed = threading.Condition()
        self._stopped = False
        self._failure: BcdEdgeError | None = None
        if not self.is_complete:  # a source that does not exist is an error before the work starts, not in a thread
            for text in texts:
                sources.open(text)
        self._thread = threading.Thread(target=self._run, name="bcd-edge listing", daemon=True)

    def items(self, shard: int) -> list[Item]:
        """The items of a shard."""
        return read_items(self._folder, shard)

    def numbers(self) -> Iterator[int]:
        """Numbers of all shards, as soon as they are listed.

        Raises:
            BcdEdgeError: a source cannot be listed.
        """
        for number in itertools.count():
            with self._changed:
                while (is_listed := self.is_listed(number)) is None:
                    self._changed.wait(1.0)
            if not is_listed:
                return
            yield number

    def is_listed(self, shard: int) -> bool | None:
        """Whether a shard is listed; None where that is not known yet.

        Raises:
            BcdEdgeError: a source cannot be listed.
        """
        if shard < self.shards:
            return True
        if self._failure is not None:
            raise self._failure
        return False if self.is_complete else None

    def _run(self) -> None:
        failure: BcdEdgeError | None = None
        try:
            self._list()
        except BcdEdgeError as error:
            failure = error
        except OSError as error:
            failure = OutputError(f"The listing could not be written or the sources listed ({error}); fix this, then go on with --resume.")
        except Exception as error:  # every store has errors of its own
            failure = UsageError(f"The sources could not be listed to their end ({type(error).__name__}: {error}); fix this and go on with --resume.")
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def _list(self) -> None:
        items = self._all()
        while not self._stopped:
            shard = list(itertools.islice(items, self.shard_size))
            if self._stopped:
                return
            if shard:
                self._write(shard)
            if len(shard) < self.shard_size:
                totals = {"shards": self.shards, "inputs": self.inputs, "bytes": self.size, "fingerprint": self.fingerprint}
                self._folder.write(f"listing/{COMPLETE}", json.dumps(totals, indent=1).encode())
                with self._changed:
                    self.is_complete = True
                    self._changed.notify_all()
                return

    def _all(self) -> Iterator[Item]:
        begins = self._last.source if self._last else 0
        for index, text in enumerate(self._texts[begins:], begins):
            after = self._last.position if self._last and self._last.source == index else None
            for item in sources.open(text).items(index, after):
                if self._stopped:
                    return
                yield item

    def _write(self, shard: list[Item]) -> None:
        inputs, size = self.inputs + len(shard), self.size + sum(item.size or 0 for item in shard)
        fingerprint = item_files.fingerprint(self.fingerprint, shard)
        totals = {"inputs": str(inputs), "bytes": str(size), "fingerprint": fingerprint}
        self._folder.write(name_of(self.shards), item_files.to_bytes(shard, totals))
        with self._changed:
            self.inputs, self.size, self.fingerprint = inputs, size, fingerprint
            self.shards += 1
            self._changed.notify_all()

    def __enter__(self) -> Listing:
        if not self.is_complete:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped = True
        if self._thread.is_alive():
            self._thread.join(5.0)
