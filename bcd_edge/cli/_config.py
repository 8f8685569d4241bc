"""Defaults from a TOML file: keys are the options of a command, in a table of its name, or above all tables for every command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bcd_edge.errors import UsageError


def file() -> Path:
    """Where a user's configuration lies if `--config` and `BCD_EDGE_CONFIG` name none."""
    import platformdirs

    return platformdirs.user_config_path("bcd-edge") / "config.toml"


def defaults(path: Path | None, group: click.Group, ctx: click.Context, called: str | None) -> dict[str, Any]:
    """What the file says for the command that is called, in the form of click's `default_map`.

    Raises:
        UsageError: the file that was named is missing, is no TOML, or holds a key that is no option.
    """
    where = path or file()
    if path is None and not where.is_file():
        return {}
    content = _read(where)
    shared = {key: value for key, value in content.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    commands = group.list_commands(ctx)
    for name in tables:
        if name not in commands:
            raise UsageError(f"{where}: there is no command {name}; tables are named after commands: {', '.join(commands)}.")
    command = group.get_command(ctx, called) if called else None
    if command is None or called is None:
        return {}
    known = _options(command)
    common = {known[key]: value for key, value in shared.items() if key in known}
    unknown = [key for key in shared if not any(key in _options(one) for name in commands if (one := group.get_command(ctx, name)))]
    if unknown:
        raise UsageError(f"{where}: {unknown[0]} is an option of no command; see: bcd-edge --help")
    return {called: common | _table(where, command, called, tables.get(called, {}))}


def _table(where: Path, command: click.Command, name: str, table: dict[str, Any]) -> dict[str, Any]:
    known, found = _options(command), {}
    for key, value in table.items():
        below = command.commands.get(key) if isinstance(command, click.Group) else None
        if below is not None and isinstance(value, dict):
            found[key] = _table(where, below, f"{name} {key}", value)
        elif key in known and not isinstance(value, dict):
            found[known[key]] = value
        else:
            raise UsageError(f"{where}: {key} is no option of {name}; see: bcd-edge {name} --help")
    return found


def _options(command: click.Command) -> dict[str, str]:
    """Every option's long name without dashes, to the name of its parameter."""
    found: dict[str, str] = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name:
            found |= {option[2:]: parameter.name for option in parameter.opts if option.startswith("--")}
    return found


def _read(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:  # no TOML is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"The configuration {path} could not be read ({reason}); correct it, or name another with --config.") from None
    return content
