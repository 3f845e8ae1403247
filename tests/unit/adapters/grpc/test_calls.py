"""The wrapper around every RPC, called as gRPC calls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from kepler.adapters.grpc.calls import CallContext, _wrap
from kepler.core.errors import InvalidInput
from kepler.v1 import prediction_pb2 as pb

PREDICT = "/kepler.v1.PredictionService/Predict"
METHODS = pb.DESCRIPTOR.services_by_name["PredictionService"].methods_by_name
ROWS = pb.PredictRequest(rows=b"1\n").SerializeToString()


class Counted:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def call_finished(self, method: str, code: str, seconds: float) -> None:
        self.calls.append((method, code))


class Aborted(Exception):
    pass


class Context:
    """What of gRPC's context the wrapper uses."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None
        self.details = ""

    async def abort(self, code: grpc.StatusCode, details: str, metadata: object) -> None:
        self.code, self.details = code, details
        raise Aborted


@pytest.fixture
def counted() -> Counted:
    return Counted()


def predict(implementation: Any, counted: Counted, idle_s: float = 5.0) -> Any:
    return _wrap(CallContext(None, counted, idle_s, idle_s), PREDICT, METHODS["Predict"], implementation)


async def echo(requests: AsyncIterator[pb.PredictRequest]) -> AsyncIterator[pb.PredictResponse]:
    async for request in requests:
        yield pb.PredictResponse(scored=pb.Scored(values=request.rows))


async def sent(*messages: bytes, then_wait_s: float = 0.0) -> AsyncIterator[bytes]:
    for message in messages:
        yield message
    await asyncio.sleep(then_wait_s)


async def test_each_message_is_answered_and_the_call_counted(counted):
    handler = predict(echo, counted)
    found = [one async for one in handler.stream_stream(sent(ROWS, ROWS), Context())]
    assert [handler.response_serializer(one) for one in found] == [
        pb.PredictResponse(scored=pb.Scored(values=b"1\n")).SerializeToString()
    ] * 2
    assert counted.calls == [(PREDICT, "OK")]


async def test_a_caller_that_sends_nothing_for_too_long_is_told_so(counted):
    context = Context()
    responses = predict(echo, counted, idle_s=0.05).stream_stream(sent(ROWS, then_wait_s=5), context)
    assert (await anext(responses)).scored.values == b"1\n"
    with pytest.raises(Aborted):
        await anext(responses)
    assert context.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "sent nothing for too long" in context.details
    assert counted.calls == [(PREDICT, "DEADLINE_EXCEEDED")]


async def test_the_implementation_ends_when_its_caller_goes_away(counted):
    ended: list[bool] = []

    async def slow(requests: AsyncIterator[pb.PredictRequest]) -> AsyncIterator[pb.PredictResponse]:
        try:
            async for one in echo(requests):
                yield one
        finally:
            ended.append(True)

    responses = predict(slow, counted).stream_stream(sent(ROWS, ROWS), Context())
    await anext(responses)
    await responses.aclose()
    assert ended == [True]
    assert counted.calls == [(PREDICT, "CANCELLED")]


@pytest.mark.parametrize(
    ("error", "code"),
    [(InvalidInput("no"), "INVALID_ARGUMENT"), (ValueError("secret"), "INTERNAL")],
    ids=["ours", "unexpected"],
)
async def test_errors_become_a_status_that_tells_no_secrets(counted, error, code):
    async def failing(*_: object) -> AsyncIterator[pb.PredictResponse]:
        raise error
        yield

    context = Context()
    with pytest.raises(Aborted):
        await anext(predict(failing, counted).stream_stream(sent(ROWS), context))
    assert context.code is grpc.StatusCode[code]
    assert "secret" not in context.details

    async def failing_once(_: pb.PredictRowsRequest) -> pb.PredictRowsResponse:
        raise error

    path = "/kepler.v1.PredictionService/PredictRows"
    once = _wrap(CallContext(None, counted, 5, 5), path, METHODS["PredictRows"], failing_once)
    with pytest.raises(Aborted):
        await once.unary_unary(b"", Context())
    assert counted.calls == [(PREDICT, code), (path, code)]


async def test_bytes_that_are_no_message_are_the_callers_mistake(counted):
    context = Context()
    with pytest.raises(Aborted):
        await anext(predict(echo, counted).stream_stream(sent(b"\xff\xff"), context))
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_call_leaves_no_task_behind(counted):
    async def once(_: pb.PredictRowsRequest) -> pb.PredictRowsResponse:
        return pb.PredictRowsResponse()

    path = "/kepler.v1.PredictionService/PredictRows"
    wrapped = _wrap(CallContext(None, counted, 5, 5), path, METHODS["PredictRows"], once)
    assert await wrapped.unary_unary(b"", Context()) == pb.PredictRowsResponse()
    assert asyncio.all_tasks() == {asyncio.current_task()}
