"""An overlay for every answered image, drawn by a thread of its own that holds still while images wait for an answer."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bcd_edge.classifier import EXPLAINED_BATCH, Classifier
from bcd_edge.errors import ProviderError
from bcd_edge.explain import Settings as Explaining
from bcd_edge.explain.files import explained, numbers, unchanged
from bcd_edge.records import Execution, Record
from bcd_edge.results import files
from bcd_edge.watch.batch import Batch
from bcd_edge.watch.journal import Journal
from bcd_edge.watch.models import Wanted
from bcd_edge.watch.results import result_path
from bcd_edge.watch.settings import Clock, Settings

log = logging.getLogger(__name__)

# After a failure of the provider or the disk.
PAUSE_S: Final = 60.0


class _StoppedError(Exception):
    """The watcher stops; the overlay is drawn after the next start."""


class Overlays:
    """Draws one at a time; `busy` and `advance` say whether images wait."""

    def __init__(self, settings: Settings, journal: Journal, batch: Batch, clock: Clock, shown: Callable[[str], str]) -> None:
        self.settings, self.journal, self.batch, self.clock, self.shown = settings, journal, batch, clock, shown
        if not settings.overlay:
            journal.want_no_overlays()
        self._free = threading.Event()
        self._stopped = False
        self._thread = ThreadPoolExecutor(1, "bcd-edge explain")
        self._classifier: Classifier | None = None
        self._job: tuple[Wanted, Future[str]] | None = None
        self._again_at = 0.0

    def busy(self) -> None:
        """Images wait: an explanation under way holds still before its next question to the model."""
        self._free.clear()

    def advance(self) -> bool:
        """Nothing waits: notes what is finished, begins the next; returns whether any are left."""
        self._free.set()
        if self._job and self._job[1].done():
            self._note(*self._job)
            self._job = None
        if self._job is None and self.clock.now() >= self._again_at and (wanted := self.journal.overlay_wanted()):
            self._job = (wanted, self._thread.submit(self._draw, wanted))
        return self._job is not None

    def close(self) -> None:
        """Ends within one question to the model."""
        self._stopped = True
        self._free.set()
        self._thread.shutdown()
        if self._classifier:
            self._classifier.close()

    def _note(self, wanted: Wanted, job: Future[str]) -> None:
        try:
            noted = job.result()
            log.info("%s: explained", self.shown(wanted.path))
        except (ProviderError, OSError) as error:
            self._again_at = self.clock.now() + PAUSE_S
            log.warning("%s could not be explained (%s); trying again in %g s.", self.shown(wanted.path), error, PAUSE_S)
            return
        except Exception as error:  # of this image alone, whatever it is: explaining must not end the answering
            noted = str(error).replace(self._source(wanted), "The file")
            log.warning("%s could not be explained: %s", self.shown(wanted.path), noted)
        self.batch.persist(partial(self.journal.note_overlay, wanted.sha256, noted))
        self.batch.put_away()

    def _source(self, wanted: Wanted) -> str:
        return os.path.join(self.settings.results, wanted.target) if wanted.target else os.path.join(self.settings.inbox, wanted.path)

    def _draw(self, wanted: Wanted) -> str:
        """In the thread: writes overlay and numbers, flushed; returns the overlay's path below the results."""
        record = Record.from_dict({key: value for key, value in wanted.record.items() if key != "watch"})
        data = unchanged(self._source(wanted), record)
        classifier = self._classifier = self._classifier or _load(self.settings.model, record.execution)

        def ask(images_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
            self._free.wait()
            if self._stopped:
                raise _StoppedError
            return classifier.probabilities(images_nhwc_u8)

        shown = self.shown(record.source) if self.settings.pseudonymise else record.source
        one = explained(ask, classifier.bundle.input, replace(record, source=shown), data, "hadamard", Explaining())
        beside = result_path(wanted.sha256, self.journal.bundle_sha256).removesuffix(".json")
        files.write(self.settings.results, f"{beside}.explanation.json", numbers(one))
        files.write(self.settings.results, f"{beside}.overlay.png", one.png)
        return f"{beside}.overlay.png"


def _load(model: dict[str, Any], ran: Execution) -> Classifier:
    """What gave the answer, with the batches that explaining asks in."""
    return Classifier.load(model.get("path"), provider=ran.provider, device=model.get("device", ""), precision=ran.precision, batch=EXPLAINED_BATCH)
