"""The command line: a module of this package is a command, imported when it is called or listed."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from bcd_edge import __version__, plugins
from bcd_edge.errors import BcdEdgeError, OutputError

# What only `python -m train`, `export` and `benchmarks` import; the extra `export` brings all of it.
SOURCE_TREE_MODULES: Final = frozenset({"torch", "torchvision", "sklearn", "matplotlib", "jinja2", "safetensors", "onnx", "onnxscript"})


class ErrorGroup(click.Group):
    """A group whose commands report every expected error as a sentence, with its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot show is escaped instead of an error
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except BcdEdgeError as error:
            raise _exit(error) from None
        except ModuleNotFoundError as error:
            module = str(error.name).partition(".")[0]
            if module not in SOURCE_TREE_MODULES:
                raise
            raise click.ClickException(f'{module} is not installed; type, in the source tree: pip install -e ".[export]"') from None
        except KeyboardInterrupt:
            click.echo("\nInterrupted. What was written until now is complete.", err=True)
            raise click.exceptions.Exit(130) from None
        except OSError as error:
            if error.errno == errno.EPIPE:  # `| head` has closed the pipe: end silently, as other commands do
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise click.exceptions.Exit(0) from None
            raise _exit(
                OutputError(f"Writing the results failed ({error.strerror or error}); check disk space and permissions, and run the command again.")
            ) from None


class Commands(ErrorGroup):
    """Finds commands by file name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return plugins.names("bcd_edge.cli")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = plugins.load("bcd_edge.cli", cmd_name).command
        return command


def _exit(error: BcdEdgeError) -> click.ClickException:
    exception = click.ClickException(str(error))
    vars(exception)["exit_code"] = error.exit_code  # declared on the class, but read from the instance
    return exception


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "auto_envvar_prefix": "BCD_EDGE"})
@click.version_option(__version__, prog_name="bcd-edge")
@click.option(
    "--config",
    envvar="BCD_EDGE_CONFIG",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file with defaults for options.  [default: config.toml in the user's configuration folder]",
)
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Classify breast tissue images: benign, malignant, or needs review.

    Assists a pathologist; it does not diagnose alone.

    The value of an option comes from the command line, else from an environment variable (BCD_EDGE_PROVIDER for every
    command, BCD_EDGE_PREDICT_FORMAT for one), else from the configuration file, else it is the default.
    """
    from bcd_edge.cli import _config

    assert isinstance(ctx.command, click.Group)
    ctx.default_map = _config.defaults(config, ctx.command, ctx, ctx.invoked_subcommand)
