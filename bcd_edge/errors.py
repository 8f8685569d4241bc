"""Everything bcd-edge raises on purpose, and the exit code each ends a command with.

    BcdEdgeError
    ├── InputError      1   one image cannot be read or decoded; a batch goes on without it
    ├── UsageError      2   an argument or option that cannot be honoured
    ├── BundleError     3   a bundle that is damaged, unknown or unsafe; nothing is classified with it
    ├── ProviderError   4   an inference engine that is missing or did not start
    └── OutputError     5   results could not be written

A message is one sentence or two: what was asked, what is wrong, what to do.
"""

from __future__ import annotations


class BcdEdgeError(Exception):
    """The root of the tree; `exit_code` is what a command that fails with it returns."""

    exit_code = 1


class InputError(BcdEdgeError, ValueError):
    """An image that cannot become pixels under the written policy of `bcd_edge.readers.raster`.

    `sha256` is that of the file's bytes, if they could be read.
    """

    sha256: str | None = None


class UsageError(BcdEdgeError, ValueError):
    """An argument that cannot be honoured, such as a threshold outside 0..1."""

    exit_code = 2


class BundleError(BcdEdgeError, ValueError):
    """A bundle that must not be used: damaged, unknown schema, or a path leaving its folder."""

    exit_code = 3


class ProviderError(BcdEdgeError, RuntimeError):
    """An execution provider that is not installed, not available here, or not the one that ran."""

    exit_code = 4


class OutputError(BcdEdgeError, OSError):
    """Results that could not be written: full disk, closed pipe, no permission."""

    exit_code = 5
