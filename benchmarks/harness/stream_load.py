"""Loads a service with many streams at once, from a process of its own.

Reads an order as JSON from stdin and writes what it saw as JSON to stdout. Requests are made before the clock
starts and answers are read after it stopped, so that what is timed is the service and gRPC, not this client.

Used by `benchmarks/load/streams.py` and by `tests/integration/service`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grpc

from kepler.client.constants import CLIENT_OPTIONS
from kepler.v1 import prediction_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]
PREDICT = "/kepler.v1.PredictionService/Predict"
PREDICT_ROWS = "/kepler.v1.PredictionService/PredictRows"
ECHO, ECHO_ONE = "/bench.Echo/Stream", "/bench.Echo/One"
# The model that is asked: y = 2 a - 3 b + 1, so that every answer can be checked.
COLUMNS = ("a", "b")


@dataclass(frozen=True)
class Order:
    """Where to go and how hard. ``model`` empty loads an echo server with the same bytes."""

    address: str
    model: str = ""
    streams: int = 1000
    messages: int = 10
    rows: int = 1
    connections: int = 10
    unary: bool = False  # calls one after another in each of ``streams`` workers, in place of streams
    ca: str = ""
    cert: str = ""
    key: str = ""
    token: str = ""
    app: str = "search"


@dataclass
class Seen:
    """What the client saw. Seconds of `open_s` are until every stream stood, of `send_s` all messages."""

    answers: int = 0
    wrong: int = 0
    errors: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    open_s: float = 0.0
    send_s: float = 0.0
    p50_s: float = 0.0
    p99_s: float = 0.0

    @property
    def per_s(self) -> float:
        return self.answers / self.send_s if self.send_s else 0.0


def load(order: Order, timeout_s: float = 300.0) -> Seen:
    """Run the load in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.harness.stream_load"],
        input=json.dumps(asdict(order)), capture_output=True, text=True, cwd=ROOT, timeout=timeout_s, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the load client failed: {done.stderr[-2000:]}")
    return Seen(**json.loads(done.stdout))


def number(stream: int, message: int, row: int) -> tuple[int, int]:
    """Values of a row that no other row of the load has."""
    return stream * 10 + message, row


def rows_of(order: Order, stream: int, message: int) -> bytes:
    pairs = (number(stream, message, row) for row in range(order.rows))
    return b"".join(b"%d,%d\n" % pair for pair in pairs)


def right(order: Order, stream: int, message: int, values: bytes) -> bool:
    expected = [2 * a - 3 * b + 1 for a, b in (number(stream, message, row) for row in range(order.rows))]
    try:
        found = [float(line.strip(b'"')) for line in values.splitlines()]
    except ValueError:
        return False
    return len(found) == len(expected) and all(
        abs(one - other) <= 1e-6 * max(1.0, abs(other)) for one, other in zip(found, expected, strict=True)
    )


