"""`bcd-edge dicom`."""

from __future__ import annotations

from pathlib import Path

import click

from bcd_edge.cli._people import below_results
from bcd_edge.cli._results import reading


@click.group()
def command() -> None:
    """Hand answers to DICOM images to an archive, as DICOM objects.

    RESULTS is the folder of results, BCD_EDGE_RESULTS if not given, else the current folder. To receive images and return results as they
    come, see --dicom-port and --dicom-return of bcd-edge watch.

    \b
    Examples:
      bcd-edge dicom export results/ --out reports/
      bcd-edge dicom send results/ --to PACS@10.1.2.3:104
    """


@command.command("export")
@below_results
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write.")
@click.option("--patient", metavar="ID", help="Answers to images of this Patient ID alone.")
@click.option("--study", metavar="UID", help="Answers to images of this study alone.")
@click.option("--inbox", type=click.Path(path_type=Path, file_okay=False), help="A watcher's inbox.  [default: as its heartbeat says]")
def export(results: Path, out: Path, patient: str | None, study: str | None, inbox: Path | None) -> None:
    """Write a Structured Report for each answer, and a Secondary Capture for each overlay that was drawn.

    Reports follow TID 1500, have the content qualification RESEARCH, and name the bundle with its hash. They carry the patient and study of
    the image.

    Exit code: 0 all are written; 1 an image is no longer to be found.
    """
    from bcd_edge.dicom import require_package
    from bcd_edge.dicom.export import answers, objects, write
    from bcd_edge.errors import InputError
    from bcd_edge.outputs import printable
    from bcd_edge.results.pictures import watched_inbox
    from bcd_edge.results.summary import count

    require_package()
    out.mkdir(parents=True, exist_ok=True)
    written = missing = 0
    with reading(results) as db:
        for answer in answers(db, study=study, patient=patient):
            try:
                for made in objects(db, results, inbox or watched_inbox(results), answer).values():
                    write(made, out)
                    written += 1
            except InputError as error:
                missing += 1
                click.echo(f"{printable(answer.record['source'])}: {error}", err=True)
    click.echo(f"{out}: {count(written, 'object')}")
    if missing:
        raise click.exceptions.Exit(1)


@command.command("send")
@below_results
@click.option("--to", "target", required=True, metavar="AE@HOST:PORT", help="The archive; or the URL of its STOW-RS service.")
@click.option("--title", default="BCD_EDGE", show_default=True, metavar="AE", help="Own AE title.")
@click.option("--patient", metavar="ID", help="Answers to images of this Patient ID alone.")
@click.option("--study", metavar="UID", help="Answers to images of this study alone.")
@click.option("--inbox", type=click.Path(path_type=Path, file_okay=False), help="A watcher's inbox.  [default: as its heartbeat says]")
def send(results: Path, target: str, title: str, patient: str | None, study: str | None, inbox: Path | None) -> None:
    """Send what export would write to an archive; sent again, an object has the same UID.

    Exit code: 0 all are stored; 1 an image is no longer to be found; 5 the archive did not store one.
    """
    from bcd_edge.dicom import require_package
    from bcd_edge.dicom.export import answers, objects
    from bcd_edge.dicom.peers import target as parse
    from bcd_edge.dicom.sender import send as deliver
    from bcd_edge.errors import InputError
    from bcd_edge.outputs import printable
    from bcd_edge.results.pictures import watched_inbox
    from bcd_edge.results.summary import count

    require_package()
    sent = missing = 0
    with reading(results) as db:
        for answer in answers(db, study=study, patient=patient):
            try:
                made = list(objects(db, results, inbox or watched_inbox(results), answer).values())
            except InputError as error:
                missing += 1
                click.echo(f"{printable(answer.record['source'])}: {error}", err=True)
                continue
            deliver(parse(target), made, title=title)
            sent += len(made)
    click.echo(f"{target}: {count(sent, 'object')}")
    if missing:
        raise click.exceptions.Exit(1)
