"""Whose image it is, from its name: a pattern with a group `patient`, and `slide` where there is one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from bcd_edge.errors import UsageError
from bcd_edge.records import Verdict

# `SOB_<B|M>_<subtype>-<year>-<patient><slide letters>-<magnification>-<sequence>` (Spanhol et al., IEEE TBME 2016): the
# accession number is the patient, letters after it are slides of one person. 190EF is a whole identifier.
PATTERNS: Final = {"breakhis": r"SOB_[BM]_[A-Z]+-\d+-(?P<patient>190EF|\d+)(?P<slide>[A-Z]*)-\d+-\d+"}


@dataclass(frozen=True, slots=True)
class Patient:
    """What all images of one patient say together: `p_malignant` is their mean, `decision` the bundle's rule for it."""

    name: str
    images: int
    slides: int
    p_malignant: float
    decision: Verdict
    malignant: int
    review: int


def compile_pattern(text: str) -> re.Pattern[str]:
    """A name from `PATTERNS`, or a regular expression that is searched for in the file's name.

    Raises:
        UsageError: it is no regular expression, or has no group `patient`.
    """
    try:
        found = re.compile(PATTERNS.get(text, text))
    except re.error as error:
        raise UsageError(f"The pattern {text!r} is no regular expression ({error}); mend it, or write {', '.join(PATTERNS)}.") from None
    if "patient" not in found.groupindex:
        raise UsageError(f"The pattern {text!r} has no group for the patient; write for example (?P<patient>[0-9]+), or {', '.join(PATTERNS)}.")
    return found


def find(pattern: re.Pattern[str] | None, name: str) -> tuple[str | None, str | None]:
    """Patient and slide in a file's name; None for what is not in it."""
    found = pattern.search(name) if pattern else None
    if not found:
        return None, None
    groups = found.groupdict()
    return groups["patient"] or None, groups.get("slide") or None
