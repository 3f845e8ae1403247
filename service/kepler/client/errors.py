"""Errors across gRPC, both ways: `status_from_error` for servers, `error_from_rpc` for clients.

The status message is the whole sentence, so that any gRPC client shows something useful; class, cause
and fix travel beside it as ``kepler.v1.ErrorDetail`` in ``google.rpc.Status.details``.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from kepler.core.errors import (
    BY_CODE,
    Cancelled,
    Conflict,
    Denied,
    InternalError,
    InvalidInput,
    KeplerError,
    MissingExtra,
    NotFound,
    NotReady,
    Overloaded,
    TimedOut,
    Unauthenticated,
    Unavailable,
)
from kepler.v1 import common_pb2

STATUS_METADATA = "grpc-status-details-bin"

GRPC_CODES: dict[type[KeplerError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    Conflict: grpc.StatusCode.ABORTED,
    NotReady: grpc.StatusCode.FAILED_PRECONDITION,
    MissingExtra: grpc.StatusCode.UNIMPLEMENTED,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    Denied: grpc.StatusCode.PERMISSION_DENIED,
    Cancelled: grpc.StatusCode.CANCELLED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    TimedOut: grpc.StatusCode.DEADLINE_EXCEEDED,
    InternalError: grpc.StatusCode.INTERNAL,
}
"""Every error class has one status code."""

_CLASSES: dict[grpc.StatusCode, type[KeplerError]] = {code: kind for kind, code in GRPC_CODES.items()} | {
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.OUT_OF_RANGE: InvalidInput,
}

# Trailers share one HTTP/2 header block whose default soft limit is 8 KiB at the receiver, and the
# message is percent-encoded (up to 3 bytes a byte): these bounds keep the worst case below it.
_MESSAGE_BYTES = 700
_PART_BYTES = 400


def _clip(text: str, limit: int) -> str:
    raw = text.encode("utf-8", "replace")
    return raw.decode() if len(raw) <= limit else raw[: limit - 3].decode("utf-8", "ignore") + "..."


def status_from_error(error: KeplerError) -> tuple[grpc.StatusCode, Status]:
    """The gRPC code and the ``google.rpc.Status`` that say ``error``. Overlong texts are clipped."""
    kind = next((base for base in type(error).__mro__ if base in GRPC_CODES), InternalError)
    code = GRPC_CODES[kind]
    clipped = KeplerError(
        _clip(error.message, _MESSAGE_BYTES),
        cause=_clip(error.cause, _PART_BYTES),
        fix=_clip(error.fix, _PART_BYTES),
    )
    status = Status(code=code.value[0], message=clipped.sentence)
    detail = common_pb2.ErrorDetail(
        code=kind.__name__, cause=clipped.cause, fix=clipped.fix, retry_after_s=error.retry_after_s
    )
    status.details.add().Pack(detail)
    return code, status


def abort_arguments(error: KeplerError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """What ``context.abort(code, details, trailing_metadata)`` of an asyncio server takes."""
    code, status = status_from_error(error)
    return code, status.message, ((STATUS_METADATA, status.SerializeToString()),)


def _part(text: str) -> str:
    """How a part of an error stands in its sentence."""
    text = text.strip()
    return text if not text or text[-1] in ".!?" else text + "."


def error_from_detail(sentence: str, detail: common_pb2.ErrorDetail) -> KeplerError:
    """The error whose sentence and parts these are."""
    message = sentence
    for part in (detail.fix, detail.cause):
        if part and message.endswith(" " + _part(part)):
            message = message[: -len(_part(part)) - 1].rstrip()
    if message.endswith(".") and not message.endswith(".."):
        message = message[:-1]
    kind = BY_CODE.get(detail.code, InternalError)
    return kind(message, cause=detail.cause, fix=detail.fix, retry_after_s=detail.retry_after_s)


def _detail(exc: Any) -> tuple[str, common_pb2.ErrorDetail] | None:
    metadata = exc.trailing_metadata() if hasattr(exc, "trailing_metadata") else None
    for key, value in metadata or ():
        if key != STATUS_METADATA:
            continue
        try:
            status = Status.FromString(value)
            for item in status.details:
                detail = common_pb2.ErrorDetail()
                if item.Unpack(detail):
                    return status.message, detail
        except DecodeError:  # somebody else's trailer; the status code still speaks
            return None
    return None


def error_from_rpc(exc: grpc.RpcError, *, address: str = "") -> KeplerError:
    """The `KeplerError` that ``exc`` stands for; ``address`` is named where the service didn't answer."""
    found = _detail(exc)
    if found:
        return error_from_detail(*found)
    call: Any = exc
    code = call.code() if hasattr(call, "code") else grpc.StatusCode.UNKNOWN
    details = (call.details() if hasattr(call, "details") else str(exc)) or ""
    at = f" at {address}" if address else ""
    cause = _clip(" ".join(details.split()), _PART_BYTES)
    if code == grpc.StatusCode.UNAVAILABLE:
        return Unavailable(
            f"The Kepler service{at} does not answer",
            cause=cause,
            fix="Check the address, that `kepler serve` runs there and that both sides use TLS or neither",
            retry_after_s=1.0,
        )
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return TimedOut(
            f"The Kepler service{at} took longer than the deadline", fix="Try again", retry_after_s=1.0
        )
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return MissingExtra(
            f"The Kepler service{at} does not know this call",
            cause="It is older than this client, or something else answers there",
            fix="Update the service or check the address",
        )
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Overloaded(f"The Kepler service{at} refused the call", cause=cause, retry_after_s=1.0)
    if code == grpc.StatusCode.CANCELLED:
        return Cancelled("The call was cancelled")
    kind = _CLASSES.get(code, InternalError)
    return kind(cause or f"The call failed with {code.name}")
