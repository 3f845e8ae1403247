"""Logging in to Splunk's management port with splunk-sdk."""

from __future__ import annotations

import http.client
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kepler.core.errors import (
    Denied,
    InvalidInput,
    MissingExtra,
    NotFound,
    Unauthenticated,
    Unavailable,
)

TIMEOUT_S = 120
_TRUE = ("1", "true", "t", "yes")
_FALSE = ("0", "false", "f", "no")


@dataclass(frozen=True, slots=True)
class SplunkAccess:
    """Where Splunk is and how to log in. A token goes before a password."""

    host: str
    port: int = 8089
    scheme: str = "https"
    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    app: str = ""
    ca_file: str = ""
    verify: bool = True

    @classmethod
    def resolve(
        cls,
        *,
        host: str = "",
        port: int = 0,
        scheme: str = "",
        username: str = "",
        password: str = "",
        token: str = "",
        app: str = "",
        ca_file: str = "",
        verify: bool = True,
        environment: Mapping[str, str] = os.environ,
    ) -> SplunkAccess:
        """Arguments first, then ``KEPLER_SPLUNK_HOST``, ``_PORT``, ``_SCHEME``, ``_USERNAME``, ``_PASSWORD``,
        ``_TOKEN``, ``_APP``, ``_CA_FILE`` and ``_VERIFY``. Raises `InvalidInput` when something is missing.
        """

        def setting(name: str) -> str:
            return environment.get(name, "")

        host = host or setting("KEPLER_SPLUNK_HOST")
        if not host:
            raise InvalidInput("It is not said where Splunk is", fix="Give a host or set KEPLER_SPLUNK_HOST")
        port_text = str(port) if port else setting("KEPLER_SPLUNK_PORT") or "8089"
        if not port_text.isdigit() or not 0 < int(port_text) < 65_536:
            raise InvalidInput(f"{port_text[:40]!r} is no port", fix="Correct KEPLER_SPLUNK_PORT")
        verify_text = setting("KEPLER_SPLUNK_VERIFY").lower()
        if verify_text not in ("", *_TRUE, *_FALSE):
            raise InvalidInput(
                f"{verify_text[:40]!r} is not true or false", fix="Correct KEPLER_SPLUNK_VERIFY"
            )
        scheme = scheme or setting("KEPLER_SPLUNK_SCHEME") or "https"
        if scheme not in ("http", "https"):
            raise InvalidInput(
                f"{scheme[:40]!r} is no scheme", fix="Use https, or http for a test installation"
            )
        found = cls(
            host=host,
            port=int(port_text),
            scheme=scheme,
            username=username or setting("KEPLER_SPLUNK_USERNAME"),
            password=password or setting("KEPLER_SPLUNK_PASSWORD"),
            token=token or setting("KEPLER_SPLUNK_TOKEN"),
            app=app or setting("KEPLER_SPLUNK_APP"),
            ca_file=ca_file or setting("KEPLER_SPLUNK_CA_FILE"),
            verify=verify and verify_text not in _FALSE,
        )
        if not found.token and not (found.username and found.password):
            raise InvalidInput(
                "There are no credentials for Splunk",
                fix="Set KEPLER_SPLUNK_TOKEN, or KEPLER_SPLUNK_USERNAME and KEPLER_SPLUNK_PASSWORD",
            )
        return found

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def connect(access: SplunkAccess) -> Any:
    """A logged-in ``splunklib.client.Service``."""
    try:
        from splunklib import binding, client
    except ImportError as error:
        raise MissingExtra(
            "splunk-sdk is not installed", fix="Run `pip install 'kepler-for-splunk[splunk]'`"
        ) from error
    context = _trust(access)
    options: dict[str, Any] = {
        "host": access.host,
        "port": access.port,
        "scheme": access.scheme,
        "handler": binding.handler(timeout=TIMEOUT_S, verify=access.verify, context=context),
        "autologin": not access.token,
    }
    if access.app:
        options |= {"app": access.app, "owner": access.username or "nobody"}
    if access.token:
        options["splunkToken"] = access.token
    else:
        options |= {"username": access.username, "password": access.password}
    with explained(access.url):
        service = client.connect(**options)
        if access.token:  # connecting with a token asks nothing of Splunk yet
            _ = service.info
    return service


def _trust(access: SplunkAccess) -> ssl.SSLContext | None:
    if access.scheme != "https" or not access.verify or not access.ca_file:
        return None
    try:
        return ssl.create_default_context(cafile=access.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidInput(
            f"{access.ca_file} holds no certificate authorities",
            cause=error.strerror or str(error),
            fix="Correct KEPLER_SPLUNK_CA_FILE",
        ) from error


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Splunk's errors and the network's, as ours."""
    from splunklib import binding

    try:
        yield
    except binding.AuthenticationError as error:
        raise Unauthenticated(
            f"Splunk at {url} refused the login",
            fix="Check the user and password, or the token and its expiry",
        ) from error
    except binding.HTTPError as error:
        raise _refused(url, int(error.status), _sentence(error)) from error
    except ssl.SSLCertVerificationError as error:
        raise Unavailable(
            f"The certificate of Splunk at {url} is not trusted",
            cause=error.verify_message,
            fix="Name its authorities in KEPLER_SPLUNK_CA_FILE",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(
            f"Splunk at {url} does not answer",
            cause=str(error)[:300],
            fix="Check host, management port (8089) and scheme",
        ) from error


def _sentence(error: Any) -> str:
    body = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else str(error.body or "")
    text = str(error.message or "") if hasattr(error, "message") else str(error)
    return " ".join((text or body).split())[:400]


def _refused(url: str, status: int, text: str) -> Exception:
    if status == 401:
        return Unauthenticated(f"Splunk at {url} refused the login", cause=text, fix="Log in anew")
    if status == 403:
        return Denied(
            f"Splunk at {url} does not allow this", cause=text, fix="Ask for the capability it names"
        )
    if status == 404:
        return NotFound(f"Splunk at {url} does not know this", cause=text)
    if status >= 500:
        return Unavailable(f"Splunk at {url} failed (HTTP {status})", cause=text, fix="Try again")
    return InvalidInput("Splunk refused the search", cause=text, fix="Correct the search")
