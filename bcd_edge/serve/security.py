"""What holds for every request: names of the server, headers, and errors as problem details (RFC 9457) or a page."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bcd_edge.errors import BcdEdgeError, InputError, UsageError
from bcd_edge.serve.bodies import Limited
from bcd_edge.serve.engine import BusyError
from bcd_edge.serve.pages import render
from bcd_edge.serve.settings import Settings

HEADERS: Final = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Refuses requests for another host, which DNS rebinding sends, and other sites' changes; adds headers to every response."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings, self._hosts = app, settings, {host.lower() for host in settings.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        app = self._app if self._is_for_us(headers.get("host", "")) else problem(421, "This server is not known by that name; give it with --host.")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") and scope["method"] not in ("GET", "HEAD"):
            app = problem(403, "The request comes from a page of another site; open this server's own pages.")
        most = self._settings.max_body
        if (length := headers.get("content-length", "0")).isdecimal() and int(length) > most:
            app = problem(413, f"The body is larger than {most:,} bytes; send fewer pictures at once.", {"connection": "close"})

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    added.setdefault(name, value)
                added.setdefault("cache-control", "no-store")
            await send(message)

        await app(scope, Limited(receive, most, self._settings.timeout_s), with_headers)

    def _is_for_us(self, host: str) -> bool:
        name, _, port = host.lower().rpartition(":")
        return (name if port.isdigit() else host.lower()) in self._hosts


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Problem details (RFC 9457)."""
    body = {"type": "about:blank", "status": status, "detail": detail, "error": detail}  # `error`: of the Open Inference Protocol
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def wants_page(request: Request) -> bool:
    """Whether a browser asks for a page, and not a program for data."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(("/api/", "/v2/"))


async def http_error(request: Request, error: Exception) -> Response:
    """An error of a handler; whoever asks for a page without being signed in is sent to where that is done."""
    assert isinstance(error, HTTPException)
    if error.status_code == 401 and wants_page(request):
        return _to_login(request)
    if error.status_code == 401:
        return problem(401, error.detail, {"www-authenticate": "Bearer"})
    if wants_page(request):
        return render(request, "error.html", error.status_code, status=error.status_code, detail=error.detail)
    return problem(error.status_code, error.detail, dict(error.headers or {}))


def _to_login(request: Request) -> RedirectResponse:
    """To the login, which leads back: to what was asked for, or to the page whose form was sent in vain."""
    if request.method in ("GET", "HEAD"):
        return RedirectResponse(f"/login?next={quote(_path(str(request.url)))}", 303)
    sender = request.headers.get("referer", "")
    target = _path(sender) if urlsplit(sender).netloc == request.headers.get("host") else "/"
    return RedirectResponse(f"/login?ended=yes&next={quote(target)}", 303)


def _path(url: str) -> str:
    """Path and query."""
    return urlsplit(url)._replace(scheme="", netloc="", fragment="").geturl() or "/"


async def expected_error(request: Request, error: Exception) -> Response:
    """A sentence of bcd-edge for whoever sent what cannot be done; other errors are the server's."""
    if isinstance(error, BusyError):
        return problem(429 if error.is_own else 503, str(error), {"retry-after": str(error.retry_after_s)})
    status = 422 if isinstance(error, InputError) else 400 if isinstance(error, UsageError) else 503
    assert isinstance(error, BcdEdgeError)
    if wants_page(request):
        return render(request, "error.html", status, status=status, detail=str(error))
    return problem(status, str(error), {"retry-after": "2"} if status == 503 else None)
