"""An overlay for every answered image, drawn by a thread of its own that pauses while images wait for an answer."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from bcd_edge.classifier import EXPLAINED_BATCH, Classifier
from bcd_edge.errors import ProviderError
from bcd_edge.explain import Settings as ExplainSettings
from bcd_edge.explain.files import explained, numbers, unchanged
from bcd_edge.readers import raster
from bcd_edge.records import Record
from bcd_edge.results.folder import Results
from bcd_edge.results.models import PendingOverlay
from bcd_edge.results.records import result_path
from bcd_edge.results.staging import TEMPORARY
from bcd_edge.system.atomic import atomic_write
from bcd_edge.watch.settings import Session

log = logging.getLogger(__name__)

# After a failure of the provider or the disk.
PAUSE_S: Final = 60.0


class _StoppedError(Exception):
    """The watcher stops; the overlay is drawn after the next start."""


class Overlays:
    """Draws one at a time; `pause` and `advance` say whether images wait."""

    def __init__(
        self, session: Session, results: Results, bundle_sha256: str, persist: Callable[[Callable[[], None]], None], dispose: Callable[[], None]
    ) -> None:
        self._session, self._results, self._bundle_sha256, self._persist, self._dispose = session, results, bundle_sha256, persist, dispose
        if not session.settings.overlay:
            results.journal.cancel_overlays()
        self._idle = threading.Event()
        self._stopped = False
        self._thread = ThreadPoolExecutor(1, "bcd-edge explain")
        self._classifier: Classifier | None = None
        self._job: tuple[PendingOverlay, Future[str]] | None = None
        self._again_at = 0.0

    def pause(self) -> None:
        """Images wait: an explanation under way pauses before its next call of the model."""
        self._idle.clear()

    def advance(self) -> bool:
        """Nothing waits: notes what is finished, begins the next; returns whether any are left."""
        self._idle.set()
        if self._job and self._job[1].done():
            self._note(*self._job)
            self._job = None
        if (
            self._job is None
            and self._session.clock.now() >= self._again_at
            and (pending := self._results.journal.pending_overlay(self._bundle_sha256))
        ):
            self._job = (pending, self._thread.submit(self._draw, pending))
        return self._job is not None

    def close(self) -> None:
        """Ends within one call of the model."""
        self._stopped = True
        self._idle.set()
        self._thread.shutdown()
        if self._classifier:
            self._classifier.close()

    def _note(self, pending: PendingOverlay, job: Future[str]) -> None:
        name = self._results.display_name(pending.path)
        try:
            outcome = job.result()
            log.info("%s: explained", name)
        except (ProviderError, OSError) as error:
            self._again_at = self._session.clock.now() + PAUSE_S
            log.warning("%s could not be explained (%s); trying again in %g s.", name, error, PAUSE_S)
            return
        except Exception as error:  # of this image alone, whatever it is: explaining must not end the answering
            outcome = str(error).replace(self._source(pending), "The file")
            log.warning("%s could not be explained: %s", name, outcome)
        self._persist(lambda: self._results.journal.note_overlay(pending.sha256, self._bundle_sha256, outcome))
        self._dispose()

    def _source(self, pending: PendingOverlay) -> str:
        if pending.target:
            return os.path.join(self._results.root, pending.target)
        return os.path.join(self._session.settings.inbox, pending.path)

    def _draw(self, pending: PendingOverlay) -> str:
        """In the thread: writes overlay and numbers, flushed; returns the overlay's path below the results."""
        record = Record.from_dict({key: value for key, value in pending.record.items() if key != "intake"})
        image = raster.decode(unchanged(self._source(pending), record))
        settings = self._session.settings
        if self._classifier is None:
            self._classifier = Classifier.load(settings.model.get("path"), settings.model["options"].as_ran(record.execution, EXPLAINED_BATCH))
        classifier = self._classifier

        def predict(images_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
            self._idle.wait()
            if self._stopped:
                raise _StoppedError
            return classifier.probabilities(images_nhwc_u8)

        source = self._results.display_name(record.source) if settings.pseudonymise else record.source
        explanation = explained(predict, classifier.bundle.input, replace(record, source=source), image, "hadamard", ExplainSettings())
        stem = result_path(pending.sha256, self._bundle_sha256).removesuffix(".json")
        self._write(f"{stem}.explanation.json", numbers(explanation))
        self._write(f"{stem}.overlay.png", explanation.png)
        return f"{stem}.overlay.png"

    def _write(self, path: str, content: bytes) -> None:
        root = str(self._results.root)
        atomic_write(os.path.join(root, path), content, temporary=os.path.join(root, TEMPORARY), durable=True)
