"""Explanations on request: one at a time, each content once, given up when everyone who asked has left."""

from __future__ import annotations

import asyncio
import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from starlette.exceptions import HTTPException
from starlette.requests import Request

from bcd_edge.classifier import EXPLAINED_BATCH, Classifier
from bcd_edge.errors import InputError
from bcd_edge.explain import Settings as ExplainSettings
from bcd_edge.explain.files import explained, numbers
from bcd_edge.explain.overlay import layer
from bcd_edge.options import RunOptions
from bcd_edge.readers import raster
from bcd_edge.records import Record
from bcd_edge.results.records import result_path
from bcd_edge.results.staging import TEMPORARY
from bcd_edge.serve import pictures
from bcd_edge.serve.settings import Settings
from bcd_edge.serve.store import Store
from bcd_edge.system.atomic import atomic_write

KINDS: Final = {"layer": ".layer.png", "overlay": ".overlay.png", "explanation": ".explanation.json"}
# How often it is noticed that a client has left.
POLL_S: Final = 0.2


class _LeftError(Exception):
    """Nobody waits any more."""


@dataclass(eq=False, slots=True)
class _Job:
    record: dict[str, Any]
    waiting: int = 0
    done: Future[None] = field(default_factory=Future)


class Explainer:
    """Explains in a thread of its own, by a model of its own, so that answers need not wait."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._jobs: dict[tuple[str, str], _Job] = {}
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="bcd-edge explain")
        self._classifier: Classifier | None = None

    def begin(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def end(self) -> None:
        """Gives up what waits, and ends."""
        for job in list(self._jobs.values()):
            job.waiting = 0
        self._queue.put(None)
        self._thread.join()
        if self._classifier:
            self._classifier.close()

    async def file(self, request: Request, record: dict[str, Any], kind: str) -> Path:
        """The file of this kind for an answer, made now if it is not there.

        Raises:
            InputError: the picture is no longer to be found.
            HTTPException: the client has left, or it is a whole slide.
        """
        if record.get("kind") == "slide":
            raise HTTPException(404, "A whole slide has no explanation; its heat map is on its page, /slides/SHA256/index.html.")
        key = (record["sha256"], record["execution"]["bundle_sha256"])
        path = self._path(key, kind)
        if path.exists():
            return path
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _Job(record)
            self._queue.put(job)
        job.waiting += 1
        done = asyncio.wrap_future(job.done)
        try:
            while not (await asyncio.wait([done], timeout=POLL_S))[0]:
                if await request.is_disconnected():
                    raise HTTPException(499, "The client has left.")
            await done
        finally:
            job.waiting -= 1
            if job.done.done() or not job.waiting:
                self._jobs.pop(key, None)
        return path

    def _path(self, key: tuple[str, str], kind: str) -> Path:
        return self._store.root / (result_path(*key).removesuffix(".json") + KINDS[kind])

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                self._explain(job)
                job.done.set_result(None)
            except _LeftError:
                job.done.set_result(None)
            except Exception as error:  # for whoever waits; the next one may be explained
                job.done.set_exception(error)

    def _explain(self, job: _Job) -> None:
        if not job.waiting:
            raise _LeftError
        record = Record.from_dict({key: value for key, value in job.record.items() if key != "intake"})
        data = self._store.read_now(lambda db: pictures.read(db, self._settings, str(record.sha256)))
        image = raster.decode(data)
        model = self._settings.model
        if self._classifier is None:
            options = model.get("options") or RunOptions()
            self._classifier = Classifier.load(model.get("path"), options.as_ran(record.execution, EXPLAINED_BATCH))
        classifier = self._classifier
        if classifier.bundle.sha256 != record.execution.bundle_sha256:
            raise InputError(
                f"{record.execution.bundle} answered, and another bundle is served, which would explain something else; serve the former."
            )

        def predict(images_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
            if not job.waiting:
                raise _LeftError
            return classifier.probabilities(images_nhwc_u8)

        renamed = replace(record, source=self._store.display_name(record.source))
        explanation = explained(predict, classifier.bundle.input, renamed, image, "hadamard", ExplainSettings())
        key = (str(record.sha256), record.execution.bundle_sha256)
        colours = cv2.cvtColor(layer(explanation.explanation, *image.shape[:2]), cv2.COLOR_RGBA2BGRA)
        contents = {"explanation": numbers(explanation), "overlay": explanation.png, "layer": cv2.imencode(".png", colours)[1].tobytes()}
        for kind, content in contents.items():
            atomic_write(self._path(key, kind), content, temporary=self._store.root / TEMPORARY, durable=True)
