"""Whether the server lives, whether it can answer, and its numbers."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bcd_edge.results import report, worklist
from bcd_edge.serve import blinding
from bcd_edge.serve.auth import requires


@requires()
async def live(request: Request) -> Response:
    """200 while the process answers at all."""
    return JSONResponse({"status": "live"})


@requires()
async def ready(request: Request) -> Response:
    """200 while pictures get answers, else 503."""
    engine = request.app.state.engine
    return JSONResponse({"status": "ready" if engine.is_ready else engine.problem}, 200 if engine.is_ready else 503)


@requires("submitter", "reviewer", "admin")
async def metrics(request: Request) -> Response:
    """For Prometheus: requests of this process, what the folder of results holds, and the latest figures of the monitor."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    blinding.check_machine(request)

    registry, stats = CollectorRegistry(), request.app.state.engine.stats
    for name, value in stats.as_dict().items():
        Gauge(f"bcd_edge_serve_{name}", f"Pictures: {name.replace('_', ' ')}.", registry=registry).set(value)
    answers = Gauge("bcd_edge_answers", "Answers in the folder of results, by decision.", ["decision"], registry=registry)
    counts = await request.app.state.store.read(report.counts)
    for decision in ("benign", "malignant", "review"):
        answers.labels(decision).set(counts[decision])
    cases = Gauge("bcd_edge_cases", "Cases of the worklist, by state.", ["state"], registry=registry)
    for state, number in (await request.app.state.store.read(worklist.counts)).items():
        cases.labels(state).set(number)
    text = generate_latest(registry).decode() + request.app.state.monitoring.text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def routes() -> list[Route]:
    """`/healthz`, `/readyz` and `/metrics`."""
    return [Route("/healthz", live), Route("/readyz", ready), Route("/metrics", metrics)]
