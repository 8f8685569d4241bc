"""The application: every part's routes, and what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from bcd_edge.errors import BcdEdgeError
from bcd_edge.serve import health, security
from bcd_edge.serve.auth import Authenticator
from bcd_edge.serve.engine import Engine
from bcd_edge.serve.settings import Settings
from bcd_edge.serve.store import Store

HERE = Path(__file__).parent


def create(settings: Settings, store: Store, engine: Engine, authenticator: Authenticator) -> Starlette:
    """Puts the parts together; whoever calls it closes engine and store after the application has ended.

    Handlers find `settings`, `store`, `engine` and `authenticator` in `request.app.state`.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        engine.begin()
        yield
        engine.end()

    app = Starlette(
        routes=[*health.routes(), *authenticator.routes(), Mount("/static", StaticFiles(directory=HERE / "static"))],
        middleware=[Middleware(security.Guard, hosts=settings.hosts)],
        exception_handlers={HTTPException: security.http_error, BcdEdgeError: security.expected_error},
        lifespan=lifespan,
    )
    app.state.settings, app.state.store, app.state.engine, app.state.authenticator = settings, store, engine, authenticator
    return app
