"""A watcher from start to end: the lock, what is opened and closed in which order, and the configuration read again."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from typing import Final

from bcd_edge.classifier import Classifier
from bcd_edge.errors import BcdEdgeError, OutputError, UsageError
from bcd_edge.results.clock import Clock
from bcd_edge.results.folder import Results
from bcd_edge.results.journal import NAME
from bcd_edge.results.permissions import share
from bcd_edge.watch.lock import locked
from bcd_edge.watch.scanner import Scanner
from bcd_edge.watch.settings import ControlSignals, Session, Settings, Stats
from bcd_edge.watch.watcher import Watcher

log = logging.getLogger(__name__)

RESTART_S: Final = 5.0


def watch(settings: Settings, signals: ControlSignals, stats: Stats, reread: Callable[[], Settings], clock: Clock | None = None) -> None:
    """Watches until it is asked to stop, or with `once` until everything is answered.

    Args:
        settings: how.
        signals: what is asked meanwhile.
        stats: filled while it goes on.
        reread: gives the settings anew, when that is asked.
        clock: another one, for a test.

    Raises:
        BcdEdgeError: it could not start, or had to give up; what was answered is written down.
    """
    clock = clock or Clock()
    make_results(settings)
    started = clock.text()
    with locked(settings.results):
        classifier = _load(settings)
        while True:
            try:
                _run(Session(settings, signals, stats, clock, started), classifier)
            except (OSError, sqlite3.OperationalError) as error:
                classifier = _restarted(settings, classifier, signals, error)
                continue
            if signals.stop or not signals.reload:
                return
            settings, classifier = _reloaded(settings, reread)
            signals.reloaded()


def _restarted(settings: Settings, classifier: Classifier, signals: ControlSignals, error: OSError | sqlite3.OperationalError) -> Classifier:
    """After a disk that was full before anything could be taken: waits, and gives what classifies in the next run.

    Raises:
        OutputError: the watcher is to stop, or runs `once`.
    """
    if isinstance(error, OutputError):
        raise error
    reason = getattr(error, "strerror", None) or error
    if not settings.once:
        log.warning("Results cannot be written (%s); starting again in %g s.", reason, RESTART_S)
        signals.wait_for_stop(RESTART_S)
    if settings.once or signals.stop:
        advice = "make room there, or allow this user to write, and start again: nothing is lost"
        raise OutputError(f"Results could not be written ({reason}); {advice}.") from None
    classifier.close()
    return _load(settings)


def make_results(settings: Settings) -> None:
    """The folder of results, for this user alone or for a group too.

    Raises:
        UsageError: one of it and the inbox contains the other, the inbox is a folder of results, or the group cannot have it.
    """
    inbox, results = settings.inbox, settings.results
    if (inbox / NAME).exists():
        raise UsageError(f"{inbox} holds the results of a watcher, not images; name the inbox, or write: bcd-edge watch status {inbox}")
    if inbox.is_relative_to(results) or results.is_relative_to(inbox):
        raise UsageError(f"The results {results} and the inbox {inbox} must not contain each other; give another --out.")
    if settings.group is not None:
        share(results, settings.group)
    elif not results.exists():
        results.mkdir(mode=0o700, parents=True)
    elif os.name == "posix" and results.stat().st_mode & 0o077:
        log.warning("%s can be entered by other users of this computer; to keep them out: chmod 700 %s", results, results)


def _load(settings: Settings) -> Classifier:
    classifier = Classifier.load(**settings.model, purpose="throughput")
    for sentence in classifier.warnings:
        log.warning(sentence)
    return classifier


def _reloaded(old: Settings, reread: Callable[[], Settings]) -> tuple[Settings, Classifier]:
    """New settings and what classifies with them; the old ones where something is wrong with the new."""
    try:
        new = reread()
        if new.results != old.results:
            raise UsageError(f"--out cannot be changed from {old.results} while it is in use; start again.")
        make_results(new)
        classifier = _load(new)
    except BcdEdgeError as error:
        log.error("The configuration is not changed: %s", error)
        return old, _load(old)
    log.warning("The configuration was read again.")
    return new, classifier


def _run(session: Session, classifier: Classifier) -> None:
    """One run; closes the classifier, which may have been loaded anew meanwhile, at its end."""
    settings = session.settings
    with (
        Results.open(settings.results, pseudonymise=settings.pseudonymise, excel=settings.excel, clock=session.clock) as results,
        Scanner(settings.inbox, include=settings.include, exclude=settings.exclude, scan_s=settings.scan_s, events=settings.events) as scanner,
    ):
        ran = classifier.execution
        log.info("Watching %s: %s %s on %s, results in %s.", settings.inbox, ran.bundle, ran.precision, ran.provider, settings.results)
        Watcher(session, classifier, results, scanner).run()
