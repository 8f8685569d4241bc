"""Who may read a folder of results: its owner alone, or a group too."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from bcd_edge.errors import UsageError

# Real names and the key of the pseudonyms are in it; SQLite gives its other files the same mode.
JOURNAL: Final = "journal.sqlite3"
FOLDER_MODE: Final = 0o2750


def share(results: Path, group: str) -> None:
    """Lets a group read a folder of results and what is written into it later; the journal stays with its owner.

    New files inherit the group by the set-group-ID bit of their folder; that they are readable is the process's umask.

    Args:
        results: the folder; created if missing.
        group: name of the group.

    Raises:
        UsageError: there is no such group, or the folder cannot be given to it.
    """
    gid = _gid(group)
    try:
        results.mkdir(parents=True, exist_ok=True)
        (results / JOURNAL).touch(mode=0o600)
        status = results.stat()
        if (status.st_gid, stat.S_IMODE(status.st_mode)) != (gid, FOLDER_MODE):
            _share_contents(results, gid)
    except OSError as error:
        create = f"sudo install -d -o USER -g {group} -m {FOLDER_MODE:o} {results}"
        raise UsageError(f"--group {group}: {results} cannot be shared with it ({error.strerror}); create the folder with: {create}") from None


def give_to_owner(results: Path) -> None:
    """Gives what root has written into a folder of results to the folder's owner, who must be able to go on writing."""
    if os.name != "posix" or os.geteuid() != 0:
        return
    owner = results.stat()
    for folder, folders, files in os.walk(results):
        for path in (os.path.join(folder, name) for name in (*folders, *files)):
            if os.lstat(path).st_uid != owner.st_uid:
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _gid(group: str) -> int:
    try:
        import grp

        return grp.getgrnam(group).gr_gid
    except (ImportError, KeyError):
        raise UsageError(f"--group {group}: this computer has no such group; create it with: sudo groupadd {group}") from None


def _share_contents(results: Path, gid: int) -> None:
    for folder, _, files in os.walk(results, topdown=False):  # the folder itself last: it marks that all below is shared
        for name in files:
            if not name.startswith(JOURNAL):
                _give(os.path.join(folder, name), gid, 0o640)
        _give(folder, gid, FOLDER_MODE)


def _give(path: str, gid: int, mode: int) -> None:
    os.chown(path, -1, gid)
    os.chmod(path, mode)  # after chown, which clears the set-group-ID bit
