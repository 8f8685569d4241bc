"""Exceptions of bcd-edge, and the exit code of a command that fails with each.

    BcdEdgeError
    ├── InputError      1   one image cannot be read or decoded; a batch continues without it
    ├── UsageError      2   an argument or option that cannot be honoured
    ├── BundleError     3   a bundle that is damaged, unknown or unsafe, and therefore not used
    ├── ProviderError   4   an inference engine that is not installed or does not start
    └── OutputError     5   results could not be written

A message is one or two sentences: what was requested, what is wrong, what to do.
"""

from __future__ import annotations


class BcdEdgeError(Exception):
    """Base class; `exit_code` is the exit code of a command that fails with the error."""

    exit_code = 1


class InputError(BcdEdgeError, ValueError):
    """An image that cannot be read or decoded by the policy in `bcd_edge.readers.raster`.

    `sha256` is the hash of the file's bytes, if they could be read.
    """

    sha256: str | None = None


class UsageError(BcdEdgeError, ValueError):
    """An argument that cannot be honoured, such as a threshold outside 0..1."""

    exit_code = 2


class BundleError(BcdEdgeError, ValueError):
    """A bundle that must not be used: damaged, of an unknown schema, or with a path outside its folder."""

    exit_code = 3


class ProviderError(BcdEdgeError, RuntimeError):
    """An execution provider that is not installed, not available here, or not the one that ran."""

    exit_code = 4


class OutputError(BcdEdgeError, OSError):
    """Results that could not be written: full disk, closed pipe, no permission."""

    exit_code = 5
