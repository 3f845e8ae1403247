"""Whatever the network does is one sentence with a next step."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from kepler.v1 import common_pb2
from kepler_app.errors import SearchError, in_search_words
from kepler_app.faults import explain
from kepler_app.settings import Settings

WHERE = Settings("kepler.example.com:8790")


def untrusted(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "verify failed")
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (GRPCError(Status.NOT_FOUND, "No model m"), "NotFound", "No model m."),
        (GRPCError(Status.PERMISSION_DENIED), "Denied", "does not allow this. Check with '| keplerhealth'."),
        (GRPCError(Status.UNIMPLEMENTED, ""), "InternalError", "older than this app"),
        (GRPCError(Status.DATA_LOSS, None), "InternalError", "an unknown error"),
        (GRPCError(Status.UNKNOWN, "Received :status"), "Unavailable", "is not a Kepler service"),
        (
            GRPCError(Status.UNAVAILABLE, "Cancelling all calls"),
            "Unavailable",
            "ended the call: Cancelling all",
        ),
        (
            GRPCError(Status.CANCELLED, "Server shutdown"),
            "Unavailable",
            "kepler.example.com:8790 ended the call",
        ),
        (
            UnicodeError("encoding with 'idna' codec failed (UnicodeError: label empty or too long)"),
            "Unavailable",
            "'kepler.example.com' of the Kepler service cannot be resolved",
        ),
        (socket.gaierror(-2, "Name or service not known"), "Unavailable", "cannot be resolved"),
        (ConnectionRefusedError(111, "refused"), "Unavailable", "the connection is refused"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed"), "Unavailable", "is refused"),
        (TimeoutError(), "TimedOut", "did not answer in time"),
        (StreamTerminatedError("Connection lost"), "Unavailable", "broke the connection off"),
        (ProtocolError("x"), "Unavailable", "broke the connection off"),
        (ConnectionResetError(), "Unavailable", "broke the connection off"),
        (OSError(113, "No route to host"), "Unavailable", "cannot be reached: No route to host."),
        (OSError(), "Unavailable", "network error"),
        (untrusted(10, "certificate has expired"), "Unavailable", "Renew"),
        (untrusted(62, "Hostname mismatch"), "Unavailable", "the name that the certificate carries"),
        (untrusted(19, "self-signed"), "Unavailable", "Set the CA certificate"),
        (
            ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"),
            "Unavailable",
            "wrong version number.",
        ),
    ],
)
def test_each_fault(error: Exception, code: str, words: str) -> None:
    found = explain(error, WHERE)
    assert found.code == code
    assert words in found.sentence
    assert found.sentence.endswith(".")
    assert "_ssl.c" not in found.sentence


def detailed(message: str, **detail: Any) -> SearchError:
    return explain(
        GRPCError(Status.RESOURCE_EXHAUSTED, message, [object(), common_pb2.ErrorDetail(**detail)]), WHERE
    )


def test_fixes_name_search_commands() -> None:
    found = explain(
        GRPCError(
            Status.NOT_FOUND,
            "There is no model 'm'",
            [
                common_pb2.ErrorDetail(
                    fix="List the models with `kepler models`, or train one with `kepler train`"
                )
            ],
        ),
        WHERE,
    )
    assert found.sentence == (
        "There is no model 'm'. List the models with `keplermodels`, or train one with `keplertrain`."
    )
    assert in_search_words("`kepler version` `kepler serve --home x` kepler train `kepler trainer`") == (
        "`keplerversion` `kepler serve --home x` kepler train `kepler trainer`"
    )


def test_a_service_that_asks_for_a_certificate() -> None:
    error = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert (_ssl.c:2580)")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert "asks for a client certificate" in explain(error, WHERE).sentence


def test_details_are_joined_once() -> None:
    found = detailed("Full", code="Overloaded", cause="The disk is full", fix="Free space", retry_after_s=3)
    assert (found.sentence, found.code, found.retry_after_s) == (
        "Full. The disk is full. Free space.",
        "Overloaded",
        3,
    )
    assert detailed("Full. Free space.", code="Overloaded", fix="Free space.").sentence == "Full. Free space."


def test_our_own_errors_pass_and_others_are_not_hidden() -> None:
    own = SearchError("x.")
    assert explain(own, WHERE) is own
    for error in (ZeroDivisionError(), UnicodeError("'utf-8' codec can't encode")):
        with pytest.raises(type(error)):
            explain(error, WHERE)
