"""Topics of a plant's broker, with JSON payloads."""

from __future__ import annotations

import queue
import ssl
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from kepler_edge.checked import Section
from kepler_edge.errors import InvalidInput
from kepler_edge.inputs import Emit
from kepler_edge.inputs.payload import MAX_BYTES, readings_of
from kepler_edge.reading import Reading

QUEUED = 10_000  # messages that wait for the models; beyond them the oldest go, and are counted
MAX_TOPIC_CHARS = 1_000
_POLL_S = 0.5

Decode = Callable[[str, bytes], list[Reading]]


class MqttInput:
    """A client of its own on a plant's broker, which need not be the one that results go to.

    Parameters
    ----------
    name
        As the settings call it.
    broker
        ``mqtt://host:1883`` or ``mqtts://host:8883``.
    topics
        Filters to subscribe to.
    decode
        Readings of a message. Raises `InvalidInput` for what is wrong.
    username, password, ca_file
        How to connect. Without ``ca_file`` the system's authorities hold.
    """

    def __init__(
        self,
        name: str,
        broker: str,
        topics: tuple[str, ...],
        decode: Decode,
        *,
        username: str = "",
        password: str = "",
        ca_file: str = "",
        qos: int = 0,
    ) -> None:
        self.name = name
        self.counts = {"read": 0, "wrong": 0, "dropped": 0, "connects": 0}
        self._url = urlsplit(broker)
        if self._url.scheme not in ("mqtt", "mqtts") or not self._url.hostname:
            raise InvalidInput(f"The input {name!r} needs a broker such as mqtt://host:1883")
        if not topics:
            raise InvalidInput(f"The input {name!r} names no topics")
        self._topics = topics
        self._decode = decode
        self._login = (username, password)
        self._ca_file = ca_file
        self._qos = qos
        self._waiting: queue.Queue[tuple[str, bytes]] = queue.Queue(QUEUED)

    def run(self, emit: Emit, stop: threading.Event) -> None:
        """Hand over readings until ``stop``, connecting anew as often as needed."""
        client = self._client()
        client.connect_async(
            str(self._url.hostname),
            self._url.port or (8883 if self._url.scheme == "mqtts" else 1883),
            keepalive=30,
        )
        client.loop_start()
        try:
            while not stop.is_set():
                try:
                    topic, payload = self._waiting.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                try:
                    readings = self._decode(topic, payload)
                except InvalidInput:
                    self.counts["wrong"] += 1
                    continue
                for reading in readings:
                    self.counts["read"] += 1
                    emit(reading)
        finally:
            client.disconnect()
            client.loop_stop()

    def take(self, topic: str, payload: bytes) -> None:
        """A message came; never waits."""
        if len(payload) > MAX_BYTES or len(topic) > MAX_TOPIC_CHARS:
            self.counts["wrong"] += 1
            return
        while True:
            try:
                self._waiting.put_nowait((topic, payload))
                return
            except queue.Full:
                self.counts["dropped"] += 1
                try:
                    self._waiting.get_nowait()
                except queue.Empty:
                    continue

    def _client(self) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        client.reconnect_delay_set(1, 60)
        username, password = self._login
        if username:
            client.username_pw_set(username, password or None)
        if self._url.scheme == "mqtts":
            context = ssl.create_default_context(cafile=self._ca_file or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            client.tls_set_context(context)  # pyright: ignore[reportUnknownMemberType]

        def connected(client: paho.Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
            if not reason.is_failure:
                self.counts["connects"] += 1
                client.subscribe([(topic, self._qos) for topic in self._topics])

        def came(client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
            try:
                topic = message.topic
            except UnicodeDecodeError:
                self.counts["wrong"] += 1
                return
            self.take(topic, bytes(message.payload))

        client.on_connect = connected
        client.on_message = came
        return client


def connection(section: Section) -> dict[str, Any]:
    """The settings that say how to connect: ``broker topics username password password_file ca_file qos``."""
    found: dict[str, Any] = {
        "broker": section.text("broker", max_chars=500),
        "topics": section.texts("topics", max_items=1_000),
        "username": section.text("username", "", max_chars=500),
        "password": section.text("password", "", max_chars=5_000),
        "ca_file": section.text("ca_file", "", max_chars=4_096),
        "qos": section.integer("qos", 0, high=1),
    }
    if file := section.text("password_file", "", max_chars=4_096):
        try:
            found["password"] = Path(file).read_text("utf-8").strip()
        except OSError as error:
            raise InvalidInput("An input's password_file cannot be read", cause=str(error)) from error
    return found


def open_input(settings: Mapping[str, object]) -> MqttInput:
    """From the agent's settings. Raises `InvalidInput`.

    Readings carry their topic as source; with ``source: name`` the input's name. ``field`` names a value that comes
    alone (by default the topic's last level), ``fields`` those of an array, ``ts_field`` when.
    """
    section = Section(settings, "The input")
    section.take("kind", "")
    name, how = section.text("name", max_chars=200), connection(section)
    by_name = "source" in section and section.choice("source", ("topic", "name")) == "name"
    field, ts_field = section.text("field", "", max_chars=500), section.text("ts_field", "", max_chars=500)
    names = section.texts("fields", max_items=1_000) if "fields" in section else ()
    section.done()

    def decode(topic: str, payload: bytes) -> list[Reading]:
        alone = field or topic.rpartition("/")[2] or "value"
        return readings_of(payload, name if by_name else topic, field=alone, names=names, ts_field=ts_field)

    return MqttInput(name, how.pop("broker"), how.pop("topics"), decode, **how)
