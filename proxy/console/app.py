"""The console's ASGI application. Endpoints are plain `def`: none of them waits for more than a few small files."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from proxy.console.facts import look, problems
from proxy.console.guard import Guard
from proxy.console.metrics import CONTENT_TYPE, Metrics


def create(home: Path, *, host: str, token: str | None) -> Guard:
    """The application for one home; `host` is the address it is configured to listen on, `token` what it asks for."""
    metrics = Metrics(home)

    def index(_request: Request) -> Response:
        return JSONResponse({"live": "/-/live", "ready": "/-/ready", "metrics": "/metrics"})

    def live(_request: Request) -> Response:
        return JSONResponse({"ok": True})

    def ready(_request: Request) -> Response:
        found = problems(look(home))
        return JSONResponse({"ok": not found, "problems": found}, 503 if found else 200)

    def show_metrics(_request: Request) -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    def unknown(_request: Request, _error: Exception) -> Response:
        return JSONResponse({"error": "the console answers /-/live, /-/ready and /metrics"}, 404)

    routes = [
        Route("/", index),
        Route("/-/live", live),
        Route("/-/ready", ready),
        Route("/metrics", show_metrics),
    ]
    application = Starlette(routes=routes, exception_handlers={404: unknown})
    application.router.redirect_slashes = False
    return Guard(application, host=host, token=token)
