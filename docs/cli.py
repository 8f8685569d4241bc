"""Writes docs/cli.md, the help of every command, from the commands themselves: `python docs/cli.py docs/cli.md`, or `make docs`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

PROGRAMS: Final = {
    "bcd-edge": "bcd_edge.cli",
    "python -m train": "train.__main__",
    "python -m export": "export.__main__",
    "python -m benchmarks": "benchmarks.__main__",
    "python -m deploy": "deploy.__main__",
}
HEAD: Final = """# Commands

The `--help` of every command, generated from the commands by `make docs`. A test keeps it in step.
"""


def commands() -> Iterator[tuple[str, click.Context]]:
    """What one types for each command of each program, and its context, in the order of `--help`."""
    for program, module in PROGRAMS.items():
        yield from _below(program, importlib.import_module(module).main)


def _below(path: str, command: click.Command, parent: click.Context | None = None) -> Iterator[tuple[str, click.Context]]:
    settings = {**command.context_settings, "terminal_width": 100}
    context = click.Context(command, info_name=path.split()[-1] if parent else path, parent=parent, **settings)
    yield path, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            if subcommand and not subcommand.hidden:
                yield from _below(f"{path} {name}", subcommand, context)


def page() -> str:
    """The text of docs/cli.md."""
    return "\n".join([HEAD, *(f"## {path}\n\n```\n{context.command.get_help(context)}\n```\n" for path, context in commands())])


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
