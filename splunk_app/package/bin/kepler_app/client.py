"""The connection to the service: pure-Python gRPC, its event loop on a thread of its own.

The thread answers the service's keepalive pings while the main thread waits for Splunk's next chunk.
Certificates are always verified; plaintext goes to loopback addresses only.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.config import Configuration

from kepler.v1 import common_pb2  # makes ErrorDetail known to the decoder of error details
from kepler_app import faults
from kepler_app.errors import SearchCancelled, SearchError
from kepler_app.searchinfo import SearchInfo
from kepler_app.settings import Settings

T = TypeVar("T")
CALL_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
_GRACE_S = 10.0  # for work that is slow to notice its own time limit
_FAREWELL_TURNS = 5  # of the loop, in which transports close their sockets
_WINDOW = 8 * 1024 * 1024


def tls_context(ca_pem: str) -> ssl.SSLContext:
    """Verifying context for ``ca_pem`` (empty: the system's authorities) that asks for HTTP/2."""
    try:
        context = ssl.create_default_context(cadata=ca_pem or None)
    except (ssl.SSLError, ValueError) as error:
        raise SearchError(
            "The CA certificate is not valid PEM text. Paste the whole certificate again."
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    return context


def caller(info: SearchInfo, trace_id: str) -> common_pb2.Caller:
    """Who searches, and in what search."""
    return common_pb2.Caller(
        user=info.user,
        app=info.app,
        sid=info.sid,
        trace_id=trace_id,
        search=_text(info.search),
        earliest=info.earliest,
        latest=info.latest,
    )


def _text(text: str) -> str:
    """``text`` as protobuf takes it: no lone surrogates, no unbounded length."""
    return text.encode("utf-8", "replace").decode()[:100_000]


class Client:
    """Calls to one service. Blocking; every error is a `SearchError` of one sentence."""

    def __init__(self, settings: Settings) -> None:
        logging.lastResort = None  # asyncio reports through logging, and stderr is not ours
        self.settings = settings
        self.metadata = {"authorization": f"Bearer {settings.token}"} if settings.token else {}
        context = tls_context(settings.ca_pem) if settings.tls else None
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _loop, _context: None)  # calls report their own errors
        self._thread = threading.Thread(target=self._loop.run_forever, name="kepler-grpc", daemon=True)
        self._thread.start()
        self.channel: Channel = self._await(self._open(context), CONNECT_TIMEOUT_S)

    async def _open(self, context: ssl.SSLContext | None) -> Channel:
        config = Configuration(http2_connection_window_size=_WINDOW, http2_stream_window_size=_WINDOW)
        return Channel(self.settings.host, self.settings.port, ssl=context, config=config)

    def _await(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, timeout_s), self._loop)
        try:
            return future.result(timeout_s + _GRACE_S)
        except SearchCancelled:
            future.cancel()
            raise

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = CALL_TIMEOUT_S) -> T:
        """Run ``work`` on the loop to its end. Raises `SearchError` for whatever the network does."""
        try:
            return self._await(work, timeout_s)
        except Exception as error:
            raise faults.explain(error, self.settings) from error

    def call(self, method: str, request: Any, reply_type: type[T], timeout_s: float = CALL_TIMEOUT_S) -> T:
        """One unary call; ``method`` is ``Service/Method`` of kepler.v1, or ``/package.Service/Method``."""
        path = method if method.startswith("/") else f"/kepler.v1.{method}"
        unary = UnaryUnaryMethod(self.channel, path, type(request), reply_type)
        return self.run(unary(request, timeout=timeout_s, metadata=self.metadata), timeout_s + 1)

    def connect(self) -> None:
        """Connect now, within `CONNECT_TIMEOUT_S`, so that a dead address fails early and clearly."""
        self.run(self.channel.__connect__(), CONNECT_TIMEOUT_S)

    def close(self) -> None:
        """Close the connection, which cancels what is still running; can be repeated."""
        if self._loop.is_closed():
            return

        async def turns() -> None:
            for _ in range(_FAREWELL_TURNS):
                await asyncio.sleep(0)

        async def farewell() -> None:
            connection = getattr(self.channel._protocol, "connection", None)
            transport = getattr(connection, "_transport", None)
            self.channel.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await turns()
            if transport is not None:  # TLS would wait for the peer's farewell
                transport.abort()
                await turns()

        asyncio.run_coroutine_threadsafe(farewell(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self._loop.close()
