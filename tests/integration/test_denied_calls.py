"""Every RPC is refused without the right token. The list is the service's own, not one kept by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from kepler.adapters.grpc.calls import CAPABILITIES
from kepler.bootstrap import SERVICES
from kepler.v1 import training_pb2, training_pb2_grpc

METHODS = [
    (f"/{service.full_name}/{method.name}", method) for service in SERVICES for method in service.methods
]
PATHS = [path for path, _ in METHODS]


def call(channel: grpc.Channel, path: str, metadata: list[tuple[str, str]]) -> grpc.StatusCode:
    """Call ``path`` with an empty request; gives the status."""
    method = dict(METHODS)[path]
    request = GetMessageClass(method.input_type)()
    kinds: dict[tuple[bool, bool], Any] = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    stub = kinds[method.client_streaming, method.server_streaming](
        path,
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    argument: Any = iter([request]) if method.client_streaming else request
    try:
        answer = stub(argument, metadata=metadata, timeout=20)
        if method.server_streaming:
            list(answer)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def test_every_rpc_has_a_capability_and_nothing_else_is_listed():
    assert sorted(CAPABILITIES) == sorted(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_no_token_and_wrong_tokens_are_unauthenticated(secured, path):
    expired = secured.mint("admin", ttl_s=0.01)
    info, revoked = secured.security.tokens.create("gone", "ana", frozenset({"admin"}), 0.0)
    secured.security.tokens.revoke(info.id)
    time.sleep(0.02)
    good = secured.mint("admin")
    wrong = [
        [],
        bearer(""),
        bearer("nonsense"),
        bearer(good[:-1] + ("A" if good[-1] != "A" else "B")),
        [("authorization", f"Basic {good}")],
        bearer(expired),
        bearer(revoked),
        bearer("kpu_" + good),
    ]
    with secured.channel() as channel:
        for metadata in wrong:
            assert call(channel, path, metadata) is grpc.StatusCode.UNAUTHENTICATED, metadata


@pytest.mark.parametrize("path", [path for path, capability in CAPABILITIES.items() if capability])
def test_a_token_without_the_capability_is_denied(secured, path):
    others = {"train", "predict", "deploy", "issue"} - {CAPABILITIES[path]}
    with secured.channel() as channel:
        status = call(channel, path, bearer(secured.mint(*others)))
    assert status is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("path", PATHS)
def test_the_right_token_passes_the_door(secured, path):
    with secured.channel() as channel:
        status = call(channel, path, bearer(secured.mint(CAPABILITIES[path] or "predict")))
    assert status not in (
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    )


def test_unknown_methods_and_plaintext_are_refused(secured):
    with secured.channel() as channel:
        stub = channel.unary_unary("/kepler.v1.JobService/Nothing")
        with pytest.raises(grpc.RpcError) as refused:
            stub(b"", timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with grpc.insecure_channel(secured.running.grpc) as plain:
        assert call(plain, PATHS[0], []) is grpc.StatusCode.UNAVAILABLE


def test_revoking_a_token_ends_its_running_stream_and_drops_the_upload(secured):
    info, token = secured.security.tokens.create("stream", "ana", frozenset({"train"}), 0.0)
    first = training_pb2.TrainOpen(
        algorithm="LinearRegression", target="y", features=["x"], columns=["x", "y"], into="never"
    )
    revoked = threading.Event()

    def requests() -> Iterator[training_pb2.TrainRequest]:
        yield training_pb2.TrainRequest(open=first)
        yield training_pb2.TrainRequest(rows=b"1,2\n")
        assert revoked.wait(10)
        yield training_pb2.TrainRequest(rows=b"3,4\n")

    before = set((secured.running.home / "jobs").glob("*-*"))
    with secured.channel() as channel:
        stub = training_pb2_grpc.TrainingServiceStub(channel)
        answers = stub.Train(requests(), metadata=bearer(token), timeout=20)
        assert next(answers).accepted.algorithm == "LinearRegression"
        secured.security.tokens.revoke(info.id)
        time.sleep(1.2)
        revoked.set()
        with pytest.raises(grpc.RpcError) as ended:
            list(answers)
    assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED
    deadline = time.monotonic() + 10
    while set((secured.running.home / "jobs").glob("*-*")) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set((secured.running.home / "jobs").glob("*-*")) == before
