"""The HTTP(S) server under the REST API."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from .rest import dispatch as rest_dispatch
from .rest import parse_request
from .tls import Certificate, make_certificate
from .web import HangUp, Refused, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from .splunkd import Splunkd

    Dispatch = Callable[[Splunkd, Request], Response]

# A body of a search with a lookup pasted into it is far smaller; more is a mistake.
MAX_BODY = 64 << 20


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Joining handler threads would wait for clients that keep a connection open.
    block_on_close = False
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """The TLS handshake happens here, in the connection's own thread, not in the one that accepts."""
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(30)
        with self.tls.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up or refuses our certificate is its own affair; anything else is shown."""
        if not isinstance(sys.exc_info()[1], (OSError, ssl.SSLError)):
            traceback.print_exc()


def _handler_for(splunkd: Splunkd, dispatch: Dispatch) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body are two writes; the second must not wait for the first one's acknowledgement.
        disable_nagle_algorithm = True
        server_version = "Splunkd"
        sys_version = ""
        timeout = 60

        def _answer(self) -> None:
            request: Request | None = None
            self._user = "-"
            try:
                length = int(self.headers.get("content-length") or 0)
                if length > MAX_BODY:
                    self.close_connection = True
                    raise Refused(413, "Request body is too large.")
                body = self.rfile.read(length) if length else b""
                headers = {k.lower(): v for k, v in self.headers.items()}
                request = parse_request(self.command, self.path, headers, body, self.client_address[0])
                try:
                    response = dispatch(splunkd, request)
                finally:
                    self._user = request.user or "-"
            except HangUp:
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            except Refused as refusal:
                response = refusal.response(request)
            except Exception as error:
                # A mistake of the stand-in itself: say so, where splunkd would say 500 as well.
                traceback.print_exc()
                response = Refused(500, f"The splunkd stand-in failed: {error!r}").response(request)
            self._send(response)

        def _send(self, response: Response) -> None:
            self.send_response(response.status)
            self.send_header("Content-Type", response.content_type)
            for name, value in response.headers:
                self.send_header(name, value)
            if self.close_connection:
                # Splunk's answer to splunklib's `Connection: Close`; without it http.client drops the body.
                self.send_header("Connection", "Close")
            if response.stream is None:
                self.send_header("Content-Length", str(len(response.body)))
                self.end_headers()
                self.wfile.write(response.body)
                return
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with contextlib.closing(response.stream) as stream:  # type: ignore[type-var]
                for part in stream:
                    if part:
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_DELETE = do_PUT = _answer

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            """Who asked for what, in the columns of splunkd_access.log ("What Splunk logs about itself")."""
            at = time.strftime("%d/%b/%Y:%H:%M:%S.000 +0000", time.gmtime())
            splunkd.access_log.append(
                f'{self.client_address[0]} - {self._user} [{at}] "{self.requestline}" {int(code)} {size}'
            )

        def log_message(self, format: str, *args: Any) -> None:
            splunkd.access_log.append(format % args)

    return Handler


class RestServer:
    def __init__(
        self, splunkd: Splunkd, host: str, port: int, *, tls: bool, dispatch: Dispatch = rest_dispatch
    ) -> None:
        self._server = _Server((host, port), _handler_for(splunkd, dispatch))
        self.certificate: Certificate | None = None
        if tls:
            self.certificate = make_certificate(splunkd.splunk_home / "etc" / "auth", host)
            self._server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._server.tls.load_cert_chain(self.certificate.cert_file, self.certificate.key_file)
        self.host = host
        self.port: int = self._server.server_address[1]
        self.scheme = "https" if tls else "http"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def uri(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
