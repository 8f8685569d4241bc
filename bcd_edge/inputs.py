"""Images named on the command line: files, folders, globs and `-`."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bcd_edge.errors import InputError
from bcd_edge.readers import raster, slide
from bcd_edge.system.folders import is_ignored


@dataclass
class Inputs:
    """Iterates over `(name, source)`; a source is a path, the bytes from standard input, or an error in place of them.

    A file that is named directly is always used. In a folder and the folders below it, files with the suffix of an image or a whole slide,
    and files without a suffix that begin like one, are used, in sorted order.

    Attributes:
        paths: what was named.
        skipped: number of other files in folders and globs until now, hidden ones included.
        listed: number of images known until now: a folder is listed before its first image is read.
    """

    paths: Iterable[str]
    skipped: int = 0
    listed: int = 0
    _entered: set[tuple[int, int]] = field(default_factory=set)

    def __iter__(self) -> Iterator[tuple[str, Path | bytes | InputError]]:
        for path in self.paths:
            if path != "-" and os.path.isdir(path):
                yield from self._named_folder(path)
            elif path == "-" or os.path.lexists(path) or not glob.has_magic(path):
                self.listed += 1
                yield path, _stdin() if path == "-" else Path(path)
            else:
                yield from self._glob(path)

    def _glob(self, pattern: str) -> Iterator[tuple[str, Path | InputError]]:
        matches = sorted(glob.glob(pattern, recursive=True))
        files = [match for match in matches if not os.path.isdir(match) and (is_ignored(pattern) or not is_ignored(match))]
        self.skipped += len(matches) - len(files)
        self.listed += len(files)
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
            yield path, InputError(f"The folder {path} contains no image ({', '.join(raster.suffixes())}); give a folder that does.")

    def _folder(self, path: str) -> Iterator[tuple[str, Path | InputError]]:
        try:
            status = os.stat(path)
            with os.scandir(path) as listing:
                entries = sorted((entry.name, _is_folder(entry), not _is_folder(entry) and _is_image(entry)) for entry in listing)
        except OSError as error:
            yield path, InputError(f"The folder {path} could not be read ({error.strerror}); give this user permission to read it.")
            return
        if (status.st_dev, status.st_ino) in self._entered:
            yield path, InputError(f"{path} is a link to a folder that was read already; remove the link.")
            return
        self._entered.add((status.st_dev, status.st_ino))
        self.listed += sum(is_image for _, _, is_image in entries)
        for name, is_folder, is_image in entries:
            inside = f"{path.rstrip(os.sep)}{os.sep}{name}"
            if is_folder and not is_ignored(name):
                yield from self._folder(inside)
            elif is_image:
                yield inside, Path(inside)
            else:
                self.skipped += 1


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Whether a file is an image by its name, or by its content if the name has no suffix; hidden files and parts of a slide are not."""
    try:
        if is_ignored(entry.name) or not (raster.has_image(entry.path) or entry.name.lower().endswith(slide.SUFFIXES)):
            return False
        return not slide.is_secondary(entry.path)
    except OSError:  # it may not be read
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder without permission: reading it reports the error
        return False


def _stdin() -> bytes | InputError:
    data = sys.stdin.buffer.read()
    return data or InputError("Standard input is empty; pipe the bytes of one image into it.")
