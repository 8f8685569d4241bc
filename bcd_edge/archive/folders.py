"""The folder of a data set, on a disk or in an object store: each file appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from bcd_edge.archive.stores import PACKAGES, is_url, retrying, store_of
from bcd_edge.errors import UsageError
from bcd_edge.system import caches
from bcd_edge.system.atomic import atomic_write

Answer = TypeVar("Answer")

# Of what an object store offers only its put is atomic, so other things that fsspec opens are refused.
STORES: Final = (*PACKAGES, "memory")


class Folder(Protocol):
    """Files by name, with `/` between the parts.

    Attributes:
        state: folder on this machine for the index of contents and the lock.
        slides: folder on this machine for the files of whole slides.
        retries: further attempts to write until now.
    """

    state: Path
    slides: Path
    retries: int

    def __str__(self) -> str: ...

    def read(self, name: str) -> bytes:
        """A file's bytes; raises `FileNotFoundError` if it is missing."""

    def tail(self, name: str, size: int) -> bytes:
        """A file's last bytes, at most `size` of them; raises `OSError`."""

    def write(self, name: str, content: bytes) -> None:
        """Puts a file into place, where it survives a power cut; raises `OSError`."""

    def move(self, name: str, to: str) -> None:
        """Gives a file another name; raises `OSError`."""

    def names(self, below: str) -> list[str]:
        """Names of all files in a folder and below it, sorted, without that folder."""

    def is_empty(self) -> bool:
        """Whether nothing is there yet but hidden files, which a run that was killed at once leaves."""

    def dataset(self, below: str) -> Any:
        """The Parquet files in a folder and below it as a `pyarrow.dataset.Dataset`."""

    def keep(self) -> None:
        """Moves the files of whole slides from `slides` to where they belong; raises `OSError`."""


def open(place: str | os.PathLike[str]) -> Folder:
    """A folder of this machine, or of a store by URL; it need not exist.

    Raises:
        ProviderError: the package for the store is not installed.
        UsageError: this is no store that writes whole objects.
    """
    text = os.fspath(place)
    if not is_url(text):
        return _Local(Path(text).absolute())  # a worker of a cluster has another current folder
    protocol = text.partition("://")[0]
    if protocol not in STORES:
        raise UsageError(f"A data set cannot be written to {protocol}://; give a folder of this machine, or s3://, gs:// or abfs://.")
    return _Stored(text.rstrip("/"))


class _Local:
    def __init__(self, path: Path) -> None:
        self._path, self.retries = path, 0
        self.state, self.slides = path / ".state", path / "slides"

    def __str__(self) -> str:
        return str(self._path)

    def read(self, name: str) -> bytes:
        return (self._path / name).read_bytes()

    def tail(self, name: str, size: int) -> bytes:
        with (self._path / name).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read()

    def write(self, name: str, content: bytes) -> None:
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content, durable=True)

    def move(self, name: str, to: str) -> None:
        (self._path / to).parent.mkdir(parents=True, exist_ok=True)
        (self._path / name).replace(self._path / to)

    def names(self, below: str) -> list[str]:
        root = self._path / below
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))

    def is_empty(self) -> bool:
        return not self._path.exists() or all(name.startswith(".") for name in os.listdir(self._path))

    def dataset(self, below: str) -> Any:
        import pyarrow.dataset as ds

        return ds.dataset(self._path / below, partitioning="hive")

    def keep(self) -> None:
        """They are written into place."""


class _Stored:
    def __init__(self, url: str) -> None:
        self._url, self._store, self.retries = url, store_of(url), 0
        self.state = caches.folder("archive", url)
        self.slides = self.state / "slides"

    def __str__(self) -> str:
        return self._url

    def read(self, name: str) -> bytes:
        return self._try(lambda: self._store.read(f"{self._url}/{name}"))

    def tail(self, name: str, size: int) -> bytes:
        return self._try(lambda: self._store.tail(f"{self._url}/{name}", size))

    def write(self, name: str, content: bytes) -> None:
        self._try(lambda: self._store.write(f"{self._url}/{name}", content))

    def move(self, name: str, to: str) -> None:
        self._try(lambda: self._store.move(f"{self._url}/{name}", f"{self._url}/{to}"))

    def names(self, below: str) -> list[str]:
        root = self._store.strip(f"{self._url}/{below}").rstrip("/")
        return sorted(path[len(root) + 1 :] for path in self._try(lambda: self._store.find(f"{self._url}/{below}")))

    def is_empty(self) -> bool:
        return not self.names("")

    def dataset(self, below: str) -> Any:
        import pyarrow.dataset as ds

        return ds.dataset(self._store.strip(f"{self._url}/{below}"), filesystem=self._store.fsspec, partitioning="hive", format="parquet")

    def keep(self) -> None:
        for path in sorted(self.slides.rglob("*")):
            if path.is_file() and path.name != ".lock":
                self.write(f"slides/{path.relative_to(self.slides).as_posix()}", path.read_bytes())
        shutil.rmtree(self.slides)

    def _try(self, call: Callable[[], Answer]) -> Answer:
        """Every store has errors of its own; here they are `OSError`."""
        try:
            return retrying(call, self._count)
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{type(error).__name__}: {error}") from None

    def _count(self) -> None:
        self.retries += 1
