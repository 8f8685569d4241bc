"""Object stores by fsspec, with retries that are counted, and a limit of the rate for stores that others use, too."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from bcd_edge.archive.items import Item
from bcd_edge.errors import InputError, ProviderError
from bcd_edge.readers import raster

Answer = TypeVar("Answer")

# With 5 % of errors, one read in 60 million fails this often.
ATTEMPTS: Final = 6
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 20.0
# The stores' own clients retry without telling; here each retry is counted.
OPTIONS: Final[dict[str, dict[str, Any]]] = {"s3": {"config_kwargs": {"retries": {"total_max_attempts": 1}}}}
PACKAGES: Final = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs", "az": "adlfs"}

# What stores call what changes with the content.
VERSIONS: Final = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "updated", "created")


def is_url(text: str) -> bool:
    """Whether a path is a URL of a store."""
    return "://" in text


class FileSystem:
    """What is needed of a store, by URL.

    Attributes:
        fsspec: for libraries that read from it.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        protocol = url.partition("://")[0]
        try:
            self.fsspec, _ = fsspec.core.url_to_fs(url, use_listings_cache=False, **OPTIONS.get(protocol, {}))
        except (ImportError, ValueError) as error:
            package = PACKAGES.get(protocol)
            fix = f"pip install {package}" if package else "give a folder, or a URL that fsspec knows"
            raise ProviderError(f"{protocol}:// cannot be opened ({error}); fix: {fix}") from None
        if hasattr(self.fsspec, "retries"):
            self.fsspec.retries = 1

    def strip(self, url: str) -> str:
        """A URL as the store's own listing names it."""
        return str(self.fsspec._strip_protocol(url))

    def ls(self, url: str) -> list[dict[str, Any]]:
        """Names, sizes and types of what lies in a folder."""
        return list(self.fsspec.ls(url, detail=True))

    def info(self, url: str) -> dict[str, Any]:
        """Name, size, type and version of an object."""
        return dict(self.fsspec.info(url))

    def exists(self, url: str) -> bool:
        """Whether there is such an object or folder."""
        return bool(self.fsspec.exists(url))

    def is_folder(self, url: str) -> bool:
        """Whether there is something below it."""
        return bool(self.fsspec.isdir(url))

    def read(self, url: str, size: int | None = None) -> bytes:
        """An object's bytes, or the first `size` of them."""
        return bytes(self.fsspec.cat_file(url, start=None if size is None else 0, end=size))

    def tail(self, url: str, size: int) -> bytes:
        """The last bytes of an object, at most `size` of them."""
        end = int(self.fsspec.size(url))
        return bytes(self.fsspec.cat_file(url, start=max(0, end - size), end=end))

    def move(self, url: str, to: str) -> None:
        """Gives an object another name."""
        self.fsspec.mv(url, to)

    def write(self, url: str, content: bytes) -> None:
        """Puts an object in place of what is there."""
        self.fsspec.pipe_file(url, content)

    def find(self, url: str) -> list[str]:
        """Names of all objects below a URL, as `strip` gives them."""
        return list(self.fsspec.find(url))

    def download(self, url: str, path: Path) -> None:
        """Copies an object into a file."""
        self.fsspec.get_file(url, str(path))


@cache
def store_of(url: str) -> FileSystem:
    """The store of a URL, opened once for each of its protocols and buckets.

    Raises:
        ProviderError: the package for it is not installed.
    """
    return _store("/".join(url.split("/")[:3]))


@cache
def _store(root: str) -> FileSystem:
    return FileSystem(root)


def retrying(call: Callable[[], Answer], count: Callable[[], object] = lambda: None) -> Answer:
    """Calls until it succeeds, at most `ATTEMPTS` times, with growing, random waits (full jitter; Brooker, AWS Architecture Blog 2015).

    Args:
        call: what to do; what does not exist or may not be read is not tried again.
        count: called before each further attempt.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ProviderError):
            raise
        except Exception:  # every store has errors of its own
            count()
            time.sleep(random.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt)))
    return call()


def refreshed(item: Item, size: int | None) -> Item:
    """The item with size and version of the file that was read, if it is not the one that was listed; an object of the same size is taken for it."""
    if is_url(item.path) and item.size in (None, size):
        return item
    try:
        if is_url(item.path):
            return replace(item, size=size, version=version_of(retrying(lambda: store_of(item.path).info(item.path))))
        status = os.stat(item.path)
        return replace(item, size=status.st_size, version=str(status.st_mtime_ns))
    except Exception:  # it has gone since; every store has errors of its own
        return replace(item, size=size, version=None)


def version_of(entry: dict[str, Any]) -> str | None:
    """The version that a store's entry tells."""
    value = next((entry[key] for key in VERSIONS if entry.get(key)), None)
    return None if value is None else str(value).strip('"')


class Reader:
    """Reads items in any number of threads.

    Attributes:
        retries: further attempts until now.
        bytes_read: until now.
    """

    def __init__(self, max_bytes_per_s: float | None = None) -> None:
        self.retries, self.bytes_read = 0, 0
        self._rate, self._free_at, self._lock = max_bytes_per_s, 0.0, threading.Lock()

    def read(self, item: Item) -> bytes:
        """The bytes of an item's file.

        Raises:
            InputError: it cannot be read, or is too large.
        """
        if item.error:
            raise InputError(item.error)
        self._wait(item.size or 0)
        data = self._remote(item) if is_url(item.path) else raster.read(item.path)
        with self._lock:
            self.bytes_read += len(data)
            if not item.size:
                self._free_at += len(data) / self._rate if self._rate else 0.0
        return data

    def _remote(self, item: Item) -> bytes:
        if (item.size or 0) > raster.MAX_BYTES:
            raise InputError(f"{item.name} is larger than 512 MiB; cut the slide into fields of view and give those.")
        try:
            data = retrying(lambda: store_of(item.path).read(item.path), self._count)
        except FileNotFoundError:
            raise InputError(f"{item.name} does not exist any more; list the archive again.") from None
        except PermissionError:
            raise InputError(f"{item.name} may not be read; give these credentials permission to read it.") from None
        except ProviderError:
            raise
        except Exception as error:
            raise InputError(f"{item.name} could not be read in {ATTEMPTS} attempts ({type(error).__name__}: {error}).") from None
        if not data:
            raise InputError(f"{item.name} is empty (0 bytes); copy it again from where it came.")
        return data

    def _count(self) -> None:
        with self._lock:
            self.retries += 1

    def _wait(self, size: int) -> None:
        """Until the bytes before these have had their time."""
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            begins = max(now, self._free_at)
            self._free_at = begins + size / self._rate
        time.sleep(max(0.0, begins - now))
