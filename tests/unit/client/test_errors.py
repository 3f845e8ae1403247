"""Errors cross gRPC whole: class, message, cause, fix and when to retry."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from kepler.client import errors as table
from kepler.core.errors import ALL_ERRORS, InternalError, InvalidInput, KeplerError, NotFound
from kepler.v1 import common_pb2


class Failed(grpc.RpcError):
    """What grpcio raises: an RpcError that is a call too."""

    def __init__(self, code: grpc.StatusCode, details: str | None = "", trailers: Any = ()) -> None:
        self._parts = (code, details, trailers)

    def code(self) -> grpc.StatusCode:
        return self._parts[0]

    def details(self) -> str | None:
        return self._parts[1]

    def trailing_metadata(self) -> Any:
        return self._parts[2]


def across(error: KeplerError) -> KeplerError:
    return table.error_from_rpc(Failed(*table.abort_arguments(error)))


def test_every_error_class_has_a_code_of_its_own() -> None:
    assert set(table.GRPC_CODES) == set(ALL_ERRORS)
    assert len(set(table.GRPC_CODES.values())) == len(ALL_ERRORS)
    assert grpc.StatusCode.OK not in table.GRPC_CODES.values()


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_an_error_arrives_as_it_left(kind: type[KeplerError]) -> None:
    error = kind("Model 'a' is gone", cause="it was deleted", fix="Train it again", retry_after_s=2.5)
    back = across(error)
    assert type(back) is kind
    assert (back.message, back.cause, back.fix, back.retry_after_s) == (
        error.message,
        error.cause,
        error.fix,
        2.5,
    )
    assert back.sentence == error.sentence


@given(st.text(min_size=1, max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_the_sentence_survives_any_text(message: str, cause: str, fix: str) -> None:
    error = NotFound(message, cause=cause, fix=fix)
    code, status = table.status_from_error(error)
    assert code is grpc.StatusCode.NOT_FOUND
    expected = error.sentence.encode("utf-8", "replace").decode()
    assert status.message == expected
    assert type(across(error)) is NotFound


def test_a_subclass_travels_as_its_parent_and_a_bare_root_as_internal() -> None:
    class Odd(InvalidInput):
        pass

    assert type(across(Odd("x"))) is InvalidInput
    assert type(across(KeplerError("x"))) is InternalError


def test_overlong_texts_keep_the_trailers_small() -> None:
    error = InvalidInput("é" * 50_000, cause="ü" * 50_000, fix="ß" * 50_000)
    _, message, trailers = table.abort_arguments(error)
    worst = 3 * len(message.encode()) + (len(trailers[0][1]) * 4 + 2) // 3
    assert worst < 8_000
    assert message.count("...") == 3


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Unavailable"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "TimedOut"),
        (grpc.StatusCode.UNIMPLEMENTED, "MissingExtra"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Overloaded"),
        (grpc.StatusCode.CANCELLED, "Cancelled"),
        (grpc.StatusCode.ALREADY_EXISTS, "Conflict"),
        (grpc.StatusCode.OUT_OF_RANGE, "InvalidInput"),
        (grpc.StatusCode.UNAUTHENTICATED, "Unauthenticated"),
        (grpc.StatusCode.UNKNOWN, "InternalError"),
        (grpc.StatusCode.DATA_LOSS, "InternalError"),
    ],
)
def test_a_status_without_detail_becomes_the_nearest_error(code: grpc.StatusCode, name: str) -> None:
    error = table.error_from_rpc(Failed(code, "why so"), address="box:1")
    assert error.code == name
    assert error.sentence


def test_where_nobody_answers_the_address_is_named() -> None:
    error = table.error_from_rpc(Failed(grpc.StatusCode.UNAVAILABLE, "refused"), address="box:8790")
    assert "box:8790" in error.message
    assert error.retryable


@pytest.mark.parametrize(
    "trailers",
    [
        None,
        ((table.STATUS_METADATA, b"\xff\xff not a status"),),
        ((table.STATUS_METADATA, Status(code=5, message="m").SerializeToString()),),
        (("other", "x"),),
    ],
)
def test_foreign_trailers_fall_back_to_the_code(trailers: Any) -> None:
    error = table.error_from_rpc(Failed(grpc.StatusCode.NOT_FOUND, "no such thing", trailers))
    assert error.code == "NotFound"
    assert error.message == "no such thing"


def test_an_empty_status_still_says_something() -> None:
    assert "INTERNAL" in table.error_from_rpc(Failed(grpc.StatusCode.INTERNAL, None)).message
    assert table.error_from_rpc(grpc.RpcError("odd")).message == "odd"


def test_an_unknown_class_of_a_newer_service_is_internal_and_keeps_its_words() -> None:
    error = table.error_from_detail("Too new. Update.", common_pb2.ErrorDetail(code="Novel", fix="Update"))
    assert type(error) is InternalError
    assert (error.message, error.fix) == ("Too new", "Update")
