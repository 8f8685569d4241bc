"""Times as a person writes them: `500ms`, `2s`, `10m`."""

from __future__ import annotations

import re

from bcd_edge.errors import UsageError


def seconds(text: str) -> float:
    """`2s`, `500ms`, `10m`, `1.5` to seconds.

    Raises:
        UsageError: something else, or a negative time.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m)?\s*", text)
    if not found:
        raise UsageError(f"{text!r} is no time; write for example 2s or 500ms.")
    return float(found[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[found[2] or "s"]
