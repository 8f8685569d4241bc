"""What is kept between runs in the user's cache folder, and trusted only as far as its checksums go."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

import platformdirs

from bcd_edge import whole

SEAL: Final = "sha256.json"


def root() -> Path:
    """`$BCD_EDGE_CACHE`, or `bcd-edge` in the user's cache folder; in the temporary one for a user without a home."""
    if named := os.environ.get("BCD_EDGE_CACHE"):
        return Path(named)
    path = platformdirs.user_cache_path("bcd-edge")
    return path if path.is_absolute() else Path(tempfile.gettempdir()) / "bcd-edge"


def folder(kind: str, *key: str) -> Path:
    """The folder of one entry: everything that decides its content is in its name, so that nothing stale is found."""
    return root() / kind / hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]


def trusted(entry: Path | None) -> Path | None:
    """An entry's folder, emptied first if a file in it is not what `seal` noted; None where nothing can be kept.

    An engine that loads a damaged file may crash, or answer wrongly without a word.
    """
    if entry is None:
        return None
    try:
        if entry.exists() and _sums(entry) != json.loads((entry / SEAL).read_text(encoding="utf-8")):
            shutil.rmtree(entry)
    except (OSError, ValueError):  # interrupted before it was sealed, or the seal itself is damaged
        shutil.rmtree(entry, ignore_errors=True)
    try:
        entry.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return entry if os.access(entry, os.W_OK) else None


def seal(entry: Path) -> None:
    """Notes the checksum of every file of an entry. A disk that is full keeps nothing: the next run builds again."""
    try:
        whole.write(entry / SEAL, json.dumps(_sums(entry), indent=1).encode())
    except OSError:
        shutil.rmtree(entry, ignore_errors=True)


def _sums(entry: Path) -> dict[str, str]:
    files = sorted(file for file in entry.rglob("*") if file.is_file() and file.name != SEAL and file.suffix != ".part")
    return {file.relative_to(entry).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
