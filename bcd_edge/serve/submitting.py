"""POST /api/v1/images: pictures come in, and their records go out."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
from typing import Any, Final

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bcd_edge.pictures import HashedBytes
from bcd_edge.results.clock import Clock
from bcd_edge.serve.api import BASE, EVERYONE, NAMED, named_record, shown_records
from bcd_edge.serve.auth import requires
from bcd_edge.serve.bodies import arguments, file_name
from bcd_edge.serve.engine import Job

# Parts of one multipart body.
MAX_FILES: Final = 100


@requires(*EVERYONE)
async def post_images(request: Request) -> Response:
    """Takes one picture as the body, or many as parts, and answers each."""
    asked = arguments(request)
    jobs = [await _job(request, asked, name, data) for name, data in await _pictures(request, asked)]
    if not jobs:
        raise HTTPException(400, "There is no picture in the body; send its bytes, or multipart/form-data with files.")
    is_list = len(jobs) > 1
    if not asked["wait"]:
        return await _accept(request, jobs, is_list=is_list)
    for job in jobs:
        if (known := await _known(request, job)) is not None:
            job.answer.set_result(known)
        else:
            request.app.state.engine.submit(job)
    waiting = asyncio.gather(*(asyncio.shield(asyncio.wrap_future(job.answer)) for job in jobs))
    try:
        records = await asyncio.wait_for(waiting, request.app.state.settings.timeout_s)
    except asyncio.TimeoutError:
        raise HTTPException(503, "The answer takes too long; send the same again, or with wait=false.", {"retry-after": "5"}) from None
    visible = await shown_records(request, records)
    if is_list:
        return JSONResponse({"records": visible})
    return JSONResponse(visible[0], 200 if visible[0]["status"] == "ok" else 422, {"location": _location(jobs[0])})


async def _pictures(request: Request, asked: dict[str, Any]) -> list[tuple[str | None, bytes]]:
    """Names and bytes of what was sent."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        data = await request.body()
        return [(asked.get("name"), data)] if data else []
    async with request.form(max_files=MAX_FILES, max_fields=10) as form:
        parts = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        return [(part.filename, await part.read()) for part in parts]


async def _job(request: Request, asked: dict[str, Any], name: str | None, data: bytes) -> Job:
    sha256 = (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
    key = f"upload/{file_name(name, sha256[:16])}"
    return Job(key, HashedBytes(data, sha256), request.state.person.name, Clock().text(), asked.get("patient") or None, asked.get("slide") or None)


async def _known(request: Request, job: Job) -> dict[str, Any] | None:
    """The record of a content that was sent under this name before, and answered by the bundle that answers now."""
    key = (os.fsencode(job.name), job.file.sha256, request.app.state.engine.classifier.bundle.sha256)

    def find(db: sqlite3.Connection) -> dict[str, Any] | None:
        row = db.execute(f"{NAMED} WHERE path = ? AND sha256 = ? AND bundle_sha256 = ?", key).fetchone()
        return {**named_record(row), "source": json.loads(row["record"])["source"]} if row else None

    record: dict[str, Any] | None = await request.app.state.store.read(find)
    return record


async def _accept(request: Request, jobs: list[Job], *, is_list: bool) -> Response:
    """Answers before the pictures are: they are on the disk, and are answered after a crash, too."""
    root, engine = request.app.state.settings.results, request.app.state.engine
    for job in jobs:
        engine.check(job)
        await asyncio.to_thread(engine.accept, root, job)
    accepted = [{"sha256": job.file.sha256, "status": "pending"} for job in jobs]
    return JSONResponse({"accepted": accepted} if is_list else accepted[0], 202, None if is_list else {"location": _location(jobs[0])})


def _location(job: Job) -> str:
    return f"{BASE}/images/{job.file.sha256}"


def routes() -> list[Route]:
    """The one route."""
    return [Route(f"{BASE}/images", post_images, methods=["POST"])]
