"""The commands below `bcd-edge watch`, on a folder of results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import sqlite3


def results_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the argument RESULTS, a folder of results."""
    return click.argument("results", type=click.Path(path_type=Path, file_okay=False))(function)


pseudonyms = click.option("--pseudonymise", is_flag=True, help="Hashes for the names of files and patients.")


@click.command(short_help="Is a watcher at work, and how does it stand?")
@results_argument
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(results: Path, as_json: bool) -> None:
    """Say whether a watcher is at work on RESULTS, and how it stands.

    Exit code: 0 at work, and nothing needs a person; 1 not at work, not heard of for two minutes, or files are in quarantine.
    """
    import json
    import time

    from bcd_edge.results import report
    from bcd_edge.watch.lock import heartbeat, holder, is_locked

    with _journal(results) as db:
        counts = report.counts(db)
    running, said = is_locked(results), heartbeat(results)
    age = max(0.0, time.time() - (results / "heartbeat.json").stat().st_mtime) if said else None
    if as_json:
        click.echo(json.dumps({"running": running, "heartbeat_age_s": age, "heartbeat": said, "counts": counts}, indent=1))
    else:
        doing = f"{said.get('state', 'starting')}, {said.get('rate', 0):.1f} images/s: " if running else "no watcher is at work; the last was "
        click.echo(doing + holder(results))
        if running and age is not None:
            click.echo(f"last heard of {age:.0f} s ago")
        click.echo(", ".join(f"{count:,} {name}" for name, count in counts.items()))
    if not running or age is None or age > 120 or counts["quarantined"]:
        raise click.exceptions.Exit(1)


@click.command(short_help="What was answered, by patient, and what was not.")
@results_argument
@click.option("--day", metavar="YYYY-MM-DD", help="Images of this day.  [default: the latest 20]")
@pseudonyms
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON: days, patients, images, and what is without an answer.")
def report(results: Path, day: str | None, pseudonymise: bool, as_json: bool) -> None:
    """Tell what was answered, patient by patient, and what got no answer."""
    import json
    from dataclasses import asdict

    from rich.console import Console

    from bcd_edge.results import report as told
    from bcd_edge.watch.results import naming

    with _journal(results) as db:
        shown = naming(db, pseudonymise=pseudonymise)
        parts: dict[str, list[dict[str, Any]]] = {
            "days": [asdict(one) for one in told.days(db)],
            "patients": [asdict(one) | {"name": shown(one.name)} for one in told.patients(db)],
            "images": [
                asdict(one) | {"path": shown(one.path), "same_as": one.same_as and shown(one.same_as), "patient": one.patient and shown(one.patient)}
                for one in told.names(db, -1 if day or as_json else 20, day)
            ],
            "without an answer": [asdict(one) | {"path": shown(one.path)} for one in told.troubles(db)],
        }
    if as_json:
        click.echo(json.dumps(parts, indent=1))
        return
    console = Console(markup=False, highlight=False)
    for title, rows in parts.items():
        if rows:
            console.print(_table(title, rows))


def _table(title: str, rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    heads = {
        "days": ("day", "benign", "malignant", "review", "linked"),
        "patients": ("name", "decision", "p_malignant", "images", "slides", "malignant", "review"),
        "images": ("path", "decision", "p_malignant", "answered"),
        "without an answer": ("path", "state", "tries", "reason"),
    }[title]
    table = Table(*heads, box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for row in rows:
        cells = {head: f"{value:.3f}" if isinstance(value := row[head], float) else str(value) for head in heads}
        if "answered" in cells:
            cells["answered"] = cells["answered"][:19].replace("T", " ")
        table.add_row(*cells.values())
    return table


@click.command(short_help="Try again what is in quarantine.")
@results_argument
@click.argument("globs", nargs=-1, metavar="[GLOB]...")
def retry(results: Path, globs: tuple[str, ...]) -> None:
    """Have files that are in quarantine tried again, all of them or those that match; also while a watcher is at work."""
    from bcd_edge.results.report import retry as again

    with _journal(results) as db:
        count = again(db, globs)
    click.echo(f"{count} to be tried again" + (" as soon as a watcher is at work." if count else "."))


@click.command(short_help="Are all results there, and as they were written?")
@results_argument
def verify(results: Path) -> None:
    """Check that everything that is done has its files, and that they are what was written.

    Exit code: 0 it is so, 1 something is missing or was changed.
    """
    from bcd_edge.outputs import printable
    from bcd_edge.watch.lock import is_locked
    from bcd_edge.watch.verify import verify as check

    with _journal(results) as db:
        verdict = check(db, results, running=is_locked(results))
    for sentence in verdict.problems:
        click.echo(printable(sentence), err=True)
    for name in verdict.strays:
        click.echo(f"written just before a stop, and not in the journal: {name}")
    if verdict.problems:
        click.echo(f"{len(verdict.problems)} problems among {verdict.done:,} images.", err=True)
        raise click.exceptions.Exit(1)
    click.echo(f"fine: {verdict.done:,} images done, {verdict.moved:,} inputs moved")


@contextmanager
def _journal(results: Path) -> Iterator[sqlite3.Connection]:
    """The journal of a folder of results, for reading beside a watcher.

    Raises:
        UsageError: there is none.
    """
    from contextlib import closing

    from bcd_edge.errors import UsageError
    from bcd_edge.watch.journal import NAME, connect

    if not (results / NAME).is_file():
        raise UsageError(f"{results} is no folder of results: it has no {NAME}; give the folder that was --out of bcd-edge watch.")
    with closing(connect(results / NAME)) as db:
        yield db
