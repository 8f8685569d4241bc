"""The folder of a run: held by one process at a time, and what an interrupted command says."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from bcd_edge.system import lock

LOCK = ".lock"


@contextmanager
def exclusive(out: Path, how_to_resume: str) -> Iterator[None]:
    """Holds a folder against a second training, and ends Ctrl-C with how to go on.

    Args:
        out: created if missing, and removed again if nothing was written to it.
        how_to_resume: the end of a sentence that begins with "Continue with".

    Raises:
        click.ClickException: another process trains into this folder, or it cannot be locked.
        click.exceptions.Exit: 130 after Ctrl-C.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        with lock.exclusive(out / LOCK, 0) as held:
            if not held:
                raise click.ClickException(f"Another training is writing to {out}; wait until it ends, or give another --out.")
            yield
    except sqlite3.OperationalError as error:
        raise click.ClickException(f"{out} cannot be locked ({error}); give an --out on a local disk that can be written.") from None
    except KeyboardInterrupt:
        saved = any(out.rglob("last.pt"))
        click.echo(f"\nInterrupted. {f'Continue with {how_to_resume}.' if saved else 'No epoch was finished yet, so start again.'}", err=True)
        raise click.exceptions.Exit(130) from None
    finally:
        if [path.name for path in out.iterdir()] == [LOCK]:
            with suppress(OSError):
                (out / LOCK).unlink()
                out.rmdir()
