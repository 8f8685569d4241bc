"""`bcd-edge watch`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from bcd_edge.cli._groups import DefaultGroup, OwnArgument, words
from bcd_edge.cli._options import is_quiet, log_options, run_options, take_options, take_triage, tile_options, triage_options
from bcd_edge.cli._results import pseudonyms, recount, report, retry, status, verify
from bcd_edge.cli._types import DURATION, SIZE

if TYPE_CHECKING:
    from contextlib import ExitStack

    from bcd_edge.watch.settings import ControlSignals, Settings, Stats

FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.group(cls=DefaultGroup, subcommand_metavar="", options_metavar="[OPTIONS]")
@click.argument("inbox", cls=OwnArgument, type=click.Path(path_type=Path, file_okay=False))
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the results, on a disk of this computer.")
@click.option("--once", is_flag=True, help="End when everything in the folder is answered.")
@click.option("--after", type=click.Choice(["keep", "move", "delete"]), default="keep", show_default=True, help="What to do with classified images.")
@click.option("--include", multiple=True, metavar="GLOB", help="Take only files that match.  [default: the suffixes of images]")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Do not take files that match.")
@click.option("--poll", is_flag=True, help="Do not rely on notifications of changes; for network shares.")
@click.option("--scan", type=DURATION, default="10s", show_default=True, metavar="TIME", help="Pause between two scans of the whole folder.")
@click.option(
    "--stable-for", type=DURATION, default="2s", show_default=True, metavar="TIME", help="Take a file when it has not changed for this long."
)
@click.option("--max-attempts", type=click.IntRange(1), default=5, show_default=True, help="Attempts per file before it goes to quarantine.")
@click.option(
    "--retry-after", type=DURATION, default="2s", show_default=True, metavar="TIME", help="Pause before the second attempt; doubles each time."
)
@click.option("--max-provider-attempts", type=click.IntRange(1), default=10, show_default=True, help="Provider failures in a row before it ends.")
@click.option("--min-free", type=SIZE, default="500MB", show_default=True, metavar="SIZE", help="Take nothing while the disk has less space left.")
@click.option(
    "--patients",
    metavar="PATTERN",
    help="Patient in a path: breakhis, folder, folder/slide, or a regular expression.",
)
@click.option("--reprocess", is_flag=True, help="Classify again what only another bundle has answered.")
@click.option("--explain", is_flag=True, help="Draw an overlay for every image after its answer; needs bcd-edge[explain].")
@click.option("--group", metavar="NAME", help="Members of this group of users may read the results.  [default: only the owner]")
@pseudonyms
@click.option("--excel", is_flag=True, help="Write CSVs for Excel: with a byte order mark, and without formulas.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Serve Prometheus metrics.  [default: no]")
@click.option("--metrics-address", default="127.0.0.1", show_default=True, help="Address they are served on.")
@click.option("--dicom-port", type=click.IntRange(1, 65535), help="Receive DICOM images into INBOX; needs bcd-edge[dicom].  [default: no]")
@click.option("--dicom-address", default="127.0.0.1", show_default=True, help="Address they are received on.")
@click.option("--dicom-title", default="BCD_EDGE", show_default=True, metavar="AE", help="Own AE title, which callers must name.")
@click.option(
    "--dicom-allow", multiple=True, metavar="AE@ADDRESS", help="Who may send: an AE title or *, and an address or network.  [default: *@127.0.0.1]"
)
@click.option(
    "--dicom-slide-after",
    type=DURATION,
    default="10s",
    show_default=True,
    metavar="TIME",
    help="A slide is whole when nothing of it came so long.",
)
@click.option("--dicom-return", metavar="AE@HOST:PORT", help="Send results of DICOM images there; or the URL of a STOW-RS service.")
@click.option("--dicom-credentials", type=FILE, help="File with USER:PASSWORD or a bearer token for that service.")
@click.option("--dicom-certificate", type=FILE, help="Receive and return over TLS, with this certificate.  [default: no TLS]")
@click.option("--dicom-key", type=FILE, help="Key of the certificate.  [default: in the same file]")
@click.option("--dicom-ca", type=FILE, help="Authority that signed the certificates of archives and callers, who must show one.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Operating threshold; the review band stretches to hold it.  [default: the bundle's]")
@tile_options
@triage_options
@run_options
@log_options
@click.pass_context
def command(ctx: click.Context, /, metrics_port: int | None, metrics_address: str, **asked: Any) -> None:
    """Classify every image that arrives in a folder, once each, and keep watching.

    Each gets a JSON record below RESULTS, a row in a CSV of the day, and a place on summary.html. Killed at any moment,
    nothing is lost or answered twice. See: bcd-edge watch COMMAND --help

    Exit code: 0 stopped when asked, or with --once everything is answered; 1 with --once, some got no answer; 2 usage, or
    another watcher has RESULTS; 3 bundle refused; 4 provider unavailable or failing repeatedly; 5 results not written.

    \b
    Examples:
      bcd-edge watch inbox/ --out results/
      bcd-edge watch inbox/ --out results/ --after move --patients folder
      bcd-edge watch //server/scans --out results/ --poll
      bcd-edge watch inbox/ --out results/ --dicom-port 11112 --dicom-return PACS@127.0.0.1:4242
      bcd-edge watch status results/
    """
    import os
    from contextlib import ExitStack, nullcontext

    from bcd_edge.watch.metrics import served
    from bcd_edge.watch.run import watch
    from bcd_edge.watch.settings import ControlSignals, Stats

    node = {name.removeprefix("dicom_"): asked.pop(name) for name in list(asked) if name.startswith("dicom_")}
    settings = _settings(asked)
    os.umask(0o077 if settings.group is None else 0o027)
    signals, stats = ControlSignals(), Stats()
    screen = not is_quiet(ctx)
    with (
        served(stats, metrics_port, metrics_address) if metrics_port else nullcontext(),
        _handled(signals),
        _shown(stats) if screen else nullcontext(),
        ExitStack() as dicom,
    ):
        _begin_dicom(dicom, settings, **node)
        watch(settings, signals, stats, lambda: _reread(ctx))
    without = stats.waiting + stats.failed_attempts["quarantined"]
    if settings.once and not is_quiet(ctx):
        counts = ", ".join(f"{stats.decisions[name]:,} {name}" for name in ("benign", "malignant", "review"))
        click.echo(f"Answered: {counts}; {stats.linked:,} new names of pictures answered before. See: bcd-edge watch report {settings.results}")
    if settings.once and without:
        click.echo(f"Without an answer: {without:,}; the report says why.")
        raise click.exceptions.Exit(1)


def _begin_dicom(stack: ExitStack, settings: Settings, **node: Any) -> None:
    """Receives images and returns results, where that is asked, until the stack is closed.

    Raises:
        UsageError: an option is wrong.
        ProviderError: the extra `dicom` is not installed.
    """
    if node["port"] is None and node["return"] is None:
        return
    from bcd_edge.dicom import peers
    from bcd_edge.dicom.tls import Tls
    from bcd_edge.errors import UsageError

    title = peers.title(node["title"])
    tls = Tls(node["certificate"], node["key"], node["ca"]) if node["certificate"] or node["ca"] else None
    if node["return"] is not None:
        from bcd_edge.dicom import returns
        from bcd_edge.dicom.sender import Archive

        archive = Archive(peers.target(node["return"]), title, tls, node["credentials"])
        archive.check()
        if settings.after == "delete":
            raise UsageError("--dicom-return needs the images after they are answered; give --after move or keep.")
        stack.enter_context(returns.returning(returns.Settings(archive, settings.results, settings.inbox)))
    if node["port"] is not None:
        from bcd_edge.dicom import receiver

        allowed = tuple(map(peers.caller, node["allow"])) or peers.LOCAL
        how = receiver.Settings(node["port"], node["address"], title, allowed, settings.min_free, tls, node["slide_after"])
        stack.enter_context(receiver.receiving(settings.inbox, how))


def _settings(asked: dict[str, Any]) -> Settings:
    import importlib.util

    from bcd_edge.errors import UsageError
    from bcd_edge.explain.surrogate import require_package
    from bcd_edge.results.patients import compile_pattern
    from bcd_edge.slides.settings import SlideSettings
    from bcd_edge.watch.settings import Settings

    inbox = Path(asked["inbox"]).resolve()
    if asked["once"] and not inbox.is_dir():
        raise UsageError(f"There is no folder {inbox}; name the folder to watch.")
    if asked["explain"]:
        require_package()
    options = asked.get("options") or take_options(asked)
    return Settings(
        inbox=inbox,
        results=Path(asked["out"]).resolve(),
        model={"path": asked["bundle_path"], "options": options, "threshold": asked["threshold"], **take_triage(asked)},
        include=asked["include"],
        exclude=asked["exclude"],
        stable_for_s=asked["stable_for"],
        scan_s=asked["scan"],
        events=not asked["poll"] and importlib.util.find_spec("watchfiles") is not None,
        max_attempts=asked["max_attempts"],
        retry_s=asked["retry_after"],
        max_provider_attempts=asked["max_provider_attempts"],
        after=asked["after"],
        patients=compile_pattern(asked["patients"]) if asked["patients"] else None,
        group=asked["group"],
        pseudonymise=asked["pseudonymise"],
        excel=asked["excel"],
        overlay=asked["explain"],
        slides=SlideSettings(field_um=asked["field_um"], overlap=asked["overlap"]),
        min_free=asked["min_free"],
        once=asked["once"],
        reprocess=asked["reprocess"],
    )


def _reread(ctx: click.Context) -> Settings:
    """The same command line with the configuration file as it is now.

    Raises:
        UsageError: something in it is wrong.
    """
    from bcd_edge.cli import _config
    from bcd_edge.errors import UsageError

    above = ctx.parent
    assert above is not None
    assert isinstance(above.command, click.Group)
    try:
        above.default_map = _config.defaults(above.params.get("config"), above.command, above, ctx.info_name)
        fresh = ctx.command.make_context(ctx.info_name, words(ctx), parent=above)
        return _settings(dict(fresh.params))
    except click.ClickException as error:
        raise UsageError(error.format_message()) from None


@contextmanager
def _handled(signals: ControlSignals) -> Iterator[None]:
    """SIGTERM and Ctrl-C finish what is in flight, a second one ends at once; SIGHUP reads the configuration again."""
    import signal

    def stop(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
        signals.ask(stop=True)

    handlers: dict[signal.Signals, Any] = {signal.SIGTERM: stop, signal.SIGINT: stop}
    if hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = lambda number, frame: signals.ask(reload=True)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _shown(stats: Stats) -> Iterator[None]:
    """Rate and backlog on the last line of a terminal; log lines go above it."""
    import logging
    import sys

    from rich.console import Console
    from rich.status import Status
    from rich.text import Text

    class Line:
        def __rich__(self) -> Text:
            counts = ", ".join(f"{stats.decisions[name]:,} {name}" for name in ("benign", "malignant", "review"))
            return Text(f"{stats.state}; {stats.rate:.1f} images/s, {stats.waiting:,} waiting; {counts}")

    if not sys.stderr.isatty():
        yield
        return
    handlers = [handler for handler in logging.getLogger("bcd_edge").handlers if isinstance(handler, logging.StreamHandler)]
    with Status(Line(), console=Console(file=sys.stderr), refresh_per_second=2):
        for handler in handlers:
            handler.setStream(sys.stderr)  # rich's own while it draws
        try:
            yield
        finally:
            for handler in handlers:
                handler.setStream(sys.__stderr__)


for below in (status, report, retry, recount, verify):
    command.add_command(below)
