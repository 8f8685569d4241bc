"""Where inputs come from: folders, globs, single files, CSV and Parquet manifests, and object stores by URL.

Every source lists in an order of its own that does not depend on the moment, so that a listing goes on after the last item that is known. A
folder is ordered by the bytes of its names in a temporary SQLite file: a million names in one folder never lie in memory.
"""

from __future__ import annotations

import csv
import glob
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from bcd_edge.archive.items import Item
from bcd_edge.archive.stores import FileSystem, is_url, retrying, store_of, version_of
from bcd_edge.errors import UsageError
from bcd_edge.readers import raster, slide
from bcd_edge.system.folders import is_ignored

# Names that go to SQLite at a time.
CHUNK: Final = 1000
MANIFESTS: Final = (".csv", ".parquet")


class Source(Protocol):
    """A source of items."""

    def items(self, index: int, after: str | None) -> Iterator[Item]:
        """Items of the source number `index`, from behind the position `after` on, or all."""

    def is_empty(self) -> bool:
        """Whether there is nothing to list."""


def open(text: str) -> Source:
    """The source that an argument names.

    Raises:
        UsageError: it does not exist.
    """
    if text.lower().endswith(MANIFESTS):
        return Manifest(text)
    if is_url(text):
        return _Tree(_Remote(text), text)
    if not os.path.lexists(text) and not glob.has_magic(text):
        raise UsageError(f"{text} does not exist; give a folder, a glob, a CSV or Parquet manifest, or a URL such as s3://bucket/folder.")
    return _Tree(_Local(), text)


def is_there(text: str) -> bool:
    """Whether a local source is there: of a glob, the folder above its first wildcard."""
    return os.path.lexists(_split_glob(text)[0] if _is_glob(text) else text)


def _is_glob(text: str) -> bool:
    """Whether the wildcards in a source are meant so: a local name may have such letters itself."""
    return glob.has_magic(text) and (is_url(text) or not os.path.lexists(text))


@dataclass(frozen=True, slots=True)
class _Entry:
    name: bytes
    is_folder: bool
    size: int | None = None
    version: str | None = None


class _Lister(Protocol):
    def entries(self, folder: str) -> Iterator[_Entry]: ...
    def is_empty(self, root: str, matches: Callable[[str], bool]) -> bool: ...
    def exists(self, path: str) -> bool: ...
    def is_folder(self, path: str) -> bool: ...
    def item(self, path: str, index: int, entry: _Entry | None) -> Item: ...
    def identity(self, folder: str) -> object: ...


class _Local:
    """Files of this machine, or that it mounts."""

    def entries(self, folder: str) -> Iterator[_Entry]:
        """Folders and images, ordered by the bytes of their names."""
        with closing(sqlite3.connect("")) as names, os.scandir(folder) as listing:
            names.execute("CREATE TABLE names (name BLOB PRIMARY KEY, is_folder INTEGER) WITHOUT ROWID")
            rows = ((os.fsencode(entry.name), is_folder) for entry in listing if (is_folder := _kind(entry)) is not None)
            names.executemany("INSERT INTO names VALUES (?, ?)", rows)
            for name, is_folder in names.execute("SELECT name, is_folder FROM names ORDER BY name"):
                yield _Entry(name, bool(is_folder))

    def is_empty(self, root: str, matches: Callable[[str], bool]) -> bool:
        """Looks in no order, so that it takes no longer where the first image comes soon."""
        folders, seen = [root], set()
        while folders:
            folder = folders.pop()
            try:
                if (identity := self.identity(folder)) in seen:
                    continue
                seen.add(identity)
                with os.scandir(folder) as listing:
                    for entry in listing:
                        if is_folder := _kind(entry):
                            folders.append(entry.path)
                        elif is_folder is False and matches(_join(folder, entry.name)):
                            return False
            except OSError:  # the listing reports it
                return False
        return True

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def is_folder(self, path: str) -> bool:
        return os.path.isdir(path)

    def item(self, path: str, index: int, entry: _Entry | None) -> Item:
        try:
            status = os.stat(path)
        except OSError:  # reading it reports the error
            return Item(path, index, path)
        return Item(path, index, path, status.st_size, str(status.st_mtime_ns))

    def identity(self, folder: str) -> object:
        status = os.stat(folder)
        return status.st_dev, status.st_ino


