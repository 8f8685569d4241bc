"""Signing in: a browser by name and password or the one-time link, a machine by a token. An `auth.Authenticator`."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from bcd_edge.results import sessions, users
from bcd_edge.results.folder import Results
from bcd_edge.results.sessions import Session, TooManyFailuresError
from bcd_edge.results.users import ROLES
from bcd_edge.serve.auth import COOKIE, Person, address, requires
from bcd_edge.serve.pages import render
from bcd_edge.serve.store import Store

LARGEST_FORM: Final = 64 * 1024
FORM: Final = "application/x-www-form-urlencoded"
ENDED: Final = "The session had ended, so nothing was filed. Log in to go on; a comment is still on its case."


class Accounts:
    """Knows people by session or token.

    Args:
        store: the folder of results.
        is_local: whether only this computer reaches the server; there is a one-time link then, for whoever started it.
        is_encrypted: whether browsers use HTTPS.
    """

    def __init__(self, store: Store, *, is_local: bool, is_encrypted: bool) -> None:
        self._store, self._is_encrypted = store, is_encrypted
        self._one_time_key = secrets.token_urlsafe(32) if is_local else None
        # browsers keep __Host- cookies from being set by another page, and want HTTPS for them
        self._cookie = f"__Host-{COOKIE}" if is_encrypted else COOKIE
        self._hashing = ThreadPoolExecutor(1, "bcd-edge password")  # takes long; others must not wait

    def close(self) -> None:
        """Ends when the last password is compared."""
        self._hashing.shutdown()

    @property
    def link(self) -> str | None:
        """Path and query of the one-time link; None where there is none, or it was used."""
        return self._one_time_key and f"/login?token={self._one_time_key}"

    async def person(self, request: Request) -> Person | None:
        """Who asks; None for nobody, and for a credential that is wrong, expired or revoked."""
        if "authorization" in request.headers:
            return await self._machine(request.headers["authorization"])
        session = await self._session(request)
        return Person(session.user.name, _roles(session.user), sessions.csrf_token(session)) if session else None

    def routes(self) -> list[Route]:
        """`/login` and `/logout`."""
        return [
            Route("/login", requires()(self._show), methods=["GET"]),
            Route("/login", requires()(self._sign_in), methods=["POST"]),
            Route("/logout", requires(*ROLES)(self._sign_out), methods=["POST"]),
        ]

    async def _machine(self, authorization: str) -> Person | None:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        user = await self._store.read(lambda db: users.by_token(db, secret.strip(), time.time()))
        return Person(user.name, _roles(user)) if user else None

    async def _session(self, request: Request) -> Session | None:
        if not (secret := request.cookies.get(self._cookie)):
            return None
        session = await self._store.read(lambda db: sessions.resume(db, secret, time.time()))
        if session and not session.is_fresh:
            await self._store.write(lambda results: sessions.note_use(results, session))
        return session

    async def _show(self, request: Request) -> Response:
        """The form; with the one-time link, straight in."""
        if (key := request.query_params.get("token")) is None:
            return _page(request, request.query_params.get("next", "/"), ENDED if "ended" in request.query_params else "")
        if self._one_time_key is None or not hmac.compare_digest(key.encode(), self._one_time_key.encode()):
            return _page(request, "/", "This link was used before, or is of an earlier start; start the server again for another.", 401)
        self._one_time_key = None
        return self._let_in(await self._store.write(lambda results: _begin_local(results, address(request))), "/")

    async def _sign_in(self, request: Request) -> Response:
        _check_origin(request)
        form = await _form(request)
        name, target = form.get("name", ""), _inside(form.get("next", "/"))
        try:
            await self._store.write(lambda results: sessions.note_attempt(results, name, address=address(request)))
        except TooManyFailuresError as error:
            seconds = int(error.retry_after_s) + 1
            response = _page(request, target, "Logging in failed too often; try again in {n} s.", 429, seconds)
            response.headers["Retry-After"] = str(seconds)
            return response
        hashed = await self._store.read(lambda db: users.password_of(db, name))
        matches = await asyncio.get_running_loop().run_in_executor(self._hashing, users.matches, form.get("password", ""), hashed)
        if not matches:
            await self._store.write(lambda results: sessions.refuse(results, name, address=address(request)))
            return _page(request, target, "Name or password is wrong.", 401)
        return self._let_in(await self._store.write(lambda results: sessions.begin(results, name, address=address(request))), target)

    async def _sign_out(self, request: Request) -> Response:
        if (session := await self._session(request)) is None:
            raise HTTPException(400, "A token has no session; to end its use: bcd-edge serve token revoke.")
        await self._store.write(lambda results: sessions.end(results, session, address=address(request)))
        response = RedirectResponse("/login", 303)
        response.delete_cookie(self._cookie, path="/", secure=self._is_encrypted, httponly=True, samesite="strict")
        return response

    def _let_in(self, session: Session, target: str) -> Response:
        response = RedirectResponse(target, 303)
        response.set_cookie(self._cookie, session.secret, httponly=True, samesite="strict", secure=self._is_encrypted, path="/")
        return response


def _roles(user: users.User) -> frozenset[users.Role]:
    return frozenset(ROLES) if user.role == "admin" else frozenset({user.role})


def _begin_local(results: Results, address: str) -> Session:
    """A session of whoever started the server: an admin with the name of this computer's account."""
    name, db = users.checked_name(users.this_account()), results.journal.connection
    if not db.execute("SELECT 1 FROM users WHERE name = ?", (name,)).fetchone():
        users.add(results, name, "admin", None, by="one-time link")
    return sessions.begin(results, name, address=address)


def _check_origin(request: Request) -> None:
    """Another site must not sign a reader in under another name: what then is decided would have the wrong author.

    Raises:
        HTTPException: 403.
    """
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower():
        raise HTTPException(403, "The form comes from a page of another site; open this server's own pages.")


async def _form(request: Request) -> dict[str, str]:
    """The fields of a plain form, the first of each name.

    Raises:
        HTTPException: 400, it is another body; 413, it is too large.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise HTTPException(400, f"The body is not a form; send {FORM}.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_FORM:
            raise HTTPException(413, f"The form has more than {LARGEST_FORM} bytes.")
    try:
        fields = parse_qs(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise HTTPException(400, "The form has more than 100 fields.") from None
    return {name: values[0] for name, values in fields.items()}


def _page(request: Request, target: str, problem: str = "", status: int = 200, seconds: int = 0) -> Response:
    return render(request, "login.html", status, next=_inside(target), problem=problem, seconds=seconds)


def _inside(target: str) -> str:
    """A path of this server, also for what would lead elsewhere: browsers read `//host`, `/\\host` and control characters as that."""
    is_path = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_path else "/"
