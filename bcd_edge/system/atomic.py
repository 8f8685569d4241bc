"""Atomic writes: a temporary file beside the target, then a rename."""

from __future__ import annotations

import os
from pathlib import Path


def atomic_write(path: Path, content: bytes) -> None:
    """Replaces a file, or leaves the old one if interrupted or out of space; after a power cut either may be there.

    Raises:
        OSError: the file could not be written; no partial file is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
