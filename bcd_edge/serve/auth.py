"""Who may do what. A handler says it: `@requires("reviewer")`; an `Authenticator` says who asks.

A session in a cookie is also sent by a browser that another site has led here, so whatever changes something must then carry
the session's CSRF token, in the header X-CSRF-Token or the form field `csrf`.
"""

from __future__ import annotations

import functools
import getpass
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

Role = Literal["submitter", "reviewer", "admin"]
ROLES: Final[tuple[Role, ...]] = ("submitter", "reviewer", "admin")
Handler = Callable[[Request], Awaitable[Response]]
COOKIE: Final = "bcd_edge_session"
SAFE: Final = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks: a person, or a machine with a token.

    Attributes:
        name: as reviews and audit have it.
        roles: what it may do.
        csrf: the token that its session's changes carry; None where its credentials are no cookie.
    """

    name: str
    roles: frozenset[Role]
    csrf: str | None = None


class Authenticator(Protocol):
    """Knows people by their requests."""

    async def person(self, request: Request) -> Person | None:
        """Who asks; None where nobody is signed in."""

    def routes(self) -> list[Route]:
        """`/login`, where a page sends whoever is not signed in, and what belongs to it."""


def requires(*roles: Role) -> Callable[[Handler], Handler]:
    """Lets a handler be called by people with one of these roles; they are in `request.state.person`. Without roles, by anyone."""

    def decorate(handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def guarded(request: Request) -> Response:
            person = await request.app.state.authenticator.person(request)
            if roles:
                await _check(request, person, roles)
            request.state.person = person
            return await handler(request)

        vars(guarded)["roles"] = roles
        return guarded

    return decorate


async def _check(request: Request, person: Person | None, roles: tuple[Role, ...]) -> None:
    if person is None:
        raise HTTPException(401, "Nobody is signed in, or the session or token has expired; sign in, or send a valid token.")
    if not person.roles & set(roles):
        raise HTTPException(403, f"{person.name} may not do this; it needs the role {' or '.join(roles)}.")
    if request.method not in SAFE and person.csrf is not None:
        await _check_csrf(request, person.csrf)


async def _check_csrf(request: Request, expected: str) -> None:
    given = request.headers.get("x-csrf-token", "")
    if not given and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        given = str((await request.form()).get("csrf", ""))
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise HTTPException(403, "The request does not come from a page of this server, or the page is old; reload the page, and try again.")


def address(request: Request) -> str:
    """Where a request comes from, for the audit."""
    return request.client.host if request.client else ""


class LocalSession:
    """One person at this computer, who has the link that the server printed; it can be used once."""

    def __init__(self, *, is_encrypted: bool = False) -> None:
        self._token: str | None = secrets.token_urlsafe(32)
        self._session = secrets.token_urlsafe(32)
        self._is_encrypted = is_encrypted
        self._person = Person(getpass.getuser(), frozenset(ROLES), secrets.token_urlsafe(32))

    @property
    def link(self) -> str:
        """Path and query of the link."""
        return f"/login?token={self._token}"

    async def person(self, request: Request) -> Person | None:
        """See `Authenticator`."""
        return self._person if hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), self._session.encode()) else None

    def routes(self) -> list[Route]:
        """See `Authenticator`."""
        return [Route("/login", requires()(self._login))]

    async def _login(self, request: Request) -> Response:
        given = request.query_params.get("token", "")
        if self._token is None or not hmac.compare_digest(given.encode(), self._token.encode()):
            raise HTTPException(403, "This link was used before, or is not complete; start the server again, which prints another.")
        self._token = None
        response = RedirectResponse("/", 303)
        response.set_cookie(COOKIE, self._session, httponly=True, samesite="strict", secure=self._is_encrypted)
        return response
