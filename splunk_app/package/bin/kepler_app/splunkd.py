"""A few REST calls to the search head's own splunkd, on the standard library."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from kepler_app import paths
from kepler_app.errors import SearchError
from kepler_app.settings import is_loopback

TIMEOUT_S = 15.0


class Refused(SearchError):
    """splunkd answered with an HTTP error. ``status`` is its number, ``body`` what it said."""

    def __init__(self, status: int, body: bytes, path: str) -> None:
        super().__init__(f"splunkd refused {path} with HTTP status {status}.", "Unavailable")
        self.status = status
        self.body = body


def _context(host: str) -> ssl.SSLContext:
    """On loopback the peer is this machine's splunkd, whose stock certificate names no host; elsewhere verify."""
    if is_loopback(host):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    root = os.path.join(paths.splunk_home(), "etc", "auth", "cacert.pem")
    try:
        return ssl.create_default_context(
            cafile=root if paths.splunk_home() and os.path.isfile(root) else None
        )
    except OSError as error:  # ssl.SSLError is one
        raise SearchError(
            f"Splunk's own CA certificate {root!r} cannot be read or is not PEM text. "
            "Restore the file, or ask a Splunk administrator to.",
            "Unavailable",
        ) from error


class Splunkd:
    """splunkd at ``uri`` as the holder of ``session_key``."""

    def __init__(self, uri: str, session_key: str) -> None:
        parts = urlsplit(uri)
        self._host = parts.hostname or ""
        self._port = parts.port or 8089
        self._plain = parts.scheme == "http" and is_loopback(self._host)
        self._headers = {"Authorization": f"Splunk {session_key}", "Accept": "application/json"}

    def get(self, path: str, **params: str) -> dict[str, Any]:
        """GET ``path``; its parts must be quoted already. Raises `Refused` for HTTP errors."""
        query = urlencode({"output_mode": "json", **params})
        return self._request("GET", f"{path}?{query}", b"")

    def post(self, path: str, **form: str) -> dict[str, Any]:
        """POST a form."""
        return self._request("POST", f"{path}?output_mode=json", urlencode(form).encode())

    def _request(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        headers = dict(self._headers)
        if method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection: http.client.HTTPConnection
        if self._plain:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        else:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_S, context=_context(self._host)
            )
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise SearchError(
                f"splunkd at {self._host}:{self._port} does not answer: {error or type(error).__name__}.",
                "Unavailable",
            ) from error
        finally:
            connection.close()
        if response.status >= 400:
            raise Refused(response.status, content, path.partition("?")[0])
        try:
            parsed = json.loads(content or b"{}")
        except ValueError as error:
            raise SearchError(
                f"splunkd answered {path.partition('?')[0]} with no JSON.", "Unavailable"
            ) from error
        return parsed if isinstance(parsed, dict) else {}


def segment(text: str) -> str:
    """``text`` as one part of a path."""
    return quote(text, safe="")
