"""Serves the HTTP application from a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kepler.core.errors import InternalError, KeplerError, Unavailable

log = structlog.get_logger()

REQUEST_TIMEOUT_S = 10.0  # to send a request's head: a slow peer must not hold a connection
KEEP_ALIVE_S = 5
MAX_CONNECTIONS = 256
MAX_HEAD_BYTES = 16 * 1024
START_TIMEOUT_S = 30.0


class HttpServer:
    """One listener.

    Parameters
    ----------
    app
        The ASGI application.
    host, port
        Where to listen; port 0 takes a free one.
    cert_file, key_file
        PEM files for TLS; None serves in the clear, for loopback.
    """

    def __init__(
        self, app: Any, host: str, port: int, *, cert_file: Path | None = None, key_file: Path | None = None
    ) -> None:
        self._address = (host, port)
        self._config = uvicorn.Config(
            app,
            http=_BoundedProtocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            limit_concurrency=MAX_CONNECTIONS,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            ssl_certfile=cert_file,
            ssl_keyfile=key_file,
        )
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._listener: socket.socket | None = None

    def start(self) -> tuple[str, int]:
        """Bind and serve; gives host and port. Raises `Unavailable` when it cannot listen there."""
        host, port = self._address
        self._config.load()  # here, so that a bad certificate is the caller's error and not a thread's
        listener = _listen(host, port)
        server = uvicorn.Server(self._config)
        thread = threading.Thread(target=self._run, args=(server, listener), name="kepler-http", daemon=True)
        thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                listener.close()
                raise InternalError(
                    "The HTTP server did not start", fix="Look for http.server in the service's log."
                )
            time.sleep(0.005)
        self._server, self._thread, self._listener = server, thread, listener
        return host, int(listener.getsockname()[1])

    def stop(self, grace_s: float) -> None:
        """Take no more requests, let those in flight finish for ``grace_s``; can be repeated."""
        server, thread, listener = self._server, self._thread, self._listener
        if server is None or thread is None or listener is None:
            return
        server.should_exit = True
        thread.join(grace_s)
        if thread.is_alive():
            server.force_exit = True
            thread.join(5.0)
        listener.close()
        self._server = None

    @staticmethod
    def _run(server: uvicorn.Server, listener: socket.socket) -> None:
        try:
            server.run(sockets=[listener])
        except Exception:
            # A thread has nobody to raise to; `start` and /healthz show the death, this line its cause.
            log.exception("http.server_died")


class _BoundedProtocol(H11Protocol):
    """uvicorn's protocol with a limit on the time a request's head may take."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(REQUEST_TIMEOUT_S, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        waiting = self.cycle is None or self.cycle.response_complete
        if not waiting:
            self._stop_timer()
        elif self._head_timer is None:  # a later request on the same connection
            self._head_timer = self.loop.call_later(REQUEST_TIMEOUT_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error
    try:
        listener.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # a restart need not wait for old sockets
        listener.bind(address)
        listener.listen(128)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, error) from error
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> KeplerError:
    return Unavailable(
        f"The service cannot listen on {host}:{port}",
        cause=error.strerror or str(error),
        fix="Stop what uses it, or choose another with --http HOST:PORT.",
    )
