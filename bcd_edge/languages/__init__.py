"""Text of pages in the reader's language, from catalogues beside this file: JSON of English to translation."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final

ENGLISH: Final = "en"


@functools.cache
def languages() -> dict[str, dict[str, str]]:
    """Catalogues by language; English is the text itself."""
    catalogues = sorted(entry.name for entry in files(__package__).iterdir() if entry.name.endswith(".json"))
    texts = {name.removesuffix(".json"): json.loads((files(__package__) / name).read_text(encoding="utf-8")) for name in catalogues}
    return {ENGLISH: {"language": "English"}} | texts


def translator(name: str) -> Callable[..., str]:
    """`_("{n} cases", n=3)` in this language; English where its catalogue lacks the text."""
    catalogue = languages()[name]

    def translate(text: str, **values: Any) -> str:
        return catalogue.get(text, text).format(**values) if values else catalogue.get(text, text)

    return translate


def plural(name: str) -> Callable[..., str]:
    """`_n("{n} case", "{n} cases", 3)` in this language; in French, 0 is singular too."""
    translate = translator(name)

    def choose(singular: str, more: str, n: int, **values: Any) -> str:
        return translate(singular if n == 1 or (n == 0 and name == "fr") else more, n=f"{n:,}", **values)

    return choose
