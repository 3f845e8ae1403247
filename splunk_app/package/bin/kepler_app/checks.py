"""The checks of keplerhealth, from the settings inward. The ones after a failed one say that they wait for it."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable
from datetime import datetime, timezone

from kepler_app import VERSION
from kepler_app.client import Client, tls_context
from kepler_app.errors import SearchError
from kepler_app.searchinfo import SearchInfo
from kepler_app.settings import Settings

Row = tuple[str, str, str, str]
OK, WARN, FAIL, SKIP = "ok", "warning", "failed", "skipped"
CHECKS = ("settings", "address", "connection", "tls", "service", "token", "version", "clock")
TIMEOUT_S = 5.0
EXPIRES_SOON_S = 14 * 86400
CLOCK_SKEW_S = 60.0
_PAGE = "Correct it on the app's configuration page (Apps, Kepler for Splunk, Configuration)."


def run_checks(load: Callable[[], Settings], info: SearchInfo) -> list[Row]:
    """All rows, in the order of `CHECKS`. Raises nothing for what is broken outside."""
    rows: list[Row] = []
    try:
        found = load()
    except SearchError as error:
        rows.append(("settings", FAIL, error.sentence, _PAGE))
        return _rest(rows)
    source = "the KEPLER_* environment" if found.source == "environment" else "the app's configuration"
    rows.append(("settings", OK, f"service {found.address}, from {source}", ""))
    for check in (_address, _connection, _tls):
        rows.append(check(found))
        if rows[-1][1] == FAIL:
            return _rest(rows)
    return [*rows, *_calls(found)]


def _rest(rows: list[Row]) -> list[Row]:
    done = {row[0] for row in rows}
    failed = rows[-1][0]
    left = (name for name in CHECKS if name not in done)
    return [*rows, *((name, SKIP, f"waits for the check '{failed}'", "") for name in left)]


def _address(found: Settings) -> Row:
    try:
        addresses = sorted({str(item[4][0]) for item in socket.getaddrinfo(found.host, found.port)})
    except (OSError, UnicodeError) as error:  # UnicodeError: a part of the name that DNS cannot hold
        reason = f"{found.host!r} cannot be resolved: {getattr(error, 'strerror', None) or error}"
        return "address", FAIL, reason, f"Correct the DNS entry or the address. {_PAGE}"
    return "address", OK, f"{found.host} is {', '.join(addresses)}", ""


def _connection(found: Settings) -> Row:
    began = time.monotonic()
    try:
        socket.create_connection((found.host, found.port), TIMEOUT_S).close()
    except OSError as error:
        reason = f"no TCP connection to {found.address}: {error.strerror or error}"
        return (
            "connection",
            FAIL,
            reason,
            "Start the service ('kepler serve'), or open the port in the firewall.",
        )
    return "connection", OK, f"connected in {(time.monotonic() - began) * 1000:.0f} ms", ""


def _tls(found: Settings) -> Row:
    if not found.tls:
        return "tls", OK, "plaintext, because the service is on this machine", ""
    try:
        context = tls_context(found)
        raw = socket.create_connection((found.host, found.port), TIMEOUT_S)
        with raw, context.wrap_socket(raw, server_hostname=found.host) as secure:
            certificate, protocol, version = (
                secure.getpeercert(),
                secure.selected_alpn_protocol(),
                secure.version(),
            )
    except SearchError as error:
        return "tls", FAIL, error.sentence, _PAGE
    except ssl.SSLCertVerificationError as error:
        expired = error.verify_code == 10
        step = (
            "Renew the service's certificate."
            if expired
            else f"Set the CA certificate that signed it. {_PAGE}"
        )
        return "tls", FAIL, f"the certificate is not trusted: {error.verify_message}", step
    except (OSError, ValueError) as error:
        reason = re.sub(r"\s*\(_ssl\.c:\d+\)", "", str(error))
        return (
            "tls",
            FAIL,
            f"no TLS handshake: {reason}",
            "Start the service with a certificate (--tls-cert, --tls-key).",
        )
    if protocol != "h2":
        return (
            "tls",
            FAIL,
            "the server does not offer HTTP/2",
            "Give the service's gRPC port, or fix the proxy before it.",
        )
    ends = ssl.cert_time_to_seconds(str((certificate or {}).get("notAfter", "Jan  1 00:00:00 1970 GMT")))
    left = ends - time.time()
    detail = f"{version}, certificate valid for {left / 86400:.0f} days"
    if left < EXPIRES_SOON_S:
        return "tls", WARN, detail, "Renew the service's certificate soon."
    return "tls", OK, detail, ""


def _calls(found: Settings) -> list[Row]:
    """The checks that need gRPC."""
    from google.protobuf import empty_pb2, wrappers_pb2

    from kepler.v1 import auth_pb2

    rows: list[Row] = []
    client = Client(found)
    try:
        try:
            # HealthCheckRequest without fields, and the status as field 1 of the answer.
            reply = client.call(
                "/grpc.health.v1.Health/Check", empty_pb2.Empty(), wrappers_pb2.Int32Value, TIMEOUT_S
            )
            if reply.value != 1:
                rows.append(
                    ("service", FAIL, "the service is starting or stopping", "Wait a minute and check again.")
                )
                return rows + _skipped("service", ("token", "version", "clock"))
            rows.append(("service", OK, "answers and is ready", ""))
        except SearchError as error:
            rows.append(("service", FAIL, error.sentence, "Look at the service's own log."))
            return rows + _skipped("service", ("token", "version", "clock"))
        try:
            me = client.call(
                "AuthService/WhoAmI", auth_pb2.WhoAmIRequest(), auth_pb2.WhoAmIResponse, TIMEOUT_S
            )
        except SearchError as error:
            step = f"Make a token with 'kepler token create' and set it. {_PAGE}"
            rows.append(("token", FAIL, error.sentence, step))
            return rows + _skipped("token", ("version", "clock"))
        return [*rows, _token(me), _version(me), _clock(me)]
    finally:
        client.close()


def _skipped(failed: str, names: tuple[str, ...]) -> list[Row]:
    return [(name, SKIP, f"waits for the check '{failed}'", "") for name in names]


def _token(me: object) -> Row:
    user, capabilities = getattr(me, "user", ""), sorted(getattr(me, "capabilities", ()))
    listed = ", ".join(capabilities) or "none"
    detail = f"the service knows you as {user!r} with the capabilities {listed}"
    if not {"predict", "admin"} & set(capabilities):
        step = "Ask an administrator for a role with kepler_predict, kepler_train, kepler_deploy or kepler_admin."
        return "token", WARN, detail, step
    return "token", OK, detail, ""


def _version(me: object) -> Row:
    service, api = getattr(me, "service_version", ""), getattr(me, "api_version", "")
    detail = f"app {VERSION}, service {service}, interface {api}"
    if api != "v1":
        return "version", FAIL, detail, "Install app and service of the same release."
    return "version", OK, detail, ""


def _clock(me: object) -> Row:
    text = str(getattr(me, "server_time", "")).replace("Z", "+00:00")
    try:
        server = datetime.fromisoformat(text)
    except ValueError:
        return "clock", WARN, f"the service's time {text[:40]!r} cannot be read", "Update the service."
    if server.tzinfo is None:
        server = server.replace(tzinfo=timezone.utc)
    skew = server.timestamp() - time.time()
    detail = f"the service's clock is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}"
    if abs(skew) > CLOCK_SKEW_S:
        return "clock", WARN, detail, "Synchronise both clocks (NTP); tokens expire by them."
    return "clock", OK, detail, ""
