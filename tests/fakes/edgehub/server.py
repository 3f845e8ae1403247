"""A real gRPC server that speaks ``proto/thirdparty/edgehub/edgehub.proto``.

Sources: the calls, the insecure port and the answer's error per message are of the facts about the edge, section 2.3 (two public
repositories); the messages themselves are our own reading, not verified on a device. Metric values are floats of 32 bits and nothing
is buffered (same section).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from kepler_edge import edgehub_pb2 as pb
from kepler_edge.edgehub import SERVICE


class FakeEdgeHub:
    """``metrics`` and ``events`` are what came; ``refuse`` is the error of every answer while it is not empty."""

    def __init__(self, sources: tuple[str, ...] = ("temperature", "vibration"), port: int = 0) -> None:
        self.metrics: list[pb.MetricData] = []
        self.events: list[pb.EventData] = []
        self.refuse = ""
        self.asked: list[list[str]] = []
        self._sources = sources
        self._streams: list[tuple[set[str], queue.Queue[pb.GetReadingResponse | None]]] = []
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> FakeEdgeHub:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._server.stop(0.2).wait(5)

    def cut(self) -> None:
        """End all streams, as a restart of the hub's service does."""
        with self._lock:
            for _, waiting in self._streams:
                waiting.put(None)
            self._streams.clear()

    def tell(self, id_: str, value: float | str | bool | None, ts: float = 0.0, error: str = "") -> int:
        """A value came from a sensor; gives how many read it."""
        message = pb.GetReadingResponse(id=id_, error=error)
        if isinstance(value, bool):
            message.flag = value
        elif isinstance(value, str):
            message.text = value
        elif value is not None:
            message.number = value
        if ts:
            message.create_time.seconds = int(ts)
            message.create_time.nanos = round(ts % 1 * 1e9)
        with self._lock:
            found = [waiting for ids, waiting in self._streams if not ids or id_ in ids]
        for waiting in found:
            waiting.put(message)
        return len(found)

    def _handlers(self) -> grpc.GenericRpcHandler:
        def unary(function: Any, request: Any) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(
                function, request.FromString, lambda answer: answer.SerializeToString()
            )

        return grpc.method_handlers_generic_handler(
            SERVICE.strip("/"),
            {
                "GetDiscovery": unary(self._discover, pb.GetDiscoveryRequest),
                "SendMetricData": unary(self._metric, pb.MetricData),
                "SendEventData": unary(self._event, pb.EventData),
                "GetReadingStream": grpc.unary_stream_rpc_method_handler(
                    self._read, pb.GetReadingRequest.FromString, lambda answer: answer.SerializeToString()
                ),
            },
        )

    def _discover(self, _request: Any, _context: Any) -> pb.GetDiscoveryResponse:
        return pb.GetDiscoveryResponse(sources=[pb.Source(id=name, type="sensor") for name in self._sources])

    def _metric(self, message: pb.MetricData, _context: Any) -> pb.SendDataResponse:
        if not self.refuse:
            self.metrics.append(message)
        return pb.SendDataResponse(id=message.id, error=self.refuse)

    def _event(self, message: pb.EventData, _context: Any) -> pb.SendDataResponse:
        self.events.append(message)
        return pb.SendDataResponse(id=message.id)

    def _read(self, request: pb.GetReadingRequest, context: Any) -> Iterator[pb.GetReadingResponse]:
        waiting: queue.Queue[pb.GetReadingResponse | None] = queue.Queue()
        self.asked.append(list(request.ids))
        with self._lock:
            self._streams.append((set(request.ids), waiting))
        context.add_callback(lambda: waiting.put(None))
        while (message := waiting.get()) is not None:
            yield message
