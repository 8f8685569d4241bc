"""An answered input is moved or deleted, if that was asked for; one that has other content by now is left for the next look.

A program may replace a file at any moment. So it is renamed first, which nobody can do in between, then looked at, and
put back if it is not the one that was answered.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Final

from bcd_edge.watch import files
from bcd_edge.watch.entries import Unsettled

# Bytes; a name of 255, the most that file systems take, leaves no room for what is added.
LONGEST_STEM: Final = 200


def target_path(path: str, sha256: str, day: str, results: Path) -> str:
    """Where an input will lie below the results: its own path with a part of its hash, and a number if that is taken."""
    inside = PurePosixPath(path)
    stem = os.fsdecode(os.fsencode(inside.stem)[:LONGEST_STEM])
    for number in range(1, 1_000_000):
        again = f"-{number}" if number > 1 else ""
        target = f"processed/{day}/{inside.parent.as_posix()}/{stem}-{sha256[:8]}{again}{inside.suffix}".replace("/./", "/")
        if not os.path.lexists(results / target):
            break
    return target


def put_away(one: Unsettled, inbox: Path, results: Path) -> str | None:
    """Moves or deletes an input; returns where it lies below the results, or None where it does not.

    Does nothing where it was done before, or where the file is another one by now. May be called again after it was ended
    at any moment.

    Raises:
        OSError: it could not be done; the input lies where it did.
    """
    source = inbox / one.look.path
    aside = source.with_name(f".{one.sha256[:16]}-{one.rowid}.bcd-edge")
    target = results / one.target if one.after == "move" and one.target else None
    if target and os.path.lexists(target):
        aside.unlink(missing_ok=True)
        return one.target
    if not _set_aside(source, aside, one):
        return None
    try:
        if target is None or _move(aside, target, one.sha256, results):
            aside.unlink(missing_ok=True)
            return one.target
    except OSError:
        _put_back(aside, source)
        raise
    _put_back(aside, source)
    return None


def _set_aside(source: Path, aside: Path, one: Unsettled) -> bool:
    """Renames the file that was answered; whether it is that one."""
    if os.path.lexists(aside):  # ended in the middle of it
        same = hashlib.sha256(aside.read_bytes()).hexdigest() == one.sha256
    else:
        before = _status(source)
        if before is None or (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (one.look.size, one.look.mtime_ns, one.look.ctime_ns):
            return False
        source.rename(aside)
        same = _is_same(_status(aside), before)
    if not same:
        _put_back(aside, source)
    return same


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_same(status: os.stat_result | None, before: os.stat_result) -> bool:
    """Without the time of the last change of status, which changes with the name."""
    return status is not None and (status.st_ino, status.st_size, status.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


def _put_back(aside: Path, source: Path) -> None:
    """Under its own name, or beside a new file that has that."""
    if not os.path.lexists(aside):
        return
    if os.path.lexists(source):
        source = source.with_name(f"{os.fsdecode(os.fsencode(source.stem)[:LONGEST_STEM])}-{aside.name[1:9]}{source.suffix}")
    aside.rename(source)


def _move(aside: Path, target: Path, sha256: str, results: Path) -> bool:
    """Whether it was moved; not, where a copy to another disk has not the hash that was answered."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        aside.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if not _copy(aside, target, sha256, results):
            return False
    for folder in files.folders(results, [target.relative_to(results).as_posix()]):
        files.flush_folder(folder)
    return True


def _copy(aside: Path, target: Path, sha256: str, results: Path) -> bool:
    """To another disk, flushed and compared before the original goes."""
    beside = results / files.TEMPORARY / sha256
    try:
        shutil.copy2(aside, beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
            if hashlib.sha256(file.read()).hexdigest() != sha256:
                return False
        beside.replace(target)
        return True
    finally:
        beside.unlink(missing_ok=True)
