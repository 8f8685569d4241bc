"""DICOM beyond its pixels: pictures received over the network, and results as DICOM objects, written to a folder or sent to an archive.

`bcd_edge.readers.dicom` reads files. `receiver` accepts them into an inbox (C-STORE, C-ECHO); `reports` and `captures` make a
Structured Report and a Secondary Capture of an answer, `export` finds what they need in a folder of results, `sender` delivers
(C-STORE, STOW-RS), and `returns` does that for every answer of a watcher, once.
"""

from __future__ import annotations

import importlib.util

from bcd_edge.errors import ProviderError


def require_package() -> None:
    """Whether the extra `dicom` is installed.

    Raises:
        ProviderError: it is not.
    """
    missing = [name for name in ("pydicom", "pynetdicom", "highdicom") if importlib.util.find_spec(name) is None]
    if missing:
        raise ProviderError(f'DICOM needs what is not installed here ({", ".join(missing)}); type: pip install "bcd-edge[dicom]"')
