"""Bytes that no client sends: the service refuses them in its own words and stays as it is.

Source of the figures: facts/observability_security.md section 5.2, test 11. The list of methods is the service's own.
"""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kepler.bootstrap import SERVICES
from support.inside import telling
from support.running_service import RunningService, running
from support.service_client import MIB, connect, predict_one, rss_bytes, trained

METHODS = [
    (f"/{service.full_name}/{method.name}", method) for service in SERVICES for method in service.methods
]
TEXTS = (
    "", "x", "app:fuzz", "app:fuzz@1", "app:fuzz@prod", "../../etc/passwd", "user.ana/../x", "a" * 5000, "\0",
    "'; DROP TABLE jobs;--", "%2e%2e%2f", "\N{SNOWMAN}\u202e", "{{7*7}}", "-1", "1e999", "LinearRegression",
    "sklearn.os.system", "@", "@@", "app:", ":", "*", "y", "a",
)  # fmt: skip
ROWS = (b"", b"1,2\n", b"1,2", b'"', b"\xff\xfe\n", b"1,2,3\n", b",,,\n" * 50, b"\0" * 100, b"a,b\n" * 500)
ALLOWED = {
    "OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "ALREADY_EXISTS", "ABORTED", "OUT_OF_RANGE",
    "RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE", "CANCELLED",
}  # fmt: skip


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    env = {"KEPLER_JOBS__QUEUE_LIMIT": "1"}  # a fuzzed order may be a good one: not a thousand of them
    with running(tmp_path_factory.mktemp("fuzzed"), env=env) as service:
        with connect(service) as client:
            trained(client, "app:fuzz")
        yield service


