"""The JSON record of an image: its place and its bytes."""

from __future__ import annotations

import json
from typing import Any


def result_path(sha256: str, bundle_sha256: str) -> str:
    """Below the results; consists of content and bundle alone, so that classifying again after a power cut replaces the same file."""
    return f"records/{sha256[:2]}/{sha256}.{bundle_sha256[:12]}.json"


def result_bytes(record: dict[str, Any]) -> bytes:
    """A JSON document on one line, as `predict --format jsonl` writes; ASCII, because a file's name need not be Unicode."""
    return (json.dumps(record) + "\n").encode()
