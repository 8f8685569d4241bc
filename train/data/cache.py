"""Decoded images on disk, so that a second run does not wait for a decoder.

A file is named after what is in it (`key`), so nothing in the folder can be out of date; the folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from bcd_edge.bundle import Input
from bcd_edge.errors import InputError
from bcd_edge.readers import raster
from bcd_edge.system import caches
from bcd_edge.system.atomic import atomic_file
from train.data.sources import Item

# Raise it when `raster.decode` or `raster.resize` gives other pixels for the same file than before.
POLICY = 2
LIMIT_BYTES = 4 * 2**30
# The folder may be one that holds other files too: what is not named like this is never removed.
OWN = re.compile(r"(\.\d+\.)?[0-9a-f]{64}\.npy(\.part)?")
DIGEST_BYTES = 32


def pixels(items: Sequence[Item], size: int) -> npt.NDArray[np.uint8]:
    """Every image decoded and resized by `bcd_edge.readers.raster`, from the cache where it has them.

    Returns:
        uint8 RGB, N x `size` x `size` x 3, read-only; mapped from a file, or in memory where there is no cache to write.

    Raises:
        click.ClickException: an image is damaged; a score must not hide it.
    """
    path = folder() / f"{key(items, size)}.npy"
    shape = (len(items), size, size, 3)
    stored = _load(path, shape)
    if stored is not None:
        return stored
    decoded = _decode(items, size)
    decoded.flags.writeable = False  # as the mapped file will be, so that the first run behaves like the second
    try:
        _make_room(path.parent, decoded.nbytes)
        _store(path, decoded)
    except OSError as error:
        click.echo(f"The decoded images are not kept in {path.parent} ({error.strerror or error}); set BCD_EDGE_CACHE to another folder.", err=True)
        return decoded
    stored = _load(path, shape)
    return decoded if stored is None else stored


def folder() -> Path:
    """`images` in the folder of `bcd_edge.system.caches`."""
    return caches.root() / "images"


def key(items: Sequence[Item], size: int) -> str:
    """SHA-256 over all that decides the pixels: the files in their order, the size, the decoder, the policy."""
    parts = [*(item.sha256 for item in items), str(size), str(cv2.__version__), str(POLICY)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _decode(items: Sequence[Item], size: int) -> npt.NDArray[np.uint8]:
    decoded = np.empty((len(items), size, size, 3), np.uint8)

    def decode(index: int) -> None:
        decoded[index] = raster.resize(raster.decode(items[index].data), Input(size, size))

    pool = ThreadPoolExecutor()  # OpenCV gives the lock away while it decodes
    try:
        done = pool.map(decode, range(len(items)))
        for item in track(items, f"decoding {len(items):,} images", console=Console(file=sys.stderr), transient=True):
            try:
                next(done)
            except InputError as error:
                raise click.ClickException(f"{item.source} {item.name}: {error} `python -m train data` lists every such file.") from None
    finally:
        pool.shutdown(cancel_futures=True)  # an error or Ctrl-C does not wait for thousands of images
    return decoded


def _load(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8] | None:
    """The file's pixels, mapped; None if it is missing, cut short, damaged or unreadable. Marks it as just used."""
    try:
        stored: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r")
        with path.open("rb") as file:
            file.seek(-DIGEST_BYTES, os.SEEK_END)
            intact = file.read() == hashlib.sha256(stored.data).digest()
        if stored.shape != shape or stored.dtype != np.uint8 or not intact:
            return None
    except (OSError, ValueError, EOFError):
        return None
    with contextlib.suppress(OSError):  # a cache that may only be read is of use too
        os.utime(path)
    return stored


def _store(path: Path, decoded: npt.NDArray[np.uint8]) -> None:
    """Written, not mapped: a full disk is then an OSError and not a bus error."""
    with atomic_file(path) as file:
        np.save(file, decoded)
        file.write(hashlib.sha256(decoded.data).digest())


def _make_room(folder: Path, wanted_bytes: int) -> None:
    """Removes what was not used for longest until `wanted_bytes` more fit under the limit.

    A file that another process has mapped stays readable there after it is removed (POSIX), or cannot be removed (Windows).
    """
    if wanted_bytes > LIMIT_BYTES:
        raise OSError(f"they take {wanted_bytes / 2**30:.1f} GiB and the cache {LIMIT_BYTES / 2**30:.0f}")
    folder.mkdir(parents=True, exist_ok=True)
    entries = [(entry.stat(), entry.path) for entry in os.scandir(folder) if OWN.fullmatch(entry.name)]
    total = sum(status.st_size for status, _ in entries)
    for status, path in sorted(entries, key=lambda entry: entry[0].st_mtime):
        if total + wanted_bytes <= LIMIT_BYTES:
            break
        try:
            Path(path).unlink()
        except OSError:  # another process was first, or holds it
            continue
        total -= status.st_size
