"""Defaults from a TOML file: keys are options, in a table for one command, or at the top for every command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bcd_edge.errors import UsageError


def file() -> Path:
    """The path of the configuration file if neither `--config` nor `BCD_EDGE_CONFIG` is given."""
    import platformdirs

    return platformdirs.user_config_path("bcd-edge") / "config.toml"


def defaults(path: Path | None, group: click.Group, ctx: click.Context, called: str | None) -> dict[str, Any]:
    """The defaults for the command that is called, in the form of click's `default_map`.

    Raises:
        UsageError: the given file is missing or not TOML, or has a key that is not an option.
    """
    source = path or file()
    if path is None and not source.is_file():
        return {}
    content = _read(source)
    shared = {key: value for key, value in content.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    commands = group.list_commands(ctx)
    for name in tables:
        if name not in commands:
            raise UsageError(f"{source}: there is no command {name}; a table must have the name of a command: {', '.join(commands)}.")
    command = group.get_command(ctx, called) if called else None
    if command is None or called is None:
        return {}
    known = _options(command)
    common = {known[key]: value for key, value in shared.items() if key in known}
    every = {key for name in commands if (existing := group.get_command(ctx, name)) for key in _options(existing)}
    unknown = [key for key in shared if key not in every]
    if unknown:
        raise UsageError(f"{source}: no command has an option {unknown[0]}; see: bcd-edge --help")
    return {called: common | _table(source, command, called, tables.get(called, {}))}


def _table(source: Path, command: click.Command, name: str, table: dict[str, Any]) -> dict[str, Any]:
    known, values = _options(command), {}
    for key, value in table.items():
        below = command.commands.get(key) if isinstance(command, click.Group) else None
        if below is not None and isinstance(value, dict):
            values[key] = _table(source, below, f"{name} {key}", value)
        elif key in known and not isinstance(value, dict):
            values[known[key]] = value
        else:
            raise UsageError(f"{source}: {name} has no option {key}; see: bcd-edge {name} --help")
    return values


def _options(command: click.Command) -> dict[str, str]:
    """Long names of the options, without dashes, to the names of their parameters."""
    names: dict[str, str] = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name:
            names |= {option[2:]: parameter.name for option in parameter.opts if option.startswith("--")}
    return names


def _read(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:  # invalid TOML is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"The configuration {path} could not be read ({reason}); correct it, or give another one with --config.") from None
    return content
