"""What a person names on the command line, to images: files, folders, globs and `-`."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bcd_edge.errors import InputError
from bcd_edge.imaging import SUFFIXES


@dataclass
class Inputs:
    """Iterates over `(name, source)`; a source is a path, the bytes from stdin, or the error that stands in for them.

    A file named directly is always taken. From a folder, files whose suffix is that of an image are taken, sorted,
    folders below it too; others are counted in `skipped`, hidden ones among them, so that nothing is left out unsaid.
    """

    paths: Iterable[str]
    skipped: int = 0
    _entered: set[tuple[int, int]] = field(default_factory=set)

    def __iter__(self) -> Iterator[tuple[str, Path | bytes | InputError]]:
        for path in self.paths:
            if path == "-":
                yield "-", _stdin()
            elif os.path.isdir(path):
                yield from self._named_folder(path)
            elif os.path.lexists(path) or not glob.has_magic(path):
                yield path, Path(path)
            else:
                found = sorted(glob.glob(path, recursive=True))
                if not found:
                    yield path, InputError(f"No file matches {path}; check the pattern and the folder.")
                for match in found:
                    if os.path.isdir(match):
                        self.skipped += 1
                    else:
                        yield match, Path(match)

    def _named_folder(self, path: str) -> Iterator[tuple[str, Path | InputError]]:
        self._entered.clear()
        items = self._folder(path)
        first = next(items, None)
        if first:
            yield first
            yield from items
        else:
            yield path, InputError(f"The folder {path} holds no image ({', '.join(SUFFIXES)}); name the folder that does.")

    def _folder(self, path: str) -> Iterator[tuple[str, Path | InputError]]:
        try:
            status = os.stat(path)
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            yield path, InputError(f"The folder {path} could not be read ({error.strerror}); give this user permission to read it.")
            return
        if (status.st_dev, status.st_ino) in self._entered:
            yield path, InputError(f"{path} is a link to a folder that is read already; remove the link.")
            return
        self._entered.add((status.st_dev, status.st_ino))
        for entry in entries:
            if entry.name.startswith("."):
                self.skipped += 1
            elif _is_folder(entry):
                yield from self._folder(entry.path)
            elif entry.name.lower().endswith(SUFFIXES):
                yield entry.path, Path(entry.path)
            else:
                self.skipped += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder that may not be entered: reading it says so
        return False


def _stdin() -> bytes | InputError:
    data = sys.stdin.buffer.read()
    return data or InputError("Nothing came in on standard input; pipe the bytes of one image into it.")
