"""Health and metrics over HTTP, and what devices of the fleet ask."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Collection
from typing import Any

import structlog
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from kepler.adapters.http.edge import EdgeEndpoints, add_edge_routes
from kepler.adapters.http.guard import LOOPBACK_HOSTS, Guard
from kepler.adapters.http.problems import problem, problem_response
from kepler.adapters.telemetry.metrics import ServiceMetrics
from kepler.core.errors import InternalError, KeplerError, Unauthenticated
from kepler.ports.health import Check, ServiceHealth, ServiceState
from kepler.ports.security import TokenStore

log = structlog.get_logger()

CHECKS_TTL_S = 1.0  # probes need no token: they must not become load on the stores


def create_app(
    health: ServiceHealth,
    metrics: ServiceMetrics,
    tokens: TokenStore | None,
    *,
    version: str = "0",
    loopback: bool = True,
    allowed_hosts: Collection[str] = (),
    tls: bool = False,
    edge: EdgeEndpoints | None = None,
) -> Guard:
    """The HTTP application of the service.

    Parameters
    ----------
    health
        The running service.
    metrics
        Rendered by ``/metrics``.
    tokens
        None where the service asks for no tokens.
    loopback
        Whether only this machine reaches it; then ``/openapi.json`` is served too.
    allowed_hosts
        Names the Host header may have; empty means the loopback names, or any name off loopback.
    edge
        What ``/v1/edge`` needs; None serves none of it.
    """
    app = FastAPI(
        title="Kepler for Splunk",
        version=version,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json" if loopback else None,
        redirect_slashes=False,
    )
    recent = _RecentChecks(health)

    @app.get("/healthz", summary="Whether the process is alive; needs no token")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    # What asks stores is no coroutine, so FastAPI runs it in a thread.
    @app.get("/readyz", summary="Whether the service takes work; needs no token")
    def readyz(request: Request) -> JSONResponse:
        state, checks = health.state, recent.get()
        ready = state is ServiceState.READY and all(check.ok for check in checks)
        trusted = tokens is None or _known(tokens, request)
        shown = [_shown(check, with_detail=trusted) for check in checks]
        return JSONResponse({"state": state.value, "ready": ready, "checks": shown}, 200 if ready else 503)

    @app.get("/metrics", summary="Prometheus metrics; needs a token where tokens are asked for")
    def prometheus(request: Request) -> Response:
        if tokens is not None:
            tokens.authenticate(_bearer(request))
        return Response(metrics.render(), media_type=metrics.content_type)

    if edge is not None:
        add_edge_routes(app, edge)

    known = {"/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/edge/enrol"}

    def finished(path: str, status: int) -> None:
        metrics.http_finished(path if path in known else "other", status)

    @app.exception_handler(KeplerError)
    async def kepler_error(request: Request, error: KeplerError) -> Response:
        return problem(error)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return problem_response(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        error_id = uuid.uuid4().hex[:12]
        log.error("http.failed", route=request.url.path, error_id=error_id, exc_info=error)
        return problem(
            InternalError(
                f"The service failed unexpectedly (error {error_id})",
                fix=f"Look for {error_id} in the service's log.",
            )
        )

    hosts = tuple(allowed_hosts) or (LOOPBACK_HOSTS if loopback else ())
    return Guard(app, hosts, tls, finished)  # outermost, so that the answer to a failure is guarded too


class _RecentChecks:
    """The checks, asked at most once a second."""

    def __init__(self, health: ServiceHealth) -> None:
        self._health = health
        self._lock = threading.Lock()
        self._until = 0.0
        self._checks: list[Check] = []

    def get(self) -> list[Check]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._checks = list(self._health.checks())
                self._until = time.monotonic() + CHECKS_TTL_S
            return self._checks


def _shown(check: Check, *, with_detail: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": check.name, "ok": check.ok}
    if with_detail and check.detail:
        shown["detail"] = check.detail
    return shown


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated(
            "The request carries no token", fix="Send the header Authorization: Bearer TOKEN."
        )
    return token.strip()


def _known(tokens: TokenStore, request: Request) -> bool:
    try:
        tokens.authenticate(_bearer(request))
    except KeplerError:
        return False  # a probe without a token is welcome, it just reads less
    return True
