"""What a person names on the command line, to images: files, folders, globs and `-`."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bcd_edge.errors import InputError
from bcd_edge.readers.raster import SUFFIXES
from bcd_edge.system.folders import is_ignored


@dataclass
class Inputs:
    """Iterates over `(name, source)`; a source is a path, the bytes from stdin, or the error that stands in for them.

    A file named directly is always taken. From a folder, files whose suffix is that of an image are taken, sorted,
    folders below it too; others are counted in `skipped`, hidden ones among them, so that nothing is left out unsaid.
    `found` is how many are known of until now: a folder is listed, by names alone, before its first image is given.
    """

    paths: Iterable[str]
    skipped: int = 0
    found: int = 0
    _entered: set[tuple[int, int]] = field(default_factory=set)

    def __iter__(self) -> Iterator[tuple[str, Path | bytes | InputError]]:
        for path in self.paths:
            if path != "-" and os.path.isdir(path):
                yield from self._named_folder(path)
            elif path == "-" or os.path.lexists(path) or not glob.has_magic(path):
                self.found += 1
                yield path, _stdin() if path == "-" else Path(path)
            else:
                yield from self._glob(path)

    def _glob(self, pattern: str) -> Iterator[tuple[str, Path | InputError]]:
        matches = sorted(glob.glob(pattern, recursive=True))
        files = [match for match in matches if not os.path.isdir(match) and (is_ignored(pattern) or not is_ignored(match))]
        self.skipped += len(matches) - len(files)
        self.found += len(files)
        if not matches:
            yield pattern, InputError(f"No file matches {pattern}; check the pattern and the folder.")
        for file in files:
            yield file, Path(file)

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
            with os.scandir(path) as listing:
                entries = sorted((entry.name, _is_folder(entry)) for entry in listing)
        except OSError as error:
            yield path, InputError(f"The folder {path} could not be read ({error.strerror}); give this user permission to read it.")
            return
        if (status.st_dev, status.st_ino) in self._entered:
            yield path, InputError(f"{path} is a link to a folder that is read already; remove the link.")
            return
        self._entered.add((status.st_dev, status.st_ino))
        self.found += sum(_is_image(name) and not is_folder for name, is_folder in entries)
        for name, is_folder in entries:
            inside = f"{path.rstrip(os.sep)}{os.sep}{name}"
            if is_folder and not is_ignored(name):
                yield from self._folder(inside)
            elif _is_image(name) and not is_folder:
                yield inside, Path(inside)
            else:
                self.skipped += 1


def _is_image(name: str) -> bool:
    """By its name alone; hidden files are none."""
    return not is_ignored(name) and name.lower().endswith(SUFFIXES)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder that may not be entered: reading it says so
        return False


def _stdin() -> bytes | InputError:
    data = sys.stdin.buffer.read()
    return data or InputError("Nothing came in on standard input; pipe the bytes of one image into it.")
