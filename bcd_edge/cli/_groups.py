"""A command that has commands below it: `watch INBOX` beside `watch report RESULTS`."""

from __future__ import annotations

from typing import Any

import click


class DefaultGroup(click.Group):
    """A command of its own; where the first word names a command below it, that one runs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[__name__] = list(args)
        if args and args[0] in self.commands:
            ctx.args = args
            return args
        ctx.allow_interspersed_args = True  # a group's options come first; those of a plain command come anywhere
        return click.Command.parse_args(self, ctx, args or ["--help"])

    def invoke(self, ctx: click.Context) -> Any:
        if not ctx.args:
            return click.Command.invoke(self, ctx)
        name, command, rest = self.resolve_command(ctx, ctx.args)
        assert command is not None
        with command.make_context(name, rest, parent=ctx) as inner:
            return command.invoke(inner)


class OwnArgument(click.Argument):
    """The argument of the command itself; it is no part of the commands below, where click would repeat it."""

    def get_usage_pieces(self, ctx: click.Context) -> list[str]:
        return super().get_usage_pieces(ctx) if isinstance(ctx.command, DefaultGroup) else []


def words(ctx: click.Context) -> list[str]:
    """What `DefaultGroup` was called with."""
    return list(ctx.meta[__name__])
