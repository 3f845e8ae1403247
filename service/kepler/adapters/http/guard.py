"""What every HTTP request passes first: host name, body size; and the headers every answer carries."""

from __future__ import annotations

from collections.abc import Callable, Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kepler.adapters.http.problems import problem_response

MAX_BODY_BYTES = 64 * 1024
TOO_LARGE = f"The body is larger than {MAX_BODY_BYTES} bytes."
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """ASGI middleware around the whole application.

    Parameters
    ----------
    allowed_hosts
        Names the ``Host`` header may have, without port; empty allows all. On loopback this keeps a web
        page from reaching the service through a name of its own (DNS rebinding).
    tls
        Adds Strict-Transport-Security.
    on_finished
        Told each answer's status with the path as asked; it must bound what it keeps.
    """

    def __init__(
        self,
        app: ASGIApp,
        allowed_hosts: Collection[str],
        tls: bool,
        on_finished: Callable[[str, int], None] | None,
    ) -> None:
        self.app = app
        self._allowed = frozenset(host.lower() for host in allowed_hosts)
        self._headers = {**HEADERS, "Strict-Transport-Security": "max-age=31536000"} if tls else HEADERS
        self._on_finished = on_finished or (lambda path, status: None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no lifespan, no websockets
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                self._on_finished(scope["path"], message["status"])
            await send(message)

        headers = Headers(scope=scope)
        if self._allowed and host_name(headers.get("host", "")) not in self._allowed:
            detail = (
                "The Host header names another host. Add the name to allowed_hosts, or use one that is there."
            )
            await problem_response(400, detail)(scope, receive, answer)
            return
        announced = headers.get("content-length", "0")
        if not announced.isdigit() or int(announced) > MAX_BODY_BYTES:
            await _too_large(scope, receive, answer)
            return
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY_BYTES:
                raise HTTPException(413, TOO_LARGE, headers={"Connection": "close"})
            return message

        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # what GET answers; the server leaves the body out
        try:
            await self.app(scope, bounded, answer)
        except Exception:
            # The application told the caller and wrote it to the log; raising only says it a second time.
            if not started:
                raise


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    await problem_response(413, TOO_LARGE, headers={"Connection": "close"})(scope, receive, send)


def host_name(header: str) -> str:
    """The host of a ``Host`` header, without port, lower-case.

    >>> host_name("[::1]:8791"), host_name("Plant:8791")
    ('::1', 'plant')
    """
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()
