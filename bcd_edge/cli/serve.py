"""`bcd-edge serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bcd_edge.cli._groups import DefaultGroup, OwnArgument
from bcd_edge.cli._options import log_options, run_options, take_options, take_triage, tile_options, triage_options
from bcd_edge.cli._people import audit, token, user
from bcd_edge.cli._types import DURATION, SIZE

if TYPE_CHECKING:
    from bcd_edge.serve.settings import Camera, Settings

FIX = 'pip install "bcd-edge[serve]"'


@click.group(cls=DefaultGroup, subcommand_metavar="", options_metavar="[OPTIONS]")
@click.argument("results", cls=OwnArgument, type=click.Path(path_type=Path, file_okay=False))
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on; others than this computer's own need users and TLS.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Name under which browsers reach the server, beside localhost. Repeatable.")
@click.option("--certificate", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Certificate chain for TLS, PEM.")
@click.option("--key", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Private key of the certificate, PEM.")
@click.option("--behind-proxy", is_flag=True, help="A proxy on this computer has TLS, and sends X-Forwarded-For and X-Forwarded-Proto.")
@click.option("--inbox", type=click.Path(path_type=Path, file_okay=False), help="A watcher's inbox.  [default: as its heartbeat says]")
@click.option("--live", "source", metavar="SOURCE", help="Show a camera on the page /live, and answer it: as for bcd-edge live.")
@click.option("--objective", metavar="10x", help="With --live: scale, region and white balance that bcd-edge live remembered under this name.")
@click.option("--blinded", is_flag=True, help="Hide the answer until the reader's first opinion of a case.")
@click.option("--audit-share", type=click.FloatRange(0, 1), help="Share of benign answers that is reviewed at random.  [default: 0.05]")
@click.option("--max-body", type=SIZE, default="64MB", show_default=True, metavar="SIZE", help="Largest request.")
@click.option("--max-waiting", type=click.IntRange(1), default=256, show_default=True, help="Pictures that may wait for an answer.")
@click.option("--timeout", type=DURATION, default="60s", show_default=True, metavar="TIME", help="Longest upload, and longest wait for an answer.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Operating threshold; the review band stretches to hold it.  [default: the bundle's]")
@tile_options
@triage_options
@run_options
@log_options
def command(**asked: Any) -> None:
    """Serve a folder of results: pages for reviewing, an HTTP API, and the Open Inference Protocol.

    Works alone or beside bcd-edge watch on the same folder. On 127.0.0.1 it prints a link that opens the pages once; any other
    --address needs users and TLS. See: bcd-edge serve COMMAND --help

    Exit code: 0 stopped when asked; 2 usage; 3 bundle refused; 4 provider unavailable, or bcd-edge[serve] is not installed; 5
    results not written.

    \b
    Examples:
      bcd-edge serve results/
      bcd-edge serve results/ --blinded --audit-share 0.1
      bcd-edge serve results/ --live /dev/video0 --objective 10x
      bcd-edge serve results/ --address 0.0.0.0 --host edge.clinic.local --certificate cert.pem --key key.pem
    """
    import importlib.util
    import os

    from bcd_edge.errors import ProviderError

    if missing := [name for name in ("starlette", "uvicorn", "jinja2", "python_multipart") if importlib.util.find_spec(name) is None]:
        raise ProviderError(f"The server needs the package {missing[0]}, which is not installed; fix: {FIX}")
    from bcd_edge.results import users
    from bcd_edge.results.folder import Results
    from bcd_edge.results.worklist import change_audit_share
    from bcd_edge.serve.run import Listening, serve

    os.umask(0o027 if asked["results"].exists() and asked["results"].stat().st_mode & 0o040 else 0o077)
    listening = Listening(**{name: asked[name] for name in ("address", "port", "certificate", "key", "behind_proxy")})
    with Results.open(asked["results"]) as results:
        listening.check(has_users=users.can_sign_in(results.journal.connection))
        if asked["audit_share"] is not None:
            change_audit_share(results.journal, asked["audit_share"])
    serve(_settings(asked, is_encrypted=listening.is_encrypted), listening, lambda link: click.echo(f"Open {link}"))


def _settings(asked: dict[str, Any], *, is_encrypted: bool) -> Settings:
    from bcd_edge.serve.settings import Settings
    from bcd_edge.slides.settings import SlideSettings

    options = asked.get("options") or take_options(asked)
    return Settings(
        results=asked["results"].resolve(),
        model={"path": asked["bundle_path"], "options": options, "threshold": asked["threshold"], **take_triage(asked)},
        inbox=asked["inbox"],
        camera=_camera(asked),
        hosts=("127.0.0.1", "localhost", "[::1]", *asked["hosts"]),
        is_encrypted=is_encrypted,
        blinded=asked["blinded"],
        max_body=asked["max_body"],
        max_waiting=asked["max_waiting"],
        slides=SlideSettings(field_um=asked["field_um"], overlap=asked["overlap"]),
        timeout_s=asked["timeout"],
    )


def _camera(asked: dict[str, Any]) -> Camera | None:
    from bcd_edge.errors import UsageError

    if not asked["source"]:
        if asked["objective"]:
            raise UsageError("--objective is for a camera; give --live SOURCE, too.")
        return None
    if asked["blinded"]:
        raise UsageError("--live shows answers that --blinded hides; give one of them.")
    from bcd_edge.live import optics
    from bcd_edge.live.sources import parse
    from bcd_edge.serve.settings import Camera

    return Camera(parse(asked["source"]), optics.recall_known(asked["objective"]), asked["objective"])


for below in (user, token, audit):
    command.add_command(below)
