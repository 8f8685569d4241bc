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
from bcd_edge.serve import api, consult, health, inference, live, review, security, slides, submitting
from bcd_edge.serve.auth import Authenticator
from bcd_edge.serve.engine import Engine
from bcd_edge.serve.explaining import Explainer
from bcd_edge.serve.live import Live
from bcd_edge.serve.monitoring import Monitoring
from bcd_edge.serve.settings import Settings
from bcd_edge.serve.store import Store

HERE = Path(__file__).parent


def create(settings: Settings, store: Store, engine: Engine, authenticator: Authenticator, camera: Live | None = None) -> Starlette:
    """Puts the parts together; whoever calls it closes engine and store after the application has ended.

    Handlers find `settings`, `store`, `engine`, `explainer`, `monitoring`, `live` (None without a camera) and `authenticator` in `request.app.state`.
    """
    explainer, monitoring = Explainer(store, settings), Monitoring(settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        engine.begin()
        explainer.begin()
        if camera:
            camera.begin()
        yield
        if camera:
            camera.end()
        await monitoring.end()
        explainer.end()
        engine.end()

    parts = [route for part in (health, review, slides, submitting, api, inference, consult, live) for route in part.routes()]
    app = Starlette(
        routes=[*parts, *authenticator.routes(), Mount("/static", StaticFiles(directory=HERE / "static"))],
        middleware=[Middleware(security.Guard, settings=settings)],
        exception_handlers={HTTPException: security.http_error, BcdEdgeError: security.expected_error},
        lifespan=lifespan,
    )
    app.state.settings, app.state.store, app.state.engine, app.state.authenticator = settings, store, engine, authenticator
    app.state.explainer, app.state.monitoring, app.state.live = explainer, monitoring, camera
    return app
