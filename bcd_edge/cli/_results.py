"""The commands below `bcd-edge watch`, on a folder of results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import sqlite3
    from datetime import datetime

    from bcd_edge.bundle import Bundle
    from bcd_edge.results.folder import Results


def results_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the argument RESULTS, a folder of results."""
    return click.argument("results", type=click.Path(path_type=Path, file_okay=False))(function)


pseudonyms = click.option("--pseudonymise", is_flag=True, help="Show hashes instead of the names of files and patients.")


@click.command(short_help="Show watcher status.")
@results_argument
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def status(results: Path, as_json: bool) -> None:
    """Show whether a watcher is running on RESULTS, what it does, and how many images are in which state.

    Exit code: 0 running, and nothing needs attention; 1 not running, no heartbeat for two minutes, waiting for room on
    the disk or for a provider, or files are in quarantine.
    """
    import json
    import time

    from bcd_edge.results import report
    from bcd_edge.results.summary import skipped_files
    from bcd_edge.watch.lock import heartbeat, holder, is_locked

    with reading(results) as db:
        counts = report.counts(db)
    running, beat = is_locked(results), heartbeat(results)
    age = max(0.0, time.time() - (results / "heartbeat.json").stat().st_mtime) if beat else None
    if as_json:
        click.echo(json.dumps({"running": running, "heartbeat_age_s": age, "heartbeat": beat, "counts": counts}, indent=1))
    else:
        state = f"{beat.get('state', 'starting')}, {beat.get('rate', 0):.1f} images/s: " if running else "no watcher is running; last: "
        click.echo(state + holder(results))
        if running and age is not None:
            click.echo(f"last heartbeat {age:.0f} s ago")
        click.echo(", ".join(f"{count:,} {name}" for name, count in counts.items()))
        if sentence := skipped_files(beat.get("skipped", {})):
            click.echo(sentence)
    is_stuck = beat.get("state", "").startswith(("the disk is", "the provider failed", "results cannot"))
    if not running or age is None or age > 120 or is_stuck or counts["quarantined"]:
        raise click.exceptions.Exit(1)


@click.command(short_help="Show results by patient, and files without one.")
@results_argument
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), metavar="YYYY-MM-DD", help="Show the images of this local day.  [default: the latest 20]")
@pseudonyms
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON: days, patients, images, and files without a result.")
def report(results: Path, day: datetime | None, pseudonymise: bool, as_json: bool) -> None:
    """Show the results by patient, and files without a result."""
    import json

    from rich.console import Console

    from bcd_edge.results.pseudonyms import naming
    from bcd_edge.results.summary import skipped_files
    from bcd_edge.watch.lock import heartbeat

    with reading(results) as db:
        on = f"{day:%Y-%m-%d}" if day else None
        parts = _parts(db, naming(db, pseudonymise=pseudonymise), on, limit=-1 if day or as_json else 20)
    skipped = heartbeat(results).get("skipped", {})
    if as_json:
        click.echo(json.dumps(parts | {"skipped": skipped}, indent=1))
        return
    console = Console(markup=False, highlight=False)
    for title, rows in parts.items():
        if rows:
            console.print(_table(title, rows))
    if skipped:
        console.print(skipped_files(skipped))


def _parts(db: sqlite3.Connection, display_name: Callable[[str], str], day: str | None, limit: int) -> dict[str, list[dict[str, Any]]]:
    from dataclasses import asdict

    from bcd_edge.results import report as journal

    return {
        "days": [asdict(day) for day in journal.days(db)],
        "patients": [asdict(patient) | {"name": display_name(patient.name)} for patient in journal.patients(db)],
        "shared between patients": [
            {"sha256": image.sha256, "patients": [*map(display_name, image.patients)], "paths": [*map(display_name, image.paths)]}
            for image in journal.shared_images(db)
        ],
        "images": [
            asdict(row)
            | {
                "path": display_name(row.path),
                "same_as": row.same_as and display_name(row.same_as),
                "patient": row.patient and display_name(row.patient),
            }
            for row in journal.names(db, limit, day)
        ],
        "without an answer": [asdict(file) | {"path": display_name(file.path)} for file in journal.unanswered(db)],
    }