def _kind(entry: os.DirEntry[str]) -> bool | None:
    """True for a folder to enter, False for an image, None for the rest."""
    if is_ignored(entry.name):
        return None
    try:
        if entry.is_dir():
            return True
        return False if raster.has_image(entry.path) or entry.name.lower().endswith(slide.SUFFIXES) else None
    except OSError:  # a link to itself, or what may not be read: reading it reports the error
        return False


class _Remote:
    """Objects of a store that fsspec opens."""

    def __init__(self, url: str) -> None:
        self._store: FileSystem = store_of(url)

    def entries(self, folder: str) -> Iterator[_Entry]:
        """A store answers with all names of a folder at once: see docs/archive.md for larger ones."""
        children = retrying(lambda: self._store.ls(folder))
        parent = self._store.strip(folder).rstrip("/")
        for child in sorted(children, key=lambda child: os.fsencode(child["name"])):
            name = child["name"].rstrip("/")[len(parent) :].lstrip("/")
            if not name or is_ignored(name):
                continue
            is_folder = child["type"] == "directory"
            if is_folder or self._is_image(f"{folder.rstrip('/')}/{name}", name):
                yield _Entry(os.fsencode(name), is_folder, child.get("size"), version_of(child))

    def _is_image(self, url: str, name: str) -> bool:
        suffix = PurePosixPath(name).suffix.lower()
        if suffix:
            return suffix in (*raster.suffixes(), *slide.SUFFIXES)
        return raster.is_image(retrying(lambda: self._store.read(url, raster.HEAD_BYTES)))

    def is_empty(self, root: str, matches: Callable[[str], bool]) -> bool:
        """Asks until the first image, mostly for one folder."""
        folders = [root]
        while folders:
            folder = folders.pop()
            for entry in self.entries(folder):
                path = _join(folder, os.fsdecode(entry.name))
                if entry.is_folder:
                    folders.append(path)
                elif matches(path):
                    return False
        return True

    def exists(self, path: str) -> bool:
        return retrying(lambda: self._store.exists(path))

    def is_folder(self, path: str) -> bool:
        return retrying(lambda: self._store.is_folder(path))

    def item(self, path: str, index: int, entry: _Entry | None) -> Item:
        return Item(path, index, path, entry.size if entry else None, entry.version if entry else None)

    def identity(self, folder: str) -> object:
        return folder


class _Tree:
    """A file, a folder with those below it, or a glob, which is its fixed folder with a filter."""

    def __init__(self, lister: _Lister, text: str) -> None:
        self._lister, self._text = lister, text
        self._root = text
        self._matches: Callable[[str], bool] = lambda path: True
        if _is_glob(text):
            self._root, self._matches = _split_glob(text)

    def items(self, index: int, after: str | None) -> Iterator[Item]:
        """See `Source`."""
        is_empty = after is None
        for item in self._items(index, after):
            is_empty = False
            yield item
        if is_empty:
            yield Item(self._text, index, self._text, error=f"{self._text} contains no image ({', '.join(raster.suffixes())}); give another source.")

    def is_empty(self) -> bool:
        """See `Source`."""
        if self._lister.is_folder(self._root):
            return self._lister.is_empty(self._root, self._matches)
        return self._root != self._text or not self._lister.exists(self._root)

    def _items(self, index: int, after: str | None) -> Iterator[Item]:
        if self._lister.is_folder(self._root):
            parts = None if after is None else [os.fsencode(part) for part in after.removeprefix(_join(self._root, "")).split("/")]
            yield from self._walk(self._root, index, parts, ())
        elif after is None and self._root == self._text:
            yield self._lister.item(self._root, index, None)

    def _walk(self, folder: str, index: int, after: list[bytes] | None, above: tuple[object, ...]) -> Iterator[Item]:
        try:
            identity = self._lister.identity(folder)
            if identity in above:
                if after == []:  # listed already
                    return
                yield Item(folder, index, folder, error=f"{folder} is a link to a folder above it; remove the link.")
                return
            for entry in self._lister.entries(folder):
                if after and entry.name < after[0]:
                    continue
                path = _join(folder, os.fsdecode(entry.name))
                rest = after[1:] if after and entry.name == after[0] else None
                if entry.is_folder:
                    yield from self._walk(path, index, rest, (*above, identity))
                elif rest is None and self._matches(path):
                    yield self._lister.item(path, index, entry)
        except OSError as error:
            if after == []:  # listed already
                return
            yield Item(folder, index, folder, error=f"The folder {folder} could not be read ({error.strerror or error}); give this user permission.")


