"""`bcd-edge consult`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bcd_edge.cli._people import below_results
from bcd_edge.cli._results import reading, writing
from bcd_edge.cli._types import DURATION
from bcd_edge.languages import ENGLISH, languages

if TYPE_CHECKING:
    from bcd_edge.consult.links import Link


@click.group()
def command() -> None:
    """Ask a reader elsewhere for an opinion: by a page on a USB stick or in a mail, or by a link to one case.

    RESULTS is the folder of results, BCD_EDGE_RESULTS if not given, else the current folder. CASE is a patient, the name of a picture, a
    pseudonym of either, or the beginning of a SHA-256.

    \b
    Examples:
      bcd-edge consult export P17 results/ --out case.zip
      bcd-edge consult import opinion.json results/
      bcd-edge consult link P17 results/ --expires 7d --url https://edge.clinic.example
    """


@command.command("export")
@click.argument("case")
@below_results
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="ZIP file to write, or a page if it ends with .html.")
@click.option("--to", "recipient", default="", metavar="NAME", help="For whom it is; on the page and in the audit.")
@click.option("--inbox", type=click.Path(path_type=Path, file_okay=False), help="A watcher's inbox.  [default: as its heartbeat says]")
@click.option("--explain", is_flag=True, help="Draw the overlays that are not there yet, which takes some seconds each.")
@click.option("--bundle", type=click.Path(path_type=Path), help="The bundle that answered, for --explain.  [default: the embedded one]")
@click.option("--language", type=click.Choice(sorted(languages())), default=ENGLISH, show_default=True, help="Of the page.")
def export(case: str, results: Path, out: Path, recipient: str, inbox: Path | None, explain: bool, bundle: Path | None, language: str) -> None:
    """Write a case as one page with pictures, overlays, answers and a form, without names.

    It opens in any browser, needs no network, and saves opinion.json. Nothing but the pixels of a picture goes along; text that is part of
    the pixels does, too, so look at the page before you give it away.
    """
    from bcd_edge.consult.overlays import draw_missing
    from bcd_edge.consult.package import build, find, note_export
    from bcd_edge.results.summary import count
    from bcd_edge.results.users import this_account
    from bcd_edge.system.atomic import atomic_write

    with writing(results) as opened:
        db = opened.journal.connection
        pictures = find(db, case)
        if explain:
            draw_missing(db, results, pictures, inbox=inbox, bundle=bundle)
        package = build(db, results, pictures, recipient=recipient, inbox=inbox, language=language)
        note_export(opened, package, who=this_account(), address="local")  # first: what is not in the audit must not go out
        atomic_write(out, package.html.encode() if out.suffix == ".html" else package.zip)
    click.echo(
        f"Wrote {out} with {count(len(package.pictures), 'picture')}. When the opinion is back: bcd-edge consult import opinion.json {results}"
    )


@command.command("import")
@click.argument("opinions", nargs=-1, required=True, metavar="OPINION...", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("results", type=click.Path(path_type=Path, file_okay=False))
def import_(opinions: tuple[Path, ...], results: Path) -> None:
    """File opinions that came back, opinion.json or a ZIP with it, as reviews of their authors; each once.

    Exit code: 0 all are filed; 1 one is not on a case of RESULTS, or was changed.
    """
    from bcd_edge.consult import opinion
    from bcd_edge.errors import InputError
    from bcd_edge.outputs import printable
    from bcd_edge.results.summary import count
    from bcd_edge.results.users import this_account

    refused = False
    with writing(results) as opened:
        for path in opinions:
            try:
                given = opinion.check(opened.journal.connection, _content(path))
            except InputError as error:
                refused = True
                click.echo(f"{path}: {printable(str(error))}", err=True)
                continue
            filed = opinion.file(opened, given, source="consult", who=this_account(), address="local")
            before = "" if filed.new == len(filed.reviews) else f", {len(filed.reviews) - filed.new} of them filed before"
            click.echo(f"{path}: {count(len(filed.reviews), 'review')} by {printable(filed.reviews[0].reader)}{before}")
    if refused:
        raise click.exceptions.Exit(1)


@command.command("link")
@click.argument("case")
@below_results
@click.option("--expires", type=DURATION, default="7d", show_default=True, metavar="TIME", help="How long it is accepted, at most 90d.")
@click.option("--url", required=True, metavar="URL", help="Where readers reach bcd-edge serve, such as https://edge.clinic.example.")
@click.option("--to", "recipient", default="", metavar="NAME", help="For whom it is; on the page and in the audit.")
def link(case: str, results: Path, expires: float, url: str, recipient: str) -> None:
    """Print a link to one case, for reading and one opinion, for whoever has it and no account."""
    from bcd_edge.consult import links
    from bcd_edge.consult.package import find
    from bcd_edge.results.users import this_account

    with writing(results) as opened:
        pictures = find(opened.journal.connection, case)
        token = links.make(opened, pictures, lifetime_s=expires, recipient=recipient, who=this_account(), address="local")
    click.echo(f"{url.rstrip('/')}/consult/{token}")


@command.command("links")
@below_results
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_links(results: Path, as_json: bool) -> None:
    """List every link, the latest first."""
    import json
    from dataclasses import asdict

    from bcd_edge.consult import links
    from bcd_edge.outputs import printable
    from bcd_edge.results.summary import count

    with reading(results) as db:
        made = links.listed(db)
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in made], indent=1))
        return
    for entry in made:
        columns = (
            entry.id[:8],
            entry.made_by,
            f"for {entry.recipient}" if entry.recipient else "",
            count(len(entry.pictures), "picture"),
            _state(entry),
        )
        click.echo("\t".join(map(printable, columns)))


def _state(entry: Link) -> str:
    import time
    from datetime import datetime

    from bcd_edge.results.clock import shown_time

    answered = f"answered {shown_time(entry.answered_at)}, " if entry.answered_at else ""
    if entry.revoked_at:
        return f"{answered}revoked {shown_time(entry.revoked_at)}"
    end = shown_time(datetime.fromtimestamp(entry.expires).astimezone().isoformat())
    return f"{answered}{'expired' if entry.expires <= time.time() else 'valid until'} {end}"


@command.command("revoke")
@click.argument("number", metavar="LINK")
@below_results
def revoke(number: str, results: Path) -> None:
    """Stop accepting a link; LINK is its number in bcd-edge consult links, or the beginning of it."""
    from bcd_edge.consult import links
    from bcd_edge.results.users import this_account

    with writing(results) as opened:
        links.revoke(opened, number, who=this_account(), address="local")
    click.echo("Revoked.")


def _content(path: Path) -> bytes:
    """No more than an opinion can have, for a file that is something else."""
    from bcd_edge.consult.opinion import LARGEST

    with path.open("rb") as file:
        return file.read(LARGEST + 1)
