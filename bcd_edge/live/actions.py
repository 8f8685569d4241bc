"""What a key press starts: a frame is kept or explained in a thread with a model of its own, and the stream goes on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from bcd_edge.classifier import EXPLAINED_BATCH, Classifier
from bcd_edge.errors import BcdEdgeError
from bcd_edge.explain import Settings
from bcd_edge.explain.files import write
from bcd_edge.live import cases
from bcd_edge.options import RunOptions
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.results.folder import Results

# Frames that wait; a key that is held down does not fill the memory.
MOST_WAITING: Final = 8


@dataclass(frozen=True, slots=True)
class _Job:
    is_explained: bool
    picture_hwc_u8: UInt8Image


class Actions:
    """Keeps and explains frames one after another; a context manager, which finishes what was begun."""

    def __init__(
        self,
        model: dict[str, Any],
        um_per_pixel: float | None,
        results: Path | None,
        explanations: Path,
        say: Callable[[str], None],
        *,
        patient: str | None = None,
    ) -> None:
        """Prepares; the model is loaded for the first frame.

        Args:
            model: arguments of `Classifier.load`.
            um_per_pixel: of the pictures.
            results: folder of results for frames that are kept.
            explanations: folder for explanations.
            say: takes a sentence about what was done, or what went wrong.
            patient: whose frames they are.
        """
        self._model, self._um_per_pixel, self._results, self._explanations = model, um_per_pixel, results, explanations
        self._say, self._patient = say, patient
        self._jobs: queue.Queue[_Job | None] = queue.Queue(MOST_WAITING)
        self._classifier: Classifier | None = None
        self._thread = threading.Thread(target=self._run, name="bcd-edge keep frames")

    def __enter__(self) -> Actions:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._jobs.put(None)
        self._thread.join()
        if self._classifier:
            self._classifier.close()

    def keep(self, picture_hwc_u8: UInt8Image) -> None:
        """Stores a frame as a case."""
        if self._results is None:
            self._say("A frame is stored as a case in a folder of results; start again with --results FOLDER.")
            return
        self._put(_Job(False, picture_hwc_u8))

    def explain(self, picture_hwc_u8: UInt8Image) -> None:
        """Draws what the model looks at in a frame."""
        self._put(_Job(True, picture_hwc_u8))

    def _put(self, job: _Job) -> None:
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._say(f"{MOST_WAITING} frames still wait to be stored or explained; press again in a moment.")

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._do(job)
            except (BcdEdgeError, OSError) as error:
                self._say(f"The frame was not {'explained' if job.is_explained else 'stored'}: {error}")

    def _do(self, job: _Job) -> None:
        if self._classifier is None:
            options = self._model.get("options") or RunOptions()
            self._classifier = Classifier.load(**self._model | {"options": _aside(options)})
        if job.is_explained:
            self._say(self._explain(self._classifier, job.picture_hwc_u8))
            return
        assert self._results
        with Results.open(self._results) as results:
            results.use(self._classifier.bundle, self._classifier.rule)
            name, record = cases.keep(results, self._classifier, job.picture_hwc_u8, self._um_per_pixel, patient=self._patient)
            self._say(f"Stored {results.display_name(name)}: {record.decision}.")

    def _explain(self, classifier: Classifier, picture_hwc_u8: UInt8Image) -> str:
        file, name = cases.png(picture_hwc_u8, self._um_per_pixel), cases.file_name()
        record = classifier.classify(file, name=name)
        if record.status == "failed":
            return str(record.error)
        self._explanations.mkdir(parents=True, exist_ok=True)
        write(classifier.probabilities, classifier.bundle.input, record, picture_hwc_u8, self._explanations, "hadamard", Settings())
        return f"Explained {Path(name).stem} in {self._explanations}."


def _aside(options: RunOptions) -> RunOptions:
    """The same with an explainer's batch on one thread, so that the stream keeps the other cores."""
    return replace(options, batch=EXPLAINED_BATCH, threads=1, streams=None)
