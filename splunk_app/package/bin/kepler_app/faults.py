"""What went wrong between command and service, as one sentence each. Imported with the client only."""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
import socket
import ssl

from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from kepler_app.connections import NoWelcome
from kepler_app.errors import SearchError, full_stop, in_search_words
from kepler_app.settings import Settings

_HEALTH = "Check with '| keplerhealth'."
_PAIR = "Set the files of certificate and key on the app's configuration page."
_CODES = {
    Status.INVALID_ARGUMENT: "InvalidInput",
    Status.NOT_FOUND: "NotFound",
    Status.ALREADY_EXISTS: "Conflict",
    Status.ABORTED: "Conflict",
    Status.FAILED_PRECONDITION: "NotReady",
    Status.UNAUTHENTICATED: "Unauthenticated",
    Status.PERMISSION_DENIED: "Denied",
    Status.CANCELLED: "Cancelled",
    Status.UNAVAILABLE: "Unavailable",
    Status.RESOURCE_EXHAUSTED: "Overloaded",
    Status.DEADLINE_EXCEEDED: "TimedOut",
}
_PLAIN = {
    Status.UNAUTHENTICATED: "the service did not accept the token",
    Status.PERMISSION_DENIED: "the token does not allow this",
    Status.UNAVAILABLE: "the service is not ready",
    Status.UNIMPLEMENTED: "the service is older than this app and does not know the call",
    Status.DEADLINE_EXCEEDED: "the service did not answer in time",
    Status.RESOURCE_EXHAUSTED: "the service is full, or a message is too large",
    Status.CANCELLED: "the call was cancelled",
}


def _detail(error: GRPCError) -> tuple[str, str, str, float]:
    """Code, cause, fix and retry time that the service sent beside its message."""
    for item in error.details or ():
        if getattr(getattr(item, "DESCRIPTOR", None), "full_name", "") == "kepler.v1.ErrorDetail":
            return item.code, item.cause, item.fix, item.retry_after_s
    return "", "", "", 0.0


def _from_status(error: GRPCError, address: str) -> SearchError:
    code, cause, fix, retry_after_s = _detail(error)
    message = (error.message or "").strip()
    if not code and message and error.status in (Status.UNAVAILABLE, Status.CANCELLED):
        # Words of the gRPC library of a server that stops, or of a proxy; the service sends details with its own.
        return SearchError(
            f"Kepler service at {address} ended the call: {full_stop(message)} Run the search again; "
            f"{_HEALTH[0].lower()}{_HEALTH[1:]}",
            "Unavailable",
        )
    if not code and (error.status is Status.UNKNOWN or not message):
        if error.status is Status.UNKNOWN:  # no gRPC server speaks like that
            return SearchError(f"What answers at {address} is not a Kepler service. {_HEALTH}", "Unavailable")
        message = (
            f"Kepler service at {address} refused the call: {_PLAIN.get(error.status, 'an unknown error')}"
        )
        fix = _HEALTH
    parts = [full_stop(message)]
    parts += [full_stop(part) for part in (cause, fix) if part and part.strip().rstrip(".") not in message]
    return SearchError(
        in_search_words(" ".join(parts)), code or _CODES.get(error.status, "InternalError"), retry_after_s
    )


def _from_tls(error: ssl.SSLError, settings: Settings) -> SearchError:
    where = f"Kepler service at {settings.address}"
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message or "unknown reason"
        if error.verify_code == 10:
            fix = "Renew the service's certificate."
        elif "mismatch" in reason.lower() or "not valid for" in reason.lower():
            fix = "Use the name that the certificate carries as the address."
        else:
            fix = "Set the CA certificate that signed it on the app's configuration page."
        return SearchError(f"{where} has a certificate that is not trusted: {reason}. {fix}", "Unavailable")
    if "CERTIFICATE_REQUIRED" in str(getattr(error, "reason", "")):
        return SearchError(f"{where} asks for a client certificate. {_PAIR}", "Unavailable")
    reason = re.sub(r"\s*\(_ssl\.c:\d+\)|\[SSL[^\]]*\]\s*", "", str(error)) or "unknown reason"
    return SearchError(
        f"{where} and this search head cannot agree on TLS: {full_stop(reason)} {_HEALTH}", "Unavailable"
    )


def explain(error: BaseException, settings: Settings) -> SearchError:
    """`SearchError` for anything the client may raise; programming errors pass as they are."""
    where = f"Kepler service at {settings.address}"
    if isinstance(error, SearchError):
        return error
    if isinstance(error, GRPCError):
        return _from_status(error, settings.address)
    if isinstance(error, ssl.SSLError):
        return _from_tls(error, settings)
    # A name with a part over 63 characters fails in the codec of such names, before anybody is asked.
    if isinstance(error, socket.gaierror) or (isinstance(error, UnicodeError) and "idna" in str(error)):
        return SearchError(
            f"The name {settings.host!r} of the Kepler service cannot be resolved. Correct the address or the DNS entry.",
            "Unavailable",
        )
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return SearchError(f"{where} does not answer: the connection is refused. {_HEALTH}", "Unavailable")
    if isinstance(error, (asyncio.TimeoutError, concurrent.futures.TimeoutError, TimeoutError)):
        return SearchError(f"{where} did not answer in time. {_HEALTH}", "TimedOut")
    if isinstance(error, NoWelcome):
        why = (
            f"It may not accept the client certificate {settings.cert_file!r}; show one of an authority it knows."
            if settings.cert_file
            else f"It may ask for a client certificate. {_PAIR}"
        )
        return SearchError(f"{where} closed the connection after the TLS handshake. {why}", "Unavailable")
    if isinstance(error, (StreamTerminatedError, ProtocolError, ConnectionError, EOFError)):
        return SearchError(
            f"{where} broke the connection off. Run the search again; {_HEALTH[0].lower()}{_HEALTH[1:]}",
            "Unavailable",
        )
    if isinstance(error, OSError):
        return SearchError(
            f"{where} cannot be reached: {full_stop(error.strerror or 'network error')} {_HEALTH}",
            "Unavailable",
        )
    raise error
