"""The service's end of the MQTT contract, small enough to be obviously right: keeps everything, acknowledges it."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from kepler_edge.frames import decode, message, parse
from kepler_edge.keys import DeviceKey, Trust
from support import mqtt_schemas

STREAMS = ("p0", "p1", "p2", "p3")
Span = tuple[int, int]


def join(spans: list[Span]) -> list[Span]:
    """Spans ``(after, last]`` with those that touch made one."""
    found: list[Span] = []
    for low, high in sorted(span for span in spans if span[0] < span[1]):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


class Host:
    """Checks every message of one device against its schema and signature.

    Attributes
    ----------
    records
        By (epoch, q). What came twice must be the same.
    problems
        What was wrong; a test asserts that it is empty.
    acknowledge
        Whether batches are acknowledged.
    """

    def __init__(self, port: int, tenant: str, device: str, device_key: bytes, **client: Any) -> None:
        self.key = DeviceKey(b"\x55" * 32)
        self.root = f"kepler/v1/{tenant}/{device}"
        self.device = device
        self._trust = Trust([device_key])
        self._lock = threading.Lock()
        self.records: dict[tuple[str, int], dict[str, Any]] = {}
        self.batches: list[dict[str, Any]] = []
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.duplicates = 0
        self.problems: list[str] = []
        self.acknowledge = True
        self._spans: dict[tuple[str, str], list[Span]] = {}
        self._n = int(time.time() * 1000)
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"host-{device}", clean_session=False
        )
        self._client.reconnect_delay_set(1, 1)
        context = client.pop("context", None)
        if context is not None:
            self._client.tls_set_context(context)
        self._client.on_connect = lambda one, *_: one.subscribe(f"{self.root}/#", 1)
        self._client.on_message = self._message
        self._client.connect_async("127.0.0.1", port, 30)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(
        self, topic: str, value: object, *, retain: bool = False, key: DeviceKey | None = None
    ) -> None:
        payload = message(topic, value, (key or self.key).sign)
        self._client.publish(topic, payload, qos=1, retain=retain)

    def raw(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=1).wait_for_publish(5)

    def desired(self, rev: int, **doc: object) -> None:
        value = {"v": 1, "rev": rev, "device": self.device, "doc": {"releases": [], **doc}}
        mqtt_schemas.check("desired", value)
        self.publish(f"{self.root}/shadow/desired", value, retain=True)

    def command(
        self, verb: str, *, name: str = "", n: int = 0, wait_s: float = 10, **args: object
    ) -> dict[str, Any] | None:
        """Sends a command and waits for its end; None when no answer comes."""
        self._n += 1
        name = name or f"{self._n:032x}"
        value = {
            "v": 1,
            "id": name,
            "n": n or self._n,
            "verb": verb,
            "args": args,
            "reply_to": f"{self.root}/rsp/host",
        }
        mqtt_schemas.check("command", value)
        before = len(self.seen)
        self.publish(f"{self.root}/cmd/{verb}", value)

        def ended() -> dict[str, Any] | None:
            for suffix, found in self.seen[before:]:
                if suffix == "rsp/host" and found["id"] == name and found["stage"] in ("done", "failed"):
                    return found
            return None

        try:
            self.until(lambda: ended() is not None, wait_s)
        except TimeoutError:
            return None
        return ended()

    def latest(self, suffix: str) -> dict[str, Any] | None:
        return next((found for at, found in reversed(list(self.seen)) if at == suffix), None)

    def until(self, true: Callable[[], bool], wait_s: float = 20) -> None:
        deadline = time.monotonic() + wait_s
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {wait_s} s; problems: {self.problems[:3]}")
            time.sleep(0.02)

    def numbers(self, stream: str) -> list[int]:
        with self._lock:
            return sorted({q for batch in self.batches if batch["stream"] == stream for q in self._qs(batch)})

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        with self._lock:
            return [record for record in self.records.values() if record["kind"] == kind]

    @staticmethod
    def _qs(batch: dict[str, Any]) -> list[int]:
        return [record["q"] for record in batch["records"]]

    def _message(self, _client: Any, _data: Any, found: mqtt.MQTTMessage) -> None:
        suffix = found.topic.removeprefix(f"{self.root}/")
        if suffix in ("shadow/desired", "ack", "model/chunk") or suffix.startswith("cmd/"):
            return  # ours
        try:
            value = parse(decode(found.topic, bytes(found.payload), self._trust.verify))
            schema = mqtt_schemas.schema_of(suffix)
            assert schema is not None, f"unknown topic {suffix}"
            if schema == "batch":
                # Some records of each: the schemas are checked in Python, and the device must not wait for that.
                mqtt_schemas.check(
                    schema, {**value, "records": [*value["records"][:3], value["records"][-1]]}
                )
                self._batch(suffix, value)
            else:
                mqtt_schemas.check(schema, value)
            with self._lock:
                self.seen.append((suffix, value))
        except Exception as error:
            self.problems.append(f"{suffix}: {type(error).__name__}: {str(error)[:300]}")

    def _batch(self, suffix: str, batch: dict[str, Any]) -> None:
        qs = self._qs(batch)
        assert suffix == ("hist" if batch["hist"] else batch["stream"])
        assert qs == sorted(set(qs))
        assert (qs[0], qs[-1]) == (batch["first"], batch["last"])
        assert batch["after"] < qs[0]
        assert len(json.dumps(batch)) < 256 << 10
        epoch, stream = batch["epoch"], batch["stream"]
        with self._lock:
            for record in batch["records"]:
                known = self.records.setdefault((epoch, record["q"]), record)
                assert known == record, "a number was given twice"
                self.duplicates += known is not record
            self.batches.append(batch)
            spans = [
                *self._spans.get((epoch, stream), []),
                (0, batch["base"]),
                (batch["after"], batch["last"]),
            ]
            self._spans[epoch, stream] = join(spans)
        if self.acknowledge:
            self._acknowledge(epoch, stream)

    def _acknowledge(self, epoch: str, stream: str) -> None:
        spans = self._spans[epoch, stream]
        low = [(1, spans[0][0])] if spans[0][0] else []
        gaps = low + [(one[1] + 1, other[0]) for one, other in itertools.pairwise(spans)]
        value = {"v": 1, "device": self.device, "epoch": epoch, "stream": stream, "upto": spans[-1][1]}
        if gaps:
            value["gaps"] = [list(gap) for gap in gaps[:100]]
            if len(gaps) > 100:
                value["upto"] = gaps[100][0] - 1
        mqtt_schemas.check("ack", value)
        self.publish(f"{self.root}/ack", value)

    def gaps(self, epoch: str, stream: str) -> list[Span]:
        """Ranges of a stream that have not come, as the spans of its batches tell."""
        spans = [(0, 0), *self._spans.get((epoch, stream), [])]
        return [(one[1], other[0]) for one, other in itertools.pairwise(spans) if one[1] < other[0]]
