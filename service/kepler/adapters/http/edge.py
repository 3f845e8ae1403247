"""What devices ask over HTTPS: to join the fleet, and the files of models."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response

from kepler.core.errors import Denied, Overloaded
from kepler.usecases.enrol import EnrolDevices

MAX_CALLERS = 10_000
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


class EnrolRequest(BaseModel):
    """Body of ``POST /v1/edge/enrol``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    token: Annotated[str, Field(max_length=200, description="The one-time token.")]
    device: Annotated[str, Field(max_length=64, description="Name that the device bears.")]
    csr_pem: Annotated[
        str, Field(max_length=16_384, description="PKCS#10 request with an Ed25519 key, in PEM.")
    ]


@dataclass(frozen=True, slots=True)
class EdgeEndpoints:
    """What the routes need.

    ``open_file`` gives the path of a version's file by flat model name, version, ticket and file name. It raises
    `Denied` for a ticket that does not hold and `NotFound` for everything that is not there.
    """

    enrol: EnrolDevices
    open_file: Callable[[str, int, str, str], Path]


class CallerLimit:
    """At most ``burst`` calls of one caller at once and ``per_minute`` in the long run, and ``all_per_minute`` of all."""

    def __init__(
        self,
        per_minute: float = 12.0,
        burst: float = 20.0,
        all_per_minute: float = 1200.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rates = {"": all_per_minute}
        self._per_minute, self._burst, self._all_burst = per_minute, burst, max(burst, all_per_minute / 4)
        self._now = now
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Raise `Overloaded` when the caller, or all together, asked too often."""
        with self._lock:
            for name, rate, most in (
                (f"a{caller}", self._per_minute, self._burst),
                ("", self._rates[""], self._all_burst),
            ):
                now = self._now()
                left, seen = self._left.get(name, (most, now))
                left = min(most, left + (now - seen) * rate / 60.0)
                if left < 1.0:
                    raise Overloaded("Too many requests", fix="Try again later.", retry_after_s=60.0 / rate)
                self._left[name] = (left - 1.0, now)
                self._left.move_to_end(name)
            while len(self._left) > MAX_CALLERS:
                self._left.popitem(last=False)


def add_edge_routes(app: FastAPI, edge: EdgeEndpoints, limit: CallerLimit | None = None) -> None:
    """Serve ``/v1/edge``. These routes take no bearer token: a one-time token or a signed address stands for it."""
    limited = limit or CallerLimit()

    @app.post("/v1/edge/enrol", summary="Let a device join the fleet with a one-time token")
    def enrol(request: Request, body: EnrolRequest) -> JSONResponse:
        limited.take(request.client.host if request.client else "")
        welcome = edge.enrol.enrol(body.token, body.device, body.csr_pem)
        found: dict[str, Any] = {
            "certificate_pem": welcome.certificate_pem,
            "ca_pem": welcome.ca_pem,
            "broker": welcome.broker,
            "tenant": welcome.tenant,
            "trusted_keys": list(welcome.trusted_keys),
        }
        return JSONResponse(found)

    @app.get(
        "/v1/edge/models/{model}/{version}/{ticket}/{file}",
        summary="A file of a model version, also by ranges",
    )
    def model_file(model: str, version: str, ticket: str, file: str) -> Response:
        if not version.isascii() or not version.isdigit() or len(version) > 15 or not _FILE.fullmatch(file):
            raise HTTPException(404, "There is no such file.")
        try:
            path = edge.open_file(model[:250], int(version), ticket, file)
        except Denied as error:
            raise HTTPException(403, "This address holds no more.") from error
        return FileResponse(path, media_type="application/octet-stream")
