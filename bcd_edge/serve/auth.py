"""Who may do what. A handler says it: `@requires("reviewer")`; an `Authenticator` says who asks.

A session in a cookie is also sent by a browser that another site has led here, so whatever changes something must then carry
the session's CSRF token, in the header X-CSRF-Token or the form field `csrf`.
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bcd_edge.results.users import Role

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
