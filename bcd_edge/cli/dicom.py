"""`bcd-edge dicom`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from bcd_edge.cli._people import below_results
from bcd_edge.cli._results import reading, writing

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom import Dataset


FILE: Final = click.Path(path_type=Path, dir_okay=False)


def _chosen(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that choose answers and say where their images are."""
    for option in (
        click.option("--inbox", type=click.Path(path_type=Path, file_okay=False), help="A watcher's inbox.  [default: as its heartbeat says]"),
        click.option("--study", metavar="UID", help="Answers to images of this study alone."),
        click.option("--patient", metavar="ID", help="Answers to images of this Patient ID alone."),
    ):
        function = option(function)
    return function


@click.group()
def command() -> None:
    """Hand answers to DICOM images to an archive, as DICOM objects.

    RESULTS is the folder of results, BCD_EDGE_RESULTS if not given, else the current folder. To receive images and return results as they
    come, see --dicom-port and --dicom-return of bcd-edge watch.

    \b
    Examples:
      bcd-edge dicom export results/ --out reports/
      bcd-edge dicom send results/ --to PACS@10.1.2.3:104
      bcd-edge dicom returns results/
    """


@command.command("export")
@below_results
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write.")
@_chosen
def export(results: Path, out: Path, **chosen: Any) -> None:
    """Write a Structured Report for each answer, a Secondary Capture for each overlay that was drawn, and annotations for a slide's tiles.

    Reports follow TID 1500, have the content qualification RESEARCH, and name the bundle with its hash. They carry the patient and study of
    the image.

    Exit code: 0 all are written; 1 an image is no longer to be found, or its header is not enough.
    """
    from bcd_edge.dicom.export import write

    def written(objects: list[Dataset]) -> None:
        out.mkdir(parents=True, exist_ok=True)
        for made in objects:
            write(made, out)

    _hand_over(results, str(out), written, **chosen)


@command.command("send")
@below_results
@click.option("--to", "target", required=True, metavar="AE@HOST:PORT", help="The archive; or the URL of its STOW-RS service.")
@click.option("--title", default="BCD_EDGE", show_default=True, metavar="AE", help="Own AE title.")
@click.option("--certificate", type=FILE, help="Send over TLS, with this certificate.  [default: no TLS to an AE]")
@click.option("--key", type=FILE, help="Key of the certificate.  [default: in the same file]")
@click.option("--ca", type=FILE, help="Send over TLS, to an archive whose certificate this authority has signed.  [default: the system's]")
@click.option("--credentials", type=FILE, help="File with USER:PASSWORD or a bearer token for STOW-RS.")
@_chosen
def send(
    results: Path, target: str, title: str, certificate: Path | None, key: Path | None, ca: Path | None, credentials: Path | None, **chosen: Any
) -> None:
    """Send what export would write to an archive; sent again, an object has the same UID.

    Exit code: 0 all are stored; 1 an image is no longer to be found, or its header is not enough; 5 the archive did not store one.
    """
    from bcd_edge.dicom.peers import target as parse
    from bcd_edge.dicom.sender import Archive
    from bcd_edge.dicom.sender import send as deliver
    from bcd_edge.dicom.tls import Tls

    tls = Tls(certificate, key, ca) if certificate or ca else None
    archive = Archive(parse(target), title, tls, credentials)
    archive.check()
    _hand_over(results, target, lambda objects: deliver(archive, objects), **chosen)


@command.command("returns")
@below_results
@click.option("--retry", is_flag=True, help="Have a watcher with --dicom-return send everything again that was not stored.")
def returns(results: Path, retry: bool) -> None:
    """Show what bcd-edge watch --dicom-return has sent, has still to send, and could not send.

    Exit code: 0 nothing failed; 1 something did, and was not sent since.
    """
    from bcd_edge.dicom.returns import listed
    from bcd_edge.dicom.returns import retry as again

    if retry:
        with writing(results) as opened:
            click.echo(f"{again(opened.journal)} to be sent as soon as a watcher with --dicom-return is running.")
        return
    with reading(results) as db:
        sent, waiting, failed = listed(db)
    click.echo(f"{sent:,} sent, {waiting:,} waiting, {len(failed):,} failed the last time")
    for sha256, kind, reason in failed:
        click.echo(f"{kind} of {sha256[:16]}: {reason}")
    if failed:
        raise click.exceptions.Exit(1)


def _hand_over(
    results: Path, place: str, deliver: Callable[[list[Dataset]], None], *, patient: str | None, study: str | None, inbox: Path | None
) -> None:
    """Delivers the objects of each answer, and says how many."""
    from bcd_edge.dicom import require_package
    from bcd_edge.dicom.export import answers, objects
    from bcd_edge.errors import InputError
    from bcd_edge.outputs import printable
    from bcd_edge.results.pictures import watched_inbox
    from bcd_edge.results.summary import count

    require_package()
    delivered = missing = 0
    with reading(results) as db:
        for answer in answers(db, study=study, patient=patient):
            try:
                made = list(objects(db, results, inbox or watched_inbox(results), answer).values())
            except InputError as error:
                missing += 1
                click.echo(f"{printable(answer.record['source'])}: {error}", err=True)
                continue
            deliver(made)
            delivered += len(made)
    click.echo(f"{place}: {count(delivered, 'object')}")
    if missing:
        raise click.exceptions.Exit(1)
