"""Parameter types of options: durations and sizes."""

from __future__ import annotations

import re
from typing import Final

import click

from bcd_edge.errors import UsageError
from bcd_edge.system.durations import seconds


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in recent versions of click only
    """`500ms`, `2s`, `10m`, `12h`, `7d` to seconds, as a float."""

    name = "duration"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return seconds(value) if isinstance(value, str) else float(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class Size(click.ParamType):  # type: ignore[type-arg]
    """`500MB`, `2 GB`, `0` to bytes; 1 kB is 1000."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        matched = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*", str(value).lower())
        if not matched:
            self.fail(f"{value!r} is not a size; write for example 500MB or 2GB.", param, ctx)
        return int(float(matched[1]) * 1000 ** " kmgt".index(matched[2] or " "))


DURATION: Final = Duration()
SIZE: Final = Size()
