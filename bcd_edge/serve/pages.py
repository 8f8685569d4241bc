"""Pages: templates, and their text in the reader's language."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from bcd_edge import __version__
from bcd_edge.languages import ENGLISH, languages, plural, translator
from bcd_edge.outputs import printable
from bcd_edge.results.clock import shown_time

HERE: Final = Path(__file__).parent
LANGUAGE_COOKIE: Final = "bcd_edge_language"


def language(request: Request) -> str:
    """The language that was chosen on a page, else the browser's first one that there is a catalogue of, else English."""
    chosen = request.query_params.get("language") or request.cookies.get(LANGUAGE_COOKIE, "")
    accepted = [part.split(";")[0].strip()[:2].lower() for part in request.headers.get("accept-language", "").split(",")]
    return next((name for name in (chosen, *accepted) if name in languages()), ENGLISH)


@functools.cache
def _environment() -> Environment:
    environment = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"time": shown_time, "printable": printable}
    environment.globals |= {"version": __version__}
    return environment


def render(request: Request, template: str, http_status: int = 200, **values: Any) -> HTMLResponse:
    """A page.

    Args:
        request: whose language, person and settings the page has.
        template: a file in `templates/`.
        http_status: of the response.
        **values: names in the template.
    """
    name = language(request)
    shared = {
        "request": request,
        "_": translator(name),
        "_n": plural(name),
        "language": name,
        "languages": languages(),
        "has_camera": getattr(request.app.state, "live", None) is not None,
        "person": getattr(request.state, "person", None),
    }
    response = HTMLResponse(_environment().get_template(template).render(shared | values), http_status)
    if "language" in request.query_params:
        response.set_cookie(LANGUAGE_COOKIE, name, max_age=31_536_000, samesite="lax", httponly=True)
    return response