def _table(title: str, rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    heads = {
        "days": ("day", "benign", "malignant", "review", "linked"),
        "patients": ("name", "decision", "p_malignant", "images", "slides", "malignant", "review", "shared"),
        "shared between patients": ("patients", "paths"),
        "images": ("path", "decision", "p_malignant", "answered"),
        "without an answer": ("path", "state", "attempts", "reason"),
    }[title]
    table = Table(*heads, box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for row in rows:
        table.add_row(*(_cell(head, row[head]) for head in heads))
    return table


def _cell(head: str, value: Any) -> str:
    from bcd_edge.results.clock import shown_time

    if head == "answered":
        return shown_time(value)
    if isinstance(value, list):
        return ", ".join(value)
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


@click.command(short_help="Retry files that are in quarantine.")
@results_argument
@click.argument("globs", nargs=-1, metavar="[GLOB]...")
def retry(results: Path, globs: tuple[str, ...]) -> None:
    """Retry files that are in quarantine: all of them, or those that match a GLOB. Works while a watcher is running, too."""
    from contextlib import closing

    from bcd_edge.results.journal import connect
    from bcd_edge.results.report import retry as again

    with closing(connect(_journal(results))) as db:
        count = again(db, globs)
    click.echo(f"{count} to be retried" + (" as soon as a watcher is running." if count else "."))


@click.command(short_help="Determine the patients of classified images again.")
@results_argument
@click.option("--patients", required=True, metavar="PATTERN", help="As for bcd-edge watch.")
def recount(results: Path, patients: str) -> None:
    """Determine patient and slide of every classified image again, and update journal, records and CSVs.

    Works while a watcher is running, too.

    \b
    Examples:
      bcd-edge watch recount results/ --patients folder
      bcd-edge watch recount results/ --patients '^(?P<patient>P\\d+)_(?P<slide>S\\d+)'
    """
    from bcd_edge.results.patients import compile_pattern
    from bcd_edge.results.patients import recount as run
    from bcd_edge.results.report import shared_images
    from bcd_edge.results.summary import count
    from bcd_edge.watch.lock import is_locked

    pattern = compile_pattern(patients)
    with writing(results) as opened:
        click.echo(f"{count(run(opened, pattern), 'name')} changed")
        total, without = opened.journal.connection.execute("SELECT COUNT(*), TOTAL(patient IS NULL) FROM names").fetchone()
        if without:
            click.echo(f"{int(without):,} of {count(total, 'name')} have no patient: the pattern does not match them.", err=True)
        if shared := len(shared_images(opened.journal.connection)):
            click.echo(f"{count(shared, 'image')} under several patients; see: bcd-edge watch report {results}", err=True)
    if not is_locked(results):
        click.echo("summary.html shows it when the watcher runs again.", err=True)


@click.command(short_help="Check all results, and repair them.")
@results_argument
@click.option("--repair", is_flag=True, help="Write missing and changed records and CSVs again, from the journal.")
def verify(results: Path, repair: bool) -> None:
    """Check that every result has its files, and that they are unchanged.

    Exit code: 0 everything is in order, 1 something is missing or was changed.
    """
    from bcd_edge.outputs import printable
    from bcd_edge.results.summary import count
    from bcd_edge.results.verify import repair as run
    from bcd_edge.results.verify import verify as check
    from bcd_edge.watch.lock import is_locked

    if repair:
        with writing(results) as opened:
            click.echo(f"{count(run(opened), 'file')} repaired")
    with reading(results) as db:
        verification = check(db, results, running=is_locked(results))
    for sentence in verification.problems:
        click.echo(printable(sentence), err=True)
    for name in verification.strays:
        click.echo(f"written just before a stop, and not in the journal: {name}")
    if verification.problems:
        number = len(verification.problems)
        hint = "." if repair else f"; to repair what can be: bcd-edge watch verify --repair {results}"
        click.echo(f"{count(number, 'problem')} among {count(verification.done, 'image')}{hint}", err=True)
        raise click.exceptions.Exit(1)
    click.echo(f"ok: {count(verification.done, 'image')} done, {count(verification.moved, 'input')} moved")


def _journal(results: Path) -> Path:
    """The journal of a folder of results.

    Raises:
        UsageError: there is none.
    """
    from bcd_edge.errors import UsageError
    from bcd_edge.results.journal import NAME

    if not (results / NAME).is_file():
        raise UsageError(f"{results} is not a folder of results, because it has no {NAME}; give the folder that was --out for bcd-edge watch.")
    return results / NAME


@contextmanager
def reading(results: Path) -> Iterator[sqlite3.Connection]:
    """Opens the journal for reading: works beside a watcher, without write permission, and on read-only media."""
    from bcd_edge.results import journal

    with journal.reading(_journal(results)) as db:
        yield db


@contextmanager
def writing(results: Path, *, begins: bool = False) -> Iterator[Results]:
    """Opens the results for writing, beside a watcher; new files get mode and owner of the folder, also for root.

    Where it `begins` a folder of results, that may be missing or empty.
    """
    import os

    from bcd_edge.results.folder import Results
    from bcd_edge.results.permissions import give_to_owner

    if not begins or (results.is_dir() and any(results.iterdir())):
        _journal(results)
    os.umask(0o027 if results.is_dir() and results.stat().st_mode & 0o040 else 0o077)
    try:
        with Results.open(results) as opened:
            yield opened
    finally:
        give_to_owner(results)


def answering_bundle(db: sqlite3.Connection, path: Path | None) -> Bundle | None:
    """The bundle at a path, or the embedded one if it answered last in this journal."""
    from bcd_edge import bundle

    opened = bundle.open(path)
    last = db.execute("SELECT sha256 FROM bundles ORDER BY used_at DESC LIMIT 1").fetchone()
    return opened if path or (last and last[0] == opened.sha256) else None
