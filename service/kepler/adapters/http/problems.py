"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse

from kepler.core import errors
from kepler.core.errors import KeplerError

STATUS: dict[type[KeplerError], HTTPStatus] = {
    errors.InvalidInput: HTTPStatus.BAD_REQUEST,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.NotReady: HTTPStatus.CONFLICT,
    errors.MissingExtra: HTTPStatus.NOT_IMPLEMENTED,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Denied: HTTPStatus.FORBIDDEN,
    errors.Cancelled: HTTPStatus.CONFLICT,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TimedOut: HTTPStatus.GATEWAY_TIMEOUT,
    errors.InternalError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def problem(error: KeplerError) -> JSONResponse:
    """The answer that tells ``error``: its sentence, and its parts for programs."""
    status = STATUS[type(error)]
    headers: dict[str, str] = {}
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_s > 0:
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    parts = {"code": error.code, "cause": error.cause, "fix": error.fix}
    return problem_response(status, error.sentence, parts, headers)


def problem_response(
    status: int, detail: str, parts: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A problem document of an HTTP status."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
    }
    body.update({key: value for key, value in (parts or {}).items() if value})
    return JSONResponse(body, status, dict(headers or {}), media_type="application/problem+json")
