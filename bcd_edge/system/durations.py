"""Durations as people write them: `500ms`, `2s`, `10m`, `12h`, `7d`."""

from __future__ import annotations

import re

from bcd_edge.errors import UsageError


def seconds(text: str) -> float:
    """`2s`, `500ms`, `10m`, `12h`, `7d`, `1.5` to seconds.

    Raises:
        UsageError: not a duration, or a negative one.
    """
    matched = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", text)
    if not matched:
        raise UsageError(f"{text!r} is not a duration; write for example 2s or 500ms.")
    return float(matched[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}[matched[2] or "s"]
