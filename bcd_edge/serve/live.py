"""A microscope's live picture on a page, with its answer; a key stores a frame as a case.

The picture is an MJPEG stream (multipart/x-mixed-replace), which every browser shows in an `img`; frames are encoded only while somebody looks.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any, Final

import cv2
import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bcd_edge.classifier import Classifier
from bcd_edge.errors import BcdEdgeError
from bcd_edge.live import cases
from bcd_edge.live.capture import Capture
from bcd_edge.live.session import Session, Settings, Update, View
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.results.clock import Clock
from bcd_edge.serve.auth import requires
from bcd_edge.serve.engine import Job
from bcd_edge.serve.pages import render
from bcd_edge.serve.settings import Camera

log = logging.getLogger(__name__)

BOUNDARY: Final = "frame"
# Longest side that is shown, and quality of its JPEG; what is classified and stored is the frame itself.
SHOWN_SIDE: Final = 1024
JPEG_QUALITY: Final = 80
# Between looks for a newer frame to show, and from one attempt to the next where the source or the model fails.
POLL_S, RETRY_S = 0.03, 10.0


class Live:
    """Answers a camera's frames in a thread of its own, by a model of its own; connects again as long as the server runs.

    Attributes:
        camera: what is shown.
        update: the latest.
        view: the latest frame; None before the first.
        is_closed: whether streams must end.
    """

    def __init__(self, camera: Camera, model: dict[str, Any]) -> None:
        """Prepares; `begin` starts."""
        self.camera, self._model = camera, model
        self.update: Update | None = None
        self.problem = ""
        self.view: View | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bcd-edge live")
        self._jpeg: tuple[int | None, bytes] = (None, b"")

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    def begin(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends streams, from a signal's handler, too; `end` waits."""
        self._closed.set()

    def end(self) -> None:
        """Ends the thread."""
        self.close()
        self._thread.join()

    def _run(self) -> None:
        while not self.is_closed:
            try:
                self._answer()
            except BcdEdgeError as error:
                self.problem = str(error)
                log.warning("No live picture: %s", error)
            self._closed.wait(RETRY_S)

    def _answer(self) -> None:
        with Classifier.load(**self._model) as classifier, Capture(self.camera.source) as capture:
            session = Session(capture, classifier, Settings(self.camera.optics))
            for update in session.updates():
                if self.is_closed:
                    return
                if update is not None:
                    self.update, self.problem = update, update.reason if update.frame is None else ""
                    self.view = session.view
            capture.raise_problem()

    def jpeg(self) -> bytes:
        """The latest frame, with the part marked that is classified; empty before the first. Encoded once for all who look."""
        view = self.view
        if view is None or self._jpeg[0] == view.number:
            return self._jpeg[1]
        picture = np.ascontiguousarray(self.camera.optics.balance(shown(view))[..., ::-1])
        data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
        self._jpeg = (view.number, data)
        return data

    def used(self) -> dict[str, float | None] | None:
        """Width of the part that is classified, in pixels and µm; None where it is the whole frame."""
        if self.view is None or not self.view.is_cut:
            return None
        width, um = self.view.used[0], self.camera.optics.um_per_pixel
        return {"pixels": width, "um": um and round(width * um)}


def shown(view: View) -> UInt8Image:
    """The whole frame at most `SHOWN_SIDE` long, uint8 BGR, H x W x 3, with a frame around the part that is classified."""
    height, width = view.frame_hwc_bgr_u8.shape[:2]
    factor = min(1.0, SHOWN_SIDE / max(height, width))
    size = round(width * factor), round(height * factor)
    picture = np.array(cv2.resize(view.frame_hwc_bgr_u8, size, interpolation=cv2.INTER_AREA), np.uint8)
    if view.is_cut:
        wide, high, left, top = (round(value * factor) for value in view.used)
        for colour, thickness in ((0, 3), (255, 1)):  # is seen on any tissue
            cv2.rectangle(picture, (left, top), (left + wide - 1, top + high - 1), (colour,) * 3, thickness * max(1, max(size) // 400))
    return picture


def _live(request: Request) -> Live:
    live: Live | None = request.app.state.live
    if live is None:
        raise HTTPException(404, "This server shows no camera; start it with --live SOURCE.")
    return live


@requires("reviewer", "admin")
async def page(request: Request) -> Response:
    """The page."""
    live, rule = _live(request), request.app.state.engine.classifier.rule
    return render(request, "live.html", camera=live.camera, rule=rule)


@requires("reviewer", "admin")
async def state(request: Request) -> Response:
    """The latest update, and whether something is wrong."""
    live = _live(request)
    return JSONResponse({"update": live.update and live.update.as_dict(), "problem": live.problem, "used": live.used()})


@requires("reviewer", "admin")
async def stream(request: Request) -> Response:
    """The picture, as long as somebody looks and the server runs."""
    return StreamingResponse(_parts(_live(request)), media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}")


async def _parts(live: Live) -> AsyncIterator[bytes]:
    last: View | None = None
    while not live.is_closed:
        if live.view is not last:
            last = live.view
            jpeg = await asyncio.to_thread(live.jpeg)
            yield b"--%b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (BOUNDARY.encode(), len(jpeg), jpeg)
        await asyncio.sleep(POLL_S)


@requires("reviewer", "admin")
async def keep(request: Request) -> Response:
    """Stores the frame that is shown as a case."""
    live, form = _live(request), await request.form()
    view = live.view
    if view is None:
        raise HTTPException(409, "There is no frame yet; wait for the picture, and store it then.")
    file = await asyncio.to_thread(cases.png, view.picture_hwc_u8, live.camera.optics.um_per_pixel)
    job = Job(cases.file_name(), file, request.state.person.name, Clock().text(), str(form.get("patient") or "") or None)
    request.app.state.engine.submit(job)
    record = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(job.answer)), request.app.state.settings.timeout_s)
    if record["status"] == "failed":
        raise HTTPException(422, record["error"])
    return JSONResponse({"sha256": file.sha256, "location": f"/cases/{file.sha256}", "decision": record["decision"]}, 201)


def routes() -> list[Route]:
    """Everything below /live."""
    return [
        Route("/live", page),
        Route("/live/state", state),
        Route("/live/stream", stream),
        Route("/live/frames", keep, methods=["POST"]),
    ]