class _Client:
    def __init__(self, order: Order) -> None:
        self.order = order
        self.seen = Seen()
        self.latencies: list[float] = []
        self.received: list[tuple[int, int, bytes]] = []
        self.metadata = (("authorization", f"Bearer {order.token}"),) if order.token else ()
        self.standing = 0
        self.all_stand = asyncio.Event()

    def channel(self) -> grpc.aio.Channel:
        # Without it all channels of a process to one address would share one connection.
        options = [*CLIENT_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        if not self.order.ca:
            return grpc.aio.insecure_channel(self.order.address, options=options)
        credentials = grpc.ssl_channel_credentials(
            Path(self.order.ca).read_bytes(),
            Path(self.order.key).read_bytes() if self.order.key else None,
            Path(self.order.cert).read_bytes() if self.order.cert else None,
        )
        return grpc.aio.secure_channel(self.order.address, credentials, options=options)

    async def run(self) -> Seen:
        order = self.order
        channels = [self.channel() for _ in range(order.connections)]
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        one = self.unary if order.unary else self.stream
        requests = [self.requests(stream) for stream in range(order.streams)]
        tasks = [
            asyncio.create_task(one(channels[stream % order.connections], stream, requests[stream]))
            for stream in range(order.streams)
        ]
        gc.collect()
        gc.disable()
        started = time.perf_counter()
        if not order.unary:
            await self.all_stand.wait()
        opened = time.perf_counter()
        await asyncio.gather(*tasks)
        ended = time.perf_counter()
        for channel in channels:
            await channel.close()
        self.seen.open_s, self.seen.send_s = opened - started, ended - opened
        self.check()
        return self.seen

    def requests(self, stream: int) -> list[bytes]:
        order = self.order
        caller = {"user": "load", "app": order.app}
        slices = [rows_of(order, stream, message) for message in range(order.messages)]
        if order.unary:
            return [
                pb.PredictRowsRequest(
                    caller=caller, model=order.model, columns=COLUMNS, rows=rows
                ).SerializeToString()
                for rows in slices
            ]
        first = pb.PredictRequest(open=pb.PredictOpen(caller=caller, model=order.model, columns=COLUMNS))
        return [
            first.SerializeToString(),
            *(pb.PredictRequest(rows=rows).SerializeToString() for rows in slices),
        ]

    def stands(self) -> None:
        self.standing += 1
        if self.standing == self.order.streams:
            self.all_stand.set()

    async def stream(self, channel: grpc.aio.Channel, stream: int, requests: list[bytes]) -> None:
        call = channel.stream_stream(PREDICT if self.order.model else ECHO)(
            metadata=self.metadata, timeout=120
        )
        stood = False
        try:
            await call.write(requests[0])
            self.received.append((stream, -1, await self.read(call)))
            stood = True
            self.stands()
            await self.all_stand.wait()
            for message, request in enumerate(requests[1:]):
                sent = time.perf_counter()
                await call.write(request)
                answer = await self.read(call)
                self.latencies.append(time.perf_counter() - sent)
                self.received.append((stream, message, answer))
            await call.done_writing()
            if await call.read() is not grpc.aio.EOF:
                raise ValueError("more answers than messages")
        except (grpc.RpcError, asyncio.InvalidStateError, ValueError) as error:
            self.failed(error)
            if not stood:
                self.stands()

    async def read(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> bytes:
        answer = await call.read()
        if not isinstance(answer, bytes):
            raise ValueError(f"the stream ended: {await call.code()} {await call.details()}")
        return answer

    async def unary(self, channel: grpc.aio.Channel, stream: int, requests: list[bytes]) -> None:
        method = channel.unary_unary(PREDICT_ROWS if self.order.model else ECHO_ONE)
        for message, request in enumerate(requests):
            sent = time.perf_counter()
            try:
                answer = await method(request, metadata=self.metadata, timeout=120)
            except grpc.RpcError as error:
                self.failed(error)
                continue
            self.latencies.append(time.perf_counter() - sent)
            self.received.append((stream, message, answer))

    def failed(self, error: BaseException) -> None:
        text = (
            f"{error.code().name}: {error.details()}"
            if isinstance(error, grpc.aio.AioRpcError)
            else repr(error)
        )
        self.seen.errors.append(text)

    def check(self) -> None:
        models: set[str] = set()
        for stream, message, answer in self.received:
            if message < 0:
                if self.order.model:
                    models.add(pb.PredictResponse.FromString(answer).opened.model)
                continue
            self.seen.answers += 1
            if self.order.model and not right(self.order, stream, message, self.values(answer)):
                self.seen.wrong += 1
        self.seen.models = sorted(models)
        self.latencies.sort()
        if self.latencies:
            self.seen.p50_s = statistics.median(self.latencies)
            self.seen.p99_s = self.latencies[int(len(self.latencies) * 0.99)]

    def values(self, answer: bytes) -> bytes:
        if self.order.unary:
            return pb.PredictRowsResponse.FromString(answer).scored.values
        return pb.PredictResponse.FromString(answer).scored.values


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(_Client(Order(**json.load(sys.stdin))).run()))))
