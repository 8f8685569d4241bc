"""What in a folder of images belongs to an operating system or a storage device, and not to a person."""

from __future__ import annotations

from typing import Final

# In lower case: thumbnails and recycle bins of Synology and QNAP, recycle bins and indexes of Windows, leftovers of macOS and of fsck.
SYSTEM_FOLDERS: Final = frozenset(
    {
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin", "recycler"),
        *("system volume information", "lost+found", "__macosx"),
    }
)


def is_ignored(path: str) -> bool:
    """Whether a path below a folder of images, with / between its parts, is hidden or within a system's folder.

    Classification, watching and training all leave such files alone: deleted images and thumbnails of images lie there.
    """
    return any((part.startswith(".") and part not in (".", "..")) or part.lower() in SYSTEM_FOLDERS for part in path.split("/"))
