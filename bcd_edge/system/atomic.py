"""Files that are whole or not there: written beside, then renamed."""

from __future__ import annotations

import os
from pathlib import Path


def atomic_write(path: Path, content: bytes) -> None:
    """Replaces a file. An interruption or a full disk leaves the former one; after a power cut it may still be the former.

    Raises:
        OSError: it could not be written; nothing half-written is left.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
