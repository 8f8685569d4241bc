"""`python -m deploy`: light at start."""

from __future__ import annotations

from pathlib import Path

import click

from bcd_edge.cli import ErrorGroup


@click.group(cls=ErrorGroup)
def main() -> None:
    """Prove what can be proven of the Jetson image where there is neither a Jetson nor a Docker engine."""


@main.command()
@click.option("--only", multiple=True, metavar="NAME", help="Run this check alone; repeatable.  [default: every one]")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A bundle with an fp32 variant, compared on arm64 too.  [default: the embedded one alone]",
)
@click.option(
    "--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the figures into this Markdown file, between its marks."
)
def check(only: tuple[str, ...], bundle: Path | None, out: Path | None) -> None:
    """Run the checks one after the other and say at the end what passed, what failed and what was skipped, and why.

    Needs about 4 GB in the temporary folder, which is given back. Exit code: 0 nothing failed, 1 something did.
    """
    from deploy.checks import run

    if not run(only, bundle, out):
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    main(prog_name="python -m deploy")
