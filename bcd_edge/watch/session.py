"""A watcher from start to end: the lock, what is opened and closed in which order, and the configuration read again."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Final

from bcd_edge.classifier import Classifier
from bcd_edge.errors import BcdEdgeError, OutputError, UsageError
from bcd_edge.results.permissions import share
from bcd_edge.watch.batch import Batch
from bcd_edge.watch.housekeeping import Upkeep
from bcd_edge.watch.journal import NAME, Journal
from bcd_edge.watch.lock import locked
from bcd_edge.watch.overlays import Overlays
from bcd_edge.watch.results import Results, naming
from bcd_edge.watch.scanner import Folder
from bcd_edge.watch.service import Watcher
from bcd_edge.watch.settings import Clock, Requests, Settings, Tally

log = logging.getLogger(__name__)

START_AGAIN_S: Final = 5.0


def watch(settings: Settings, requests: Requests, tally: Tally, reread: Callable[[], Settings], clock: Clock | None = None) -> None:
    """Watches until it is asked to stop, or with `once` until everything is answered.

    Args:
        settings: how.
        requests: asked by signals.
        tally: filled while it goes on.
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
                _run(settings, classifier, requests, tally, clock, started)
            except (OSError, sqlite3.OperationalError) as error:
                classifier = _started_again(settings, classifier, requests, error)
                continue
            if requests.stop or not requests.reload:
                return
            settings, classifier = _again(settings, reread)
            requests.reloaded()


def _started_again(settings: Settings, classifier: Classifier, requests: Requests, error: OSError | sqlite3.OperationalError) -> Classifier:
    """After a disk that was full before anything could be taken: rests, and gives what classifies in the next run.

    Raises:
        OutputError: the watcher is to stop, or runs `once`.
    """
    if isinstance(error, OutputError):
        raise error
    said = getattr(error, "strerror", None) or error
    if not settings.once:
        log.warning("Results cannot be written (%s); starting again in %g s.", said, START_AGAIN_S)
        requests.rest(START_AGAIN_S)
    if settings.once or requests.stop:
        raise OutputError(f"Results could not be written ({said}); make room, and start again: nothing is lost.") from None
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


def _again(old: Settings, reread: Callable[[], Settings]) -> tuple[Settings, Classifier]:
    """New settings and what classifies with them; the old ones where something is wrong with the new."""
    try:
        new = reread()
        if new.results != old.results:
            raise UsageError(f"--out cannot be changed from {old.results} while it is watched into; start again.")
        make_results(new)
        classifier = _load(new)
    except BcdEdgeError as error:
        log.error("The configuration is not changed: %s", error)
        return old, _load(old)
    log.warning("The configuration was read again.")
    return new, classifier


def _run(settings: Settings, classifier: Classifier, requests: Requests, tally: Tally, clock: Clock, started: str) -> None:
    """One run; the classifier, which may have been started anew meanwhile, is closed at its end."""
    with (
        closing(Journal(settings.results / NAME, classifier.bundle.sha256)) as journal,
        Folder(settings.inbox, include=settings.include, exclude=settings.exclude, scan_s=settings.scan_s, events=settings.events) as folder,
    ):
        shown = naming(journal.connection, pseudonymise=settings.pseudonymise)
        journal.begin(classifier.bundle.name, classifier.rule, clock.now(), settings.settle_s, clock.text())
        if settings.reprocess and (count := journal.reprocess(clock.now())):
            log.warning("%d files that only another bundle has answered are classified again.", count)
        with closing(Results(settings.results, shown if settings.pseudonymise else None)) as results:
            results.mend(journal)
            upkeep = Upkeep(settings, journal, folder, tally, clock, shown, started)
            batch = Batch(settings, journal, results, upkeep, requests, tally, clock, shown)
            overlays = Overlays(settings, journal, batch, clock, shown)
            watcher = Watcher(settings, classifier, journal, batch, overlays, folder, upkeep, requests, tally, clock, shown)
            ran = classifier.execution
            log.info("Watching %s: %s %s on %s, results in %s.", settings.inbox, ran.bundle, ran.precision, ran.provider, settings.results)
            state = "stopped"
            try:
                watcher.run()
            except BcdEdgeError as error:
                state = f"ended: {error}"
                raise
            finally:
                overlays.close()
                upkeep.finish(state)
