"""Ray's errors, which are pages, as one sentence that says what to do."""

from __future__ import annotations

import re
from typing import Final

INSTALL: Final = "install the same bcd-edge[ray] in the environment of each node's ray start, and start Ray there again"
_VERSION: Final = re.compile(r"Ray: (\S+)\s+Python: (\S+)")
_COLOUR: Final = re.compile(r"\x1b\[\d+m")


def not_connected(address: str, error: str, *, is_answered: bool) -> str:
    """Why a cluster could not be joined.

    Args:
        address: of the cluster.
        error: what Ray says.
        is_answered: whether something listens there.
    """
    versions = _VERSION.findall(error)
    if len(versions) > 1:
        theirs, ours = (f"Ray {ray} with Python {python}" for ray, python in versions[:2])
        return f"The Ray cluster at {address} runs {theirs}, and this command {ours}; {INSTALL}."
    if is_answered:
        return (
            f"What listens at {address} let this command not join ({_last_line(error)}); give the address of a Ray cluster of the same version, and "
            "where ray start says that token authentication is enabled, set RAY_AUTH_MODE=token (--ray-address auto does it)."
        )
    return f"There is no Ray cluster at {address} ({_last_line(error)}); start one with: ray start --head"


def failed(error: str) -> str:
    """Why a worker or the whole cluster failed."""
    line = _last_line(error)
    if "bcd_edge" in line or "failed to import" in error:
        return f"Where this Ray cluster starts workers, bcd-edge is missing or of another version ({line}); {INSTALL}, or give another --ray-address."
    return f"The Ray cluster failed ({line}); see its logs and ray status, start it again if need be, then go on with --resume."


def _last_line(error: str) -> str:
    """Where a traceback says what happened."""
    lines = [line.strip() for line in _COLOUR.sub("", error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "no reason given"