def _join(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder.rstrip('/')}/{name}"


def _split_glob(text: str) -> tuple[str, Callable[[str], bool]]:
    """The folder above the first part with a wildcard, and whether a path below it matches."""
    from fsspec.utils import glob_translate

    parts = text.split("/")
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    pattern = re.compile(glob_translate(text))
    root = "/".join(parts[:first]) or ("/" if text.startswith("/") else ".")
    return root, lambda path: pattern.match(path) is not None


class Manifest:
    """A CSV or Parquet table with a column `file`, and optionally `patient`, `slide` and `um_per_pixel`; relative files lie beside it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder = path.rpartition("/")[0]
        self._store = store_of(path) if is_url(path) else None
        if not self._store and not Path(path).is_file():
            raise UsageError(f"The manifest {path} does not exist; give a CSV or Parquet file with a column file.")

    def items(self, index: int, after: str | None) -> Iterator[Item]:
        """See `Source`."""
        first = 0 if after is None else int(after) + 1
        for number, row in enumerate(self._rows()):
            if number >= first:
                yield self._item(row, index, number)

    def is_empty(self) -> bool:
        """See `Source`."""
        return next(self._rows(), None) is None

    def _rows(self) -> Iterator[dict[str, Any]]:
        return self._parquet() if self._path.lower().endswith(".parquet") else self._csv()

    def _item(self, row: dict[str, Any], index: int, number: int) -> Item:
        file, um = str(row["file"] or ""), row.get("um_per_pixel")
        error = None if file else f"Row {number + 1} of {self._path} names no file; complete the manifest."
        if file and self._folder and not is_url(file) and not Path(file).is_absolute():
            file = f"{self._folder}/{file}"
        try:
            scale = float(um) if um not in (None, "") else None
        except ValueError:
            scale, error = None, f"{um!r} in row {number + 1} of {self._path} is no width of a pixel in µm; correct the manifest."
        size, version = (None, None) if is_url(file) else _status(file)
        return Item(file or self._path, index, str(number), size, version, _text(row, "patient"), _text(row, "slide"), scale, error)

    def _csv(self) -> Iterator[dict[str, Any]]:
        with self._open(text=True) as file:
            reader = csv.DictReader(file)
            self._require(reader.fieldnames or ())
            yield from reader

    def _parquet(self) -> Iterator[dict[str, Any]]:
        import pyarrow.parquet as pq

        with self._open(text=False) as file:
            table = pq.ParquetFile(file)
            names = table.schema_arrow.names
            self._require(names)
            columns = [name for name in ("file", "patient", "slide", "um_per_pixel") if name in names]
            for batch in table.iter_batches(CHUNK, columns=columns):
                yield from batch.to_pylist()

    def _open(self, *, text: bool) -> Any:
        import fsspec

        return fsspec.open(self._path, **({"mode": "r", "encoding": "utf-8-sig", "newline": ""} if text else {"mode": "rb"}))

    def _require(self, names: Sequence[str]) -> None:
        if "file" not in names:
            raise UsageError(f"The manifest {self._path} has no column file (it has {', '.join(names) or 'none'}); name the column of the paths so.")


def _text(row: dict[str, Any], name: str) -> str | None:
    return str(row[name]) if row.get(name) not in (None, "") else None


def _status(path: str) -> tuple[int | None, str | None]:
    try:
        status = os.stat(path)
    except OSError:
        return None, None
    return status.st_size, str(status.st_mtime_ns)
