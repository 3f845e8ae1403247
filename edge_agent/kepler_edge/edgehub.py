"""Splunk Edge Hub's own gRPC service, as a container on the hub reaches it.

``proto/thirdparty/edgehub/edgehub.proto`` has the calls; it was not verified on a device. The service is meant for its own
machine: no TLS, no login. Needs ``kepler-edge[edgehub]``.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import grpc

from kepler_edge import edgehub_pb2 as pb
from kepler_edge.errors import InvalidInput, Unavailable
from kepler_edge.frames import canonical

ADDRESS = "host.docker.internal:50051"
SERVICE = "/com.splunk.edgehub.v1.EdgeHubService"
TIMEOUT_S = 5.0
WAITING = (
    1_000  # scores that wait; the hub does not buffer what comes by this way, and beyond this the oldest go
)
_POLL_S = 0.5
_MOST_FLOAT = 3.4028234663852886e38

Record = dict[str, object]


class EdgeHub:
    """One connection. Every call raises `Unavailable` when the hub does not answer."""

    def __init__(self, address: str = ADDRESS) -> None:
        if not address.rpartition(":")[0]:
            raise InvalidInput(f"{address[:100]!r} is not HOST:PORT", fix=f"Use {ADDRESS}.")
        self._channel: Any = grpc.insecure_channel(address)
        self._discover = self._unary("GetDiscovery", pb.GetDiscoveryResponse)
        self._metric = self._unary("SendMetricData", pb.SendDataResponse)
        self._event = self._unary("SendEventData", pb.SendDataResponse)
        self._stream: Any = self._channel.unary_stream(
            f"{SERVICE}/GetReadingStream",
            request_serializer=_bytes,
            response_deserializer=pb.GetReadingResponse.FromString,
        )

    def sources(self) -> list[str]:
        """Ids of what the hub can read."""
        return [source.id for source in self._call(self._discover, pb.GetDiscoveryRequest()).sources]

    def readings(self, ids: Sequence[str], started: Callable[[Any], None]) -> Iterator[pb.GetReadingResponse]:
        """Values as they come; ``started`` gets the call, whose ``cancel`` ends them."""
        call = self._stream(pb.GetReadingRequest(ids=list(ids)), wait_for_ready=False)
        started(call)
        try:
            yield from call
        except grpc.RpcError as error:
            raise _unavailable(error) from error

    def send(self, record: Record, device: str) -> None:
        """A prediction record: its numbers as metrics, the whole of it as an event.

        Metrics are floats of 32 bits on the wire; the event holds every digit.
        """
        key, ts = f"{record['model']}:{record['ts']}", float(cast("float", record["ts"]))
        dimensions = {
            "model": str(record["model"]), "version": str(record["version"]), "source": str(record["source"]),
            "device": device,
        }  # fmt: skip
        message = pb.MetricData(id=key, dimensions=dimensions)
        message.create_time.seconds = int(ts)
        message.create_time.nanos = round(ts % 1 * 1e9) % 1_000_000_000
        out = cast("dict[str, object]", record["out"])
        for name, value in [*out.items(), ("alert", bool(record["alert"]))]:
            if isinstance(value, int | float) and math.isfinite(value) and abs(value) <= _MOST_FLOAT:
                message.metrics.add(name=f"kepler.{name}", value=float(value))
        self._taken(self._call(self._metric, message))
        event = pb.EventData(
            id=key,
            fields={**dimensions, "sourcetype": "kepler:prediction", "event": canonical(record).decode()},
        )
        event.create_time.CopyFrom(message.create_time)
        self._taken(self._call(self._event, event))

    def close(self) -> None:
        self._channel.close()

    def _unary(self, name: str, answer: Any) -> Any:
        return self._channel.unary_unary(
            f"{SERVICE}/{name}",
            request_serializer=_bytes,
            response_deserializer=answer.FromString,
        )

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise _unavailable(error) from error

    @staticmethod
    def _taken(answer: pb.SendDataResponse) -> None:
        if answer.error:
            raise InvalidInput("The hub refuses a score", cause=answer.error[:300])


class HubOutput:
    """Gives predictions to the hub beside the outbox, without ever making the scoring wait.

    Parameters
    ----------
    put
        Where every record goes first, whatever becomes of the hub.
    """

    def __init__(self, put: Callable[[int, Record], None], hub: EdgeHub, device: str) -> None:
        self._put, self._hub, self._device = put, hub, device
        self._waiting: queue.Queue[Record] = queue.Queue(WAITING)
        self.counts = {"sent": 0, "refused": 0, "dropped": 0, "failed": 0}

    def put(self, priority: int, record: Record) -> None:
        """As the outbox' own; shadow scores stay off the hub's dashboards."""
        self._put(priority, record)
        if record.get("kind") != "prediction" or record.get("shadow"):
            return
        while True:
            try:
                self._waiting.put_nowait(record)
                return
            except queue.Full:
                self.counts["dropped"] += 1
                try:
                    self._waiting.get_nowait()
                except queue.Empty:
                    continue

    def run(self, stop: threading.Event) -> None:
        """Send until ``stop``. What the hub did not take while it was away is in the outbox anyway."""
        while not stop.is_set():
            try:
                record = self._waiting.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            try:
                self._hub.send(record, self._device)
                self.counts["sent"] += 1
            except InvalidInput:
                self.counts["refused"] += 1
            except Unavailable:
                self.counts["failed"] += 1
                stop.wait(1.0)
        self._hub.close()


def _bytes(message: Any) -> bytes:
    return message.SerializeToString()


def _unavailable(error: grpc.RpcError) -> Unavailable:
    code = cast("Any", error).code() if hasattr(error, "code") else None
    return Unavailable(
        "The Edge Hub's service does not answer",
        cause=getattr(code, "name", "") or type(error).__name__,
        fix=f"It is reached from containers on the hub at {ADDRESS}.",
    )
