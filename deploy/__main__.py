"""`python -m deploy`: light at start."""

from __future__ import annotations

from pathlib import Path

import click

from bcd_edge.cli import ErrorGroup


@click.group(cls=ErrorGroup)
def main() -> None:
    """Check what is deployed: the Jetson image without a Jetson or Docker, and the clinic's set-up."""


@main.command()
@click.option("--only", multiple=True, metavar="NAME", help="Run only this check; repeatable.  [default: all]")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A bundle with an fp32 variant, also compared on arm64.  [default: only the embedded one]",
)
@click.option(
    "--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Write the figures into this Markdown file, between its marks."
)
def check(only: tuple[str, ...], bundle: Path | None, out: Path | None) -> None:
    """Check the Jetson image without a Jetson and without Docker, and list what passed, failed and was skipped.

    Needs about 4 GB in the temporary folder and deletes them. Exit code: 0 nothing failed, 1 something did.
    """
    from deploy.checks import run

    if not run(only, bundle, out):
        raise click.exceptions.Exit(1)


@main.command()
def clinic() -> None:
    """Type every line of docs/clinic.md as written, in a copy-on-write root that is discarded.

    Needs root on Debian or Ubuntu, the network, and 3 GB of memory. systemd is replaced by a stand-in that starts the unit with its account,
    folders and view of the file system. Exit code: 0 every line ended as the document says, 1 one did not.
    """
    from deploy.clinic import run

    run()


if __name__ == "__main__":
    main(prog_name="python -m deploy")
