"""How names of files and patients are shown."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable

from bcd_edge.outputs import printable


def naming(db: sqlite3.Connection, *, pseudonymise: bool) -> Callable[[str], str]:
    """Names as they are, or as 16 hexadecimal digits, the same for the same name.

    They are keyed with a secret of this journal: the plain hash of a short number is found by trying all numbers.
    """
    if not pseudonymise:
        return printable
    key = db.execute("SELECT value FROM meta WHERE name = 'pseudonym_key'").fetchone()[0]
    return lambda name: hashlib.blake2b(os.fsencode(name), key=key, digest_size=8).hexdigest()
