"""Options that several commands have, and the logging that they set up."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from typing import Any, Final

import click

Command = Callable[..., Any]

LEVELS: Final = (logging.WARNING, logging.INFO, logging.DEBUG)


def _option(name: str, *more: str, kind: Any = None, default: Any = None, show: bool = False, text: str) -> Callable[[Command], Command]:
    """An option that a variable may set too: `--bundle` by BCD_EDGE_BUNDLE."""
    variable = "BCD_EDGE_" + name[2:].replace("-", "_").upper()
    return click.option(name, *more, envvar=variable, type=kind, default=default, show_default=show, help=text)


def model_options(command: Command) -> Command:
    """Which bundle runs on what."""
    engines = "Inference engine: cpu, openvino, cuda, tensorrt, null; auto is what tune found fastest here."
    precisions = click.Choice(["fp32", "fp16", "int8"])
    for add in (
        _option("--device", default="", text="Device of the provider: GPU, NPU, a card's number.  [default: its first]"),
        _option("--precision", kind=precisions, text="Variant of the bundle.  [default: what tune found, else its first]"),
        _option("--provider", default="auto", show=True, text=engines),
        _option("--bundle", "bundle_path", kind=click.Path(), text="Folder or .zip of a bundle.  [default: the embedded one]"),
    ):
        command = add(command)
    return command


def speed_options(command: Command) -> Command:
    """How work is spread; what is 0 is chosen by `bcd_edge.plan`."""
    for add in (
        _option("--inferences", kind=click.IntRange(0), default=0, text="Inferences at the same time.  [default: chosen]"),
        _option("--batch", kind=click.IntRange(0, 1024), default=0, text="Images in one inference.  [default: chosen]"),
        _option("--threads", kind=click.IntRange(0), default=0, text="CPU threads for one inference.  [default: chosen]"),
    ):
        command = add(command)
    return command


def log_options(command: Command) -> Command:
    """What is said on standard error; removes its own arguments after they were heeded."""

    def heed(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
        chosen = ctx.meta.setdefault(__name__, {})
        chosen[parameter.name] = value
        _set_up(chosen.get("quiet", False), chosen.get("verbose", 0), chosen.get("json_logs", False))
        return value

    for add in (
        click.option("--json-logs", is_flag=True, expose_value=False, callback=heed, envvar="BCD_EDGE_JSON_LOGS", help="Log lines as JSON objects."),
        click.option("-v", "--verbose", count=True, expose_value=False, callback=heed, help="Say more on standard error; -vv most."),
        click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=heed, help="Only errors on standard error, no progress."),
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
                "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
                **getattr(record, "fields", {}),
            }
        )
