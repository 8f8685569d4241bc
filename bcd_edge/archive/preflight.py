"""Checks of the sources before a run writes or reads anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bcd_edge.archive import sources
from bcd_edge.archive.stores import is_url
from bcd_edge.errors import BcdEdgeError, UsageError
from bcd_edge.readers import raster, slide

# Sources that a message names.
SHOWN: Final = 3


def check_new(texts: Sequence[str]) -> None:
    """Before a new run makes its folder.

    Raises:
        UsageError: a source does not exist or cannot be listed, or nothing is in any of them.
    """
    opened = {text: sources.open(text) for text in texts}
    if all(_is_empty(text, source) for text, source in opened.items()):
        names = ", ".join(texts[:SHOWN]) + (f" and {len(texts) - SHOWN:,} more" if len(texts) > SHOWN else "")
        raise UsageError(f"There is no image ({', '.join((*raster.suffixes(), *slide.SUFFIXES))}) in {names}; give another source.")


def _is_empty(text: str, source: sources.Source) -> bool:
    try:
        return source.is_empty()
    except BcdEdgeError:
        raise
    except Exception as error:  # every store has errors of its own
        raise UsageError(f"{text} could not be listed ({type(error).__name__}: {error}); fix this, or give another source.") from None


def check_relative(texts: Sequence[str]) -> None:
    """Before a run goes on that was begun when sources were not yet made absolute.

    Raises:
        UsageError: a relative source is not there from the current folder.
    """
    for text in texts:
        if not is_url(text) and not Path(text).is_absolute() and (not sources.is_there(text) or sources.open(text).is_empty()):
            raise UsageError(
                f"The run was begun with the relative source {text}, which is not in {Path.cwd()}; go on in the folder where it was begun."
            )


def check_reachable(texts: Sequence[str]) -> None:
    """Before listed inputs are read, which would all fail where a mount has gone.

    Raises:
        UsageError: no source is there.
    """
    if texts and not any(is_url(text) or sources.is_there(text) for text in texts):
        raise UsageError(f"{texts[0]} is not there any more, so all inputs would fail; mount it again, then go on with --resume.")