class Fuzzer:
    """Payloads for one method: noise, damaged messages, and well-formed messages of strange values."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def payload(self, kind: type[Message]) -> bytes:
        way = self._random.randrange(4)
        if way == 0:
            return self._random.randbytes(self._random.choice((0, 1, 7, 64, 2000)))
        data = bytearray(self.message(kind, 0).SerializeToString())
        if way == 1 and data:
            for _ in range(self._random.randint(1, 4)):
                data[self._random.randrange(len(data))] = self._random.randrange(256)
        if way == 2:
            del data[self._random.randint(0, len(data)) :]
        return bytes(data)

    def message(self, kind: type[Message], depth: int) -> Message:
        message = kind()
        for each in message.DESCRIPTOR.fields:
            if self._random.random() < 0.6 and depth < 4:
                self._fill(message, each, depth)
        return message

    def _fill(self, message: Message, each: FieldDescriptor, depth: int) -> None:
        repeated = each.is_repeated
        if each.message_type is not None and each.message_type.GetOptions().map_entry:
            entry = each.message_type.fields_by_name
            getattr(message, each.name)[self._value(entry["key"])] = self._value(entry["value"])
        elif each.message_type is not None:
            child = self.message(GetMessageClass(each.message_type), depth + 1)
            place = getattr(message, each.name)
            place.add().CopyFrom(child) if repeated else place.CopyFrom(child)
        else:
            value = self._value(each)
            if repeated:
                getattr(message, each.name).extend([value] * self._random.randint(0, 3))
            else:
                setattr(message, each.name, value)

    def _value(self, each: FieldDescriptor) -> Any:
        numbers = {
            FieldDescriptor.CPPTYPE_INT32: (0, -1, 2**31 - 1),
            FieldDescriptor.CPPTYPE_INT64: (0, -1, 2**63 - 1),
            FieldDescriptor.CPPTYPE_UINT32: (0, 1, 2**32 - 1),
            FieldDescriptor.CPPTYPE_UINT64: (0, 1, 2**64 - 1),
            FieldDescriptor.CPPTYPE_DOUBLE: (0.0, -1.5, 1e308, float("nan"), float("inf")),
            FieldDescriptor.CPPTYPE_FLOAT: (0.0, float("nan")),
            FieldDescriptor.CPPTYPE_BOOL: (True, False),
            FieldDescriptor.CPPTYPE_ENUM: (0, 1),
        }
        if each.cpp_type in numbers:
            return self._pick(numbers[each.cpp_type])
        return self._pick(ROWS if each.type == FieldDescriptor.TYPE_BYTES else TEXTS)

    def _pick(self, choices: tuple[Any, ...]) -> Any:
        return self._random.choice(choices)


def send(channel: grpc.Channel, path: str, method: Any, payloads: list[bytes]) -> tuple[str, str]:
    """One call of raw bytes: its status and what it said."""
    make: Any = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[method.client_streaming, method.server_streaming]
    argument = iter(payloads) if method.client_streaming else payloads[0]
    try:
        answer = make(path)(argument, timeout=30)
        if method.server_streaming:
            list(answer)
    except grpc.RpcError as error:
        call: Any = error
        trailing = "".join(f"{key}={value!r}" for key, value in call.trailing_metadata() or ())
        return call.code().name, f"{call.details()} {trailing}"
    return "OK", ""


def send_all(address: str, count: int) -> list[tuple[str, str, str]]:
    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(16) as pool:

        def one(number: int) -> tuple[str, str, str]:
            path, method = METHODS[number % len(METHODS)]
            fuzzer = Fuzzer(number)
            kind = GetMessageClass(method.input_type)
            return path, *send(channel, path, method, [fuzzer.payload(kind) for _ in range(3)])

        return list(pool.map(one, range(count)))


def garbage(number: int) -> bytes:
    noise = random.Random(number)
    return (
        noise.randbytes(noise.randint(1, 3000)),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + noise.randbytes(200),
        b"\x16\x03\x01\x02\x00\x01" + noise.randbytes(300),
        b"",
    )[number % 5]


def connect_with_garbage(address: str, count: int) -> None:
    host, port = address.rsplit(":", 1)
    for number in range(count):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            try:
                connection.sendall(garbage(number))
                connection.settimeout(0.002)
                connection.recv(200)
            except OSError:
                continue


@pytest.mark.parametrize(
    ("payloads", "connections"),
    [
        pytest.param(1000, 200, id="reduced"),
        pytest.param(10_000, 2000, id="full", marks=[pytest.mark.full, pytest.mark.timeout(900)]),
    ],
)
def test_malformed_calls_and_garbage_connections_change_nothing(
    fuzzed: RunningService, root: Path, payloads: int, connections: int
) -> None:
    send_all(fuzzed.grpc, 400)  # what is loaded at first use is loaded now
    before = rss_bytes(fuzzed.pid)
    answers = send_all(fuzzed.grpc, payloads)
    connect_with_garbage(fuzzed.grpc, connections)
    connect_with_garbage(fuzzed.http, connections // 4)
    assert len(answers) == payloads
    statuses = Counter(status for _, status, _ in answers)
    assert set(statuses) <= ALLOWED, [answer for answer in answers if answer[1] not in ALLOWED][:3]
    assert statuses["INVALID_ARGUMENT"] > payloads / 10
    assert telling((said for _, _, said in answers), fuzzed.home, root) == []
    assert "rpc.failed" not in fuzzed.log
    assert "Traceback" not in fuzzed.log
    assert rss_bytes(fuzzed.pid) - before <= 20 * MIB
    with grpc.insecure_channel(fuzzed.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", *(service.full_name for service in SERVICES)):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert httpx.get(f"http://{fuzzed.http}/readyz").status_code == 200
    with connect(fuzzed) as client:
        assert float(predict_one(client, "app:fuzz@1", 5, 1)[1].values) == pytest.approx(8)


def test_a_message_too_large_is_refused(fuzzed: RunningService) -> None:
    path, method = next(item for item in METHODS if item[0].endswith("/PredictRows"))
    with grpc.insecure_channel(fuzzed.grpc) as channel:
        assert send(channel, path, method, [b"\0" * (4 * MIB + 1)])[0] == "RESOURCE_EXHAUSTED"
