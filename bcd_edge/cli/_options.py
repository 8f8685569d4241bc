"""Options that several commands share, and the logging that they set up."""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import click

from bcd_edge import plugins
from bcd_edge.cli._types import MAGNIFICATION, SCALE_PATTERN
from bcd_edge.options import RunOptions

Command = Callable[..., Any]

PROVIDERS: Final = click.Choice(["auto", *plugins.names("bcd_edge.backends.providers")])
PRECISIONS: Final = click.Choice(["fp32", "fp16", "int8"])
PROVIDER_OPTION: Final = "Option of the provider, such as delay=5ms for null. Repeatable."
LEVELS: Final = (logging.WARNING, logging.INFO, logging.DEBUG)


def _option(
    name: str, *more: str, kind: Any = None, default: Any = None, show: bool = False, metavar: str | None = None, text: str
) -> Callable[[Command], Command]:
    """An option that an environment variable can set, too: `--bundle` by BCD_EDGE_BUNDLE."""
    variable = "BCD_EDGE_" + name[2:].replace("-", "_").upper()
    return click.option(name, *more, envvar=variable, type=kind, default=default, show_default=show, metavar=metavar, help=text)


def model_options(command: Command) -> Command:
    """Adds options for bundle and provider: the command gets `bundle_path` and `options`."""
    for add in (
        click.option("--provider-option", "provider_options", multiple=True, metavar="NAME=VALUE", callback=pairs, help=PROVIDER_OPTION),
        _option("--device", text="Device of the provider: GPU, NPU, or the number of a card.  [default: the first]"),
        _option("--precision", kind=PRECISIONS, text="Variant of the bundle.  [default: the fastest by tune, else the first]"),
        _option(
            "--provider", kind=PROVIDERS, default="auto", show=True, text="Inference engine; auto: the fastest by tune, else the first available."
        ),
        _option("--bundle", "bundle_path", kind=click.Path(), text="Folder or .zip of a bundle.  [default: the embedded one]"),
    ):
        command = add(command)
    return _with_options(command)


def run_options(command: Command) -> Command:
    """`model_options`, and options for streams, batch size and threads."""
    for add in (
        _option("--streams", kind=click.IntRange(1), text="Concurrent inferences.  [default: by tune, else by the provider]"),
        _option("--batch", kind=click.IntRange(1, 1024), text="Images per inference.  [default: by tune, else by the provider]"),
        _option("--threads", kind=click.IntRange(1), text="CPU threads per inference.  [default: by tune, else by the engine]"),
    ):
        command = add(command)
    return model_options(command)


def triage_options(command: Command) -> Command:
    """What `take_triage` takes."""
    text = "Whether blurred, dark, empty or otherwise stained pictures need review; without it they get the model's answer, for research."
    command = scale_options(command)
    return click.option("--quality/--no-quality", "measures_quality", default=True, show_default=True, envvar="BCD_EDGE_QUALITY", help=text)(command)


def slide_options(command: Command) -> Command:
    """For whole slides: the command gets `slide_out`, `field_um` and `overlap`."""
    folder = "Folder in which each whole slide gets a folder with tiles, regions, heat map and page."
    add = _option("--slide-out", kind=click.Path(path_type=Path, file_okay=False), default=Path("slides"), show=True, text=folder)
    return tile_options(add(command))


def tile_options(command: Command) -> Command:
    """The part of `slide_options` about tiles."""
    for add in (
        _option("--overlap", kind=click.FloatRange(0, 0.75), default=0.0, show=True, text="Share of a slide's tile that the next one overlaps."),
        _option("--field-um", kind=click.FloatRange(0, min_open=True), text="Side of a slide's tiles in µm.  [default: where the bundle is best]"),
    ):
        command = add(command)
    return command


def scale_options(command: Command) -> Command:
    """The part of `triage_options` about the scale of pictures whose files do not tell it."""
    width = "Width of a pixel on the slide in µm, for files that do not tell it: fields of view that the bundle was not trained on need review."
    power = "Power of a slide scanner's objective in place of --um-per-pixel: 10 µm divided by it."
    name = "Scale in a picture's path: breakhis, or a regular expression with a group um_per_pixel or magnification."
    for add in (
        _option("--scale-from-name", kind=SCALE_PATTERN, metavar="PATTERN", text=name),
        _option("--magnification", kind=MAGNIFICATION, metavar="40x", text=power),
        _option("--um-per-pixel", "--mpp", "um_per_pixel", kind=click.FloatRange(0, min_open=True), text=width),
    ):
        command = add(command)
    return command


def take_triage(parameters: dict[str, Any]) -> dict[str, Any]:
    """Removes the parameters of `triage_options` or `scale_options` from a command's parameters; returns arguments of `Classifier.load`.

    Raises:
        click.UsageError: the scale was given twice.
    """
    power = parameters.pop("magnification")
    if power and parameters["um_per_pixel"]:
        raise click.UsageError("--magnification and --um-per-pixel are both given; give the one that is measured.")
    taken = {name: parameters.pop(name) for name in ("measures_quality", "um_per_pixel", "scale_from_name") if name in parameters}
    return taken | {"um_per_pixel": taken["um_per_pixel"] or power}


def take_options(parameters: dict[str, Any]) -> RunOptions:
    """Removes the parameters of `model_options` or `run_options` from a command's parameters, and returns them."""
    names = {field.name for field in fields(RunOptions)} & parameters.keys()
    given = {name: parameters.pop(name) for name in names}
    return RunOptions(**{name: value for name, value in given.items() if value not in ("", "auto")})


def _with_options(command: Command) -> Command:
    @functools.wraps(command)
    def with_options(*args: Any, **parameters: Any) -> Any:
        return command(*args, options=take_options(parameters), **parameters)

    return with_options


def pairs(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """A click callback for a repeatable option with values `NAME=VALUE`."""
    wrong = [value for value in values if not value.partition("=")[0] or "=" not in value]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is not {parameter.metavar}; write both, with = between them.")
    return tuple((name, value) for name, _, value in (text.partition("=") for text in values))


def log_options(command: Command) -> Command:
    """Adds options for logging to standard error, which are not passed to the command."""

    def apply(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
        chosen = ctx.meta.setdefault(__name__, {})
        chosen[parameter.name] = value
        _set_up(chosen.get("quiet", False), chosen.get("verbose", 0), chosen.get("json_logs", False))
        return value

    for add in (
        click.option(
            "--json-logs", is_flag=True, expose_value=False, callback=apply, envvar="BCD_EDGE_JSON_LOGS", help="Write log lines as JSON objects."
        ),
        click.option("-v", "--verbose", count=True, expose_value=False, callback=apply, help="Write more to standard error; -vv for most."),
        click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=apply, help="Write only errors to standard error, no progress."),
    ):
        command = add(command)
    return command


def is_quiet(ctx: click.Context) -> bool:
    """Whether the command was called with --quiet."""
    return bool(ctx.meta.get(__name__, {}).get("quiet"))


def _set_up(quiet: bool, verbose: int, json_lines: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if json_lines else _Text())
    logger = logging.getLogger("bcd_edge")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.ERROR if quiet else LEVELS[min(verbose, len(LEVELS) - 1)])


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        from bcd_edge.outputs import printable

        return f"{record.levelname.lower()}: {printable(record.getMessage())}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "time": datetime.fromtimestamp(record.created, timezone.utc).astimezone().isoformat(timespec="milliseconds"),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
                **getattr(record, "fields", {}),
            }
        )
