"""Devices that send batches by the contract, with the service's own frames; for tests of ingest alone."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kepler.adapters.mqtt import frames
from support.broker import ClientFiles
from support.mqtt_schemas import check

EPOCH = "0123456789abcdef"
BOOT = "fedcba9876543210"
HOST_KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"the service of a test").digest())


def device_key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


class NamedKeys:
    """Implements `ports.ingest.DeviceKeys` for `device_key`s."""

    def __init__(self, *names: str) -> None:
        self.keys = {name: [device_key(name).public_key().public_bytes_raw()] for name in names}

    def public_keys(self, device: str) -> Sequence[bytes]:
        return self.keys.get(device, ())


def batch(
    device: str,
    numbers: Sequence[int],
    *,
    stream: str = "p1",
    after: int | None = None,
    base: int = 0,
    **more: Any,
) -> dict[str, Any]:
    """A valid batch of predictions; `more` overrides."""
    now = time.time()
    made = {
        "v": 1, "device": device, "epoch": EPOCH, "stream": stream, "hist": False, "base": base,
        "after": numbers[0] - 1 if after is None else after, "first": numbers[0], "last": numbers[-1],
        "clock": {"sync": True, "err_ms": 1, "boot": BOOT, "mono": 1000.0, "ts": now},
        "records": [
            {"q": q, "ts": now - 1, "mono": 999.0, "kind": "prediction", "model": "app.search/pump", "version": 3,
             "out": {"predicted(failure)": q % 2}, "source": "press 7", "alert": False}
            for q in numbers
        ],
    } | more  # fmt: skip
    check("batch", made)
    return made


@dataclass
class Device:
    """A client of a broker that sends batches and reads its acknowledgements."""

    name: str
    address: str
    tenant: str = "plant7"
    files: ClientFiles | None = None
    acks: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, self.name, protocol=mqtt.MQTTv5)
        if self.files is not None:
            self._client.tls_set(str(self.files.ca), str(self.files.cert), str(self.files.key))
        self._client.on_message = self._ack
        self._client.on_connect = lambda client, *_: client.subscribe(f"{self.root}/ack", qos=1)
        self._ready = threading.Event()
        self._client.on_subscribe = lambda *_: self._ready.set()

    @property
    def root(self) -> str:
        return f"kepler/v1/{self.tenant}/{self.name}"

    def __enter__(self) -> Device:
        host, _, port = self.address.partition(":")
        self._client.connect(host, int(port))
        self._client.loop_start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, made: dict[str, Any], suffix: str = "") -> None:
        topic = f"{self.root}/{suffix or made['stream']}"
        self.send_raw(topic, frames.message(topic, made, device_key(self.name).sign))

    def send_raw(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=1).wait_for_publish(10)

    def listen(self, topic: str, on_payload: Callable[[bytes], None]) -> None:
        """Hear what is published on another topic."""
        self._client.message_callback_add(topic, lambda _, __, message: on_payload(message.payload))
        self._client.subscribe(topic, qos=1)

    def is_safe(self, stream: str, q: int) -> bool:
        return any(
            a["stream"] == stream
            and q <= a["upto"]
            and not any(lo <= q <= hi for lo, hi in a.get("gaps", ()))
            for a in list(self.acks)
        )

    def _ack(self, _: Any, __: Any, message: Any) -> None:
        body = frames.decode(message.topic, message.payload, [HOST_KEY.public_key().public_bytes_raw()])
        found = frames.parse(body)
        check("ack", found)
        assert found["device"] == self.name
        self.acks.append(found)
