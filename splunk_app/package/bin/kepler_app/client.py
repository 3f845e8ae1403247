"""The connection to the service: pure-Python gRPC, its event loop on a thread of its own.

The thread answers the service's keepalive pings while the main thread waits for Splunk's next chunk.
Certificates are always verified; plaintext goes to loopback addresses only.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import ssl
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from grpclib.client import UnaryUnaryMethod
from grpclib.config import Configuration

from kepler.v1 import common_pb2  # makes ErrorDetail known to the decoder of error details
from kepler_app import faults
from kepler_app.bearer import Bearer
from kepler_app.connections import DrainingChannel, Unprocessed
from kepler_app.errors import SearchCancelled, SearchError
from kepler_app.searchinfo import SearchInfo
from kepler_app.settings import Settings

T = TypeVar("T")
CALL_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
_GRACE_S = 10.0  # for work that is slow to notice its own time limit
_FAREWELL_TURNS = 5  # of the loop, in which transports close their sockets
_CLOSE_TIMEOUT_S = 5.0
_WINDOW = 8 * 1024 * 1024


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Context that verifies the service, shows it the client's certificate if there is one, and asks for HTTP/2."""
    try:
        context = ssl.create_default_context(cadata=settings.ca_pem or None)
    except (ssl.SSLError, ValueError) as error:
        raise SearchError(
            "The CA certificate is not valid PEM text. Paste the whole certificate again."
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    # CPython 3.13 refuses certificates without an Authority Key Identifier, as many plants' own authorities issue
    # them; 3.9 and the command line take them, and a new Splunk must not end the searches of its old one.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if settings.cert_file or settings.key_file:
        _load_client_certificate(context, settings)
    return context


def _load_client_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    pair = {"certificate": settings.cert_file, "key": settings.key_file}
    for what, path in pair.items():
        if not path:
            raise SearchError(
                f"A client certificate needs its key and a key its certificate, but no {what} file is set. "
                "Set both on the app's configuration page (KEPLER_CLIENT_CERT_FILE and KEPLER_CLIENT_KEY_FILE)."
            )
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise SearchError(
                f"The client {what} file {path!r} cannot be read ({error.strerror}). "
                "Correct the path, and let the user that Splunk runs as read the file."
            ) from error
    try:
        context.load_cert_chain(
            settings.cert_file, settings.key_file, password=""
        )  # or OpenSSL asks the terminal
    except (ssl.SSLError, OSError, ValueError) as error:
        raise SearchError(
            f"The client certificate {settings.cert_file!r} and the key {settings.key_file!r} cannot be used: they are "
            "no pair in PEM form, or the key has a password. Give a pair whose key has none."
        ) from error


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
        self.bearer = Bearer(settings)
        context = tls_context(settings) if settings.tls else None
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _loop, _context: None)  # calls report their own errors
        self._thread = threading.Thread(target=self._loop.run_forever, name="kepler-grpc", daemon=True)
        self._thread.start()
        self.channel: DrainingChannel = self._await(self._open(context), CONNECT_TIMEOUT_S)

    async def _open(self, context: ssl.SSLContext | None) -> DrainingChannel:
        config = Configuration(http2_connection_window_size=_WINDOW, http2_stream_window_size=_WINDOW)
        return DrainingChannel(self.settings.host, self.settings.port, ssl=context, config=config)

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

        def attempt() -> T:
            metadata = self.bearer.metadata()
            return self.run(unary(request, timeout=timeout_s, metadata=metadata), timeout_s + 1)

        return self.insist(attempt)

    def insist(self, attempt: Callable[[], T]) -> T:
        """``attempt``, and once more when the service has done nothing with the first one.

        That is so when it never looked at it, and when it refused a token that can be renewed.
        """
        try:
            return attempt()
        except SearchError as error:
            unprocessed = isinstance(error.__cause__, Unprocessed)
            if not unprocessed and not (error.code == "Unauthenticated" and self.bearer.renew()):
                raise
        return attempt()

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
            transports = self.channel.close_all()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await turns()
            for transport in transports:  # TLS would wait for the peer's farewell
                transport.abort()
            await turns()

        try:
            asyncio.run_coroutine_threadsafe(farewell(), self._loop).result(_CLOSE_TIMEOUT_S)
        except concurrent.futures.TimeoutError:  # no OSError before CPython 3.11
            return  # the thread is a daemon: what it holds goes with the process
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self._loop.close()
