"""Enrolment: a one-time token and a certificate request for a certificate and the addresses."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from .credentials import Credentials, Enrolment
from .errors import InvalidInput, Unavailable
from .keys import public_from_base64
from .settings import NAME, Settings

PATH = "/v1/edge/enrol"
TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 256 << 10


def enrol(settings: Settings, service: str, token: str, ca_file: Path) -> Enrolment:
    """Exchanges ``token`` at ``service`` (https://host:port), whose certificate ``ca_file`` must have signed.

    The device's key is made when there is none, so that enrolling again renews the certificate of the same key.

    Raises
    ------
    InvalidInput
        When the service refuses, or its answer is not right.
    Unavailable
        When it cannot be reached.
    """
    parts = urlsplit(service)
    if parts.scheme != "https" or not parts.hostname:
        raise InvalidInput("The service's address is not https://", fix="Use https://host:port.")
    if not settings.device:
        raise InvalidInput("The device has no name", fix="Pass --device, or set KEPLER_EDGE_DEVICE.")
    if not token or not token.isprintable() or len(token) > 4096:
        raise InvalidInput(
            "That is no token", fix="Pass a file with the token that `kepler edge enrol` printed."
        )
    credentials = Credentials(settings)
    asked = {"token": token, "device": settings.device, "csr_pem": credentials.key.csr_pem(settings.device)}
    answer = _post(parts.hostname, parts.port or 443, parts.path.rstrip("/") + PATH, asked, ca_file)
    found = Enrolment(_text(answer, "tenant", 64), settings.device, _text(answer, "broker", 300))
    if not NAME.fullmatch(found.tenant) or urlsplit(found.broker).scheme not in ("mqtts", "mqtt"):
        raise InvalidInput(
            "The service's answer names no tenant or broker", fix="Update the service or the agent."
        )
    keys = answer.get("trusted_keys")
    if not isinstance(keys, list) or not keys:
        raise InvalidInput(
            "The service's answer names no keys to trust", fix="Update the service or the agent."
        )
    trusted = [public_from_base64(str(key)) for key in cast("list[object]", keys)]
    certificate, ca = _text(answer, "certificate_pem", 65536), _text(answer, "ca_pem", 65536)
    credentials.store(found, certificate, ca, trusted)
    return found


def _post(host: str, port: int, path: str, body: Mapping[str, object], ca_file: Path) -> dict[str, object]:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput("The certificate authority's file cannot be used", cause=str(error)) from error
    connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        status, content = response.status, response.read(MAX_ANSWER_BYTES + 1)
    except ssl.SSLCertVerificationError as error:
        raise InvalidInput(
            "The service's certificate does not hold",
            cause=error.verify_message,
            fix="Pass the authority that signed it as --ca, and see that the clock is set.",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(
            "The service cannot be reached",
            cause=f"{type(error).__name__}: {error}",
            fix="Check address and line.",
        ) from error
    finally:
        connection.close()
    try:
        found: Any = json.loads(content) if len(content) <= MAX_ANSWER_BYTES else None
    except ValueError:
        found = None
    if status >= 500 or status == 429:
        raise Unavailable(
            "The service cannot enrol now", cause=f"It answered {status}", fix="Try again later."
        )
    if status >= 400:
        raise InvalidInput(
            "The service refused the enrolment",
            cause=f"It answered {status}{_said(found)}",
            fix="Ask for a new token; each holds once and for a short time.",
        )
    if status != 200 or not isinstance(found, dict):
        raise InvalidInput(
            "The service's answer is none", cause=f"It answered {status}", fix="Check the address."
        )
    return cast("dict[str, object]", found)


def _said(found: Any) -> str:
    """The message of an error answer, in whichever of the usual places it stands."""
    if not isinstance(found, dict):
        return ""
    told = cast("dict[str, object]", found)
    inner = told.get("error")
    if isinstance(inner, dict):
        told = cast("dict[str, object]", inner)
    for key in ("message", "detail", "error"):
        value = told.get(key)
        if isinstance(value, str):
            return f": {value[:300]}"
    return ""


def _text(answer: Mapping[str, object], name: str, most: int) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isascii():
        raise InvalidInput(f"The service's answer has no {name}", fix="Update the service or the agent.")
    return value
