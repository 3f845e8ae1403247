"""A device as the service sees one: it joins, connects, reads its desired state and tells steps. It scores nothing."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from kepler_edge.frames import decode, message, parse
from kepler_edge.keys import DeviceKey, Trust

GOOD = ("preflight", "downloading", "verifying", "staged", "selftest", "probation", "committed")
BAD = ("preflight", "downloading", "verifying", "refused")


def until(check: Callable[[], Any], seconds: float = 20.0, what: str = "it") -> Any:
    """The first true answer of ``check``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come within {seconds:g} s")


class FleetDevice:
    """``steps`` are what it tells of each new release."""

    def __init__(self, name: str, *, seed: bytes = b"", steps: tuple[str, ...] = GOOD) -> None:
        self.name = name
        self.key = DeviceKey(seed or name.encode().ljust(32, b"#")[:32])
        self.steps = steps
        self.desired: list[dict[str, Any]] = []
        self.commands: list[dict[str, Any]] = []
        self.chunks: dict[tuple[str, int], bytes] = {}
        self.refused = 0
        self.n = 0
        self.bd = int(time.time())
        self.reported: dict[str, dict[str, Any]] = {}
        self.tenant = "default"
        self.welcome: dict[str, Any] = {}
        self._up = threading.Event()
        self._client: mqtt.Client | None = None

    # Joining

    def enrol(self, http: str, token: str, *, verify: Any = True) -> dict[str, Any]:
        body = {"token": token, "device": self.name, "csr_pem": self.key.csr_pem(self.name)}
        answer = httpx.post(f"{http}/v1/edge/enrol", json=body, verify=verify)
        assert answer.status_code == 200, answer.text
        self.welcome = answer.json()
        self.tenant = self.welcome["tenant"]
        return self.welcome

    # Connection

    def connect(self, host: str, port: int, folder: Path | None = None) -> FleetDevice:
        """Over TLS with the certificate of the enrolment when ``folder`` says where its files may lie."""
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, self.name, protocol=mqtt.MQTTv5)
        if folder is not None:
            files = {
                "ca": self.welcome["ca_pem"],
                "cert": self.welcome["certificate_pem"],
                "key": self.key.private_pem(),
            }
            for part, text in files.items():
                (folder / f"{self.name}.{part}").write_text(text)
            context = ssl.create_default_context(cafile=str(folder / f"{self.name}.ca"))
            context.load_cert_chain(folder / f"{self.name}.cert", folder / f"{self.name}.key")
            client.tls_set_context(context)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        client.on_connect, client.on_message = self._connected, self._came
        self.bd += 1
        client.will_set(
            self._topic("state"), self._frame("state", {"v": 1, "online": False, "bd": self.bd}), 1, True
        )
        self._client = client
        client.connect(host, port, clean_start=False, properties=properties)
        client.loop_start()
        assert self._up.wait(10)
        return self

    def close(self, *, abruptly: bool = False) -> None:
        if self._client is not None:
            if not abruptly:
                sent = self._publish("state", {"v": 1, "online": False, "bd": self.bd}, retain=True)
                sent.wait_for_publish(5)
                self._client.disconnect()
            self._client.loop_stop()
            self._client = None
        self._up.clear()

    # What it says

    def tell(self, release: dict[str, Any], to: str, reason: str = "") -> None:
        self.n += 1
        body = {
            "v": 1, "device": self.name, "release": release["id"], "model": release["model"],
            "version": release["version"], "n": self.n, "from": "x", "to": to, "reason": reason,
            "data": {"ms": 0.4}, "ts": time.time(),
        }  # fmt: skip
        self._publish("rollout", body)

    def report(self, rev: int) -> None:
        self._publish("shadow/reported", {
            "v": 1, "rev_seen": rev, "rev_applied": rev, "status": "in-step", "error": "",
            "releases": list(self.reported.values()),
        }, retain=True)  # fmt: skip

    def ask_chunk(self, release: str, sha256: str, off: int, length: int) -> None:
        self._publish("model/get", {"v": 1, "release": release, "sha256": sha256, "off": off, "len": length})

    def publish_raw(self, suffix: str, payload: bytes) -> None:
        assert self._client is not None
        self._client.publish(self._topic(suffix), payload, 1)

    # Within

    def _connected(self, client: Any, *_: Any) -> None:
        root = f"kepler/v1/{self.tenant}/{self.name}"
        client.subscribe(
            [(f"{root}/{name}", 1) for name in ("shadow/desired", "cmd/#", "model/chunk", "ack")]
        )
        birth = {
            "v": 1, "online": True, "bd": self.bd, "epoch": "ab" * 8, "agent": "0.1.0", "caps": ["onnx"],
            "models": [], "clock": {"sync": True, "err_ms": 5.0, "boot": "cd" * 8, "mono": 1.0, "ts": time.time()},
        }  # fmt: skip
        self._publish("state", birth, retain=True)
        self._up.set()

    def _came(self, _: Any, __: Any, found: Any) -> None:
        trust = Trust.from_base64(self.welcome["trusted_keys"])
        try:
            body = decode(found.topic, found.payload, trust.verify)
        except Exception:
            self.refused += 1
            return
        suffix = found.topic.split("/", 4)[4]
        if suffix == "shadow/desired":
            self._take(parse(body))
        elif suffix == "model/chunk":
            size = int.from_bytes(body[:4], "big")
            header = json.loads(body[4 : 4 + size])
            self.chunks[header["sha256"], header["off"]] = body[4 + size :]
        else:
            self._obey(parse(body))

    def _take(self, desired: dict[str, Any]) -> None:
        self.desired.append(desired)
        for release in desired["doc"]["releases"]:
            if release["id"] not in self.reported:
                for step in self.steps:
                    self.tell(release, step, "it answers wrongly" if step == "refused" else "")
                self.reported[release["id"]] = {
                    "id": release["id"], "model": release["model"], "version": release["version"],
                    "state": self.steps[-1], "reason": "",
                }  # fmt: skip
        if self.steps[-1:] != ("",):
            self.report(desired["rev"])

    def _obey(self, command: dict[str, Any]) -> None:
        self.commands.append(command)
        topic = command["reply_to"]
        assert self._client is not None
        for stage in ("ack", "done"):
            body = {
                "v": 1,
                "id": command["id"],
                "stage": stage,
                "text": f"{command['verb']} {stage}",
                "data": {"n": command["n"]},
            }
            self._client.publish(topic, message(topic, body, self.key.sign), 1)

    def _publish(self, suffix: str, body: object, *, retain: bool = False) -> Any:
        assert self._client is not None
        return self._client.publish(self._topic(suffix), self._frame(suffix, body), 1, retain)

    def _frame(self, suffix: str, body: object) -> bytes:
        return message(self._topic(suffix), body, self.key.sign)

    def _topic(self, suffix: str) -> str:
        return f"kepler/v1/{self.tenant}/{self.name}/{suffix}"
