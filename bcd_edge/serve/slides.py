"""The page of a whole slide, from the folder of its files; see `bcd_edge.slides.page`."""

from __future__ import annotations

import re
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from bcd_edge.serve import blinding
from bcd_edge.serve.api import record_of
from bcd_edge.serve.auth import requires

FILES: Final = re.compile(r"index\.html|page\.(css|js)|viewer\.js|slide\.js|(tiles|heatmap)\.png|pyramid/\d{1,2}/\d{1,4}_\d{1,4}\.jpg")


@requires("reviewer", "admin")
async def file(request: Request) -> Response:
    """A file of the page, where the viewer may see the answer."""
    record = await record_of(request)
    await blinding.check_answer(request, record["sha256"])
    name, root = request.path_params["name"], request.app.state.store.root
    slide = record.get("slide")
    if not slide or not FILES.fullmatch(name) or not (path := root / slide["files"] / name).is_file():
        raise HTTPException(404, "There is no such file of a whole slide; open it from its case.")
    kept = {"cache-control": "private, max-age=600"} if name.startswith("pyramid/") else {}
    return FileResponse(path, headers=kept)


def routes() -> list[Route]:
    """Of the pages of slides."""
    return [Route("/slides/{sha256}/{name:path}", file)]
