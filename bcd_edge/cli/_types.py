"""Parameter types of options: durations, sizes, and what tells a picture's scale."""

from __future__ import annotations

import re
from typing import Final

import click

from bcd_edge.errors import UsageError
from bcd_edge.system.durations import seconds
from bcd_edge.triage.scale import NamePattern, compile_pattern, um_at


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


class Magnification(click.ParamType):  # type: ignore[type-arg]
    """The power of an objective, `40x`, to µm per pixel."""

    name = "magnification"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return um_at(value) if isinstance(value, str) else value
        except UsageError as error:
            self.fail(str(error), param, ctx)


class ScalePattern(click.ParamType):  # type: ignore[type-arg]
    """See `bcd_edge.triage.scale.compile_pattern`."""

    name = "pattern"

    def convert(self, value: str | NamePattern, param: click.Parameter | None, ctx: click.Context | None) -> NamePattern:
        try:
            return compile_pattern(value) if isinstance(value, str) else value
        except UsageError as error:
            self.fail(str(error), param, ctx)


MAGNIFICATION: Final = Magnification()
SCALE_PATTERN: Final = ScalePattern()
DURATION: Final = Duration()
SIZE: Final = Size()
