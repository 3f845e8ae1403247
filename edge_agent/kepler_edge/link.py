"""The line to the broker: connects, goes on trying, publishes within bounds, hands over what comes."""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from .credentials import Credentials
from .errors import KeplerError
from .frames import HEADER_BYTES, MAX_BODY_BYTES
from .settings import Settings

RECEIVE_MAXIMUM = 20
# Publishes that wait for the broker's PUBACK: for batches, and some above them for everything else.
BATCH_WINDOW = 12
WINDOW = 20
WILL_DELAY_S = 30
CONNECT_TIMEOUT_S = 15.0
# A connection that held for so long was none of a reconnect storm: the next wait begins small again.
STEADY_S = 60.0
_UNSUPPORTED_VERSION = 0x84


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says of this device when it is gone."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message from the broker; ``done`` is called when it need not come again."""

    topic: str
    payload: bytes
    retain: bool
    done: Callable[[], None]


class LinkEvents(Protocol):
    """Whom the link tells. Called on the link's threads, and never for long."""

    def will(self) -> Will:
        """The will of the connection that is about to be tried."""
        ...

    def up(self, session_present: bool) -> None:
        """Connected and subscribed."""
        ...

    def down(self, reason: str) -> None:
        """Not connected any more, or not even now."""
        ...

    def message(self, incoming: Incoming) -> None:
        """Something came."""
        ...


class Link:
    """One connection at a time, each by a fresh client: nothing half-sent of the last one is in its memory.

    The broker keeps the session (Clean Start false), so what it accepted for the device while it was away still
    comes. What the device could not send stays in its outbox, never here.
    """

    def __init__(
        self, settings: Settings, credentials: Credentials, broker: str, topics: list[str], events: LinkEvents
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._broker = broker
        self._topics = topics
        self._events = events
        self._stopping = threading.Event()
        self._over = threading.Event()
        self._state = threading.Condition()
        self._client: mqtt.Client | None = None
        self._up = False
        self._outstanding = 0
        self._old_protocol = settings.protocol == "3.1.1"
        self._random = random.SystemRandom()
        self.connects = 0
        self.failures = 0
        self.puback_refusals = 0
        self.last_failure = ""
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def start(self) -> None:
        """Begins connecting, in a thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Says goodbye and ends the thread. The broker tells nobody: publish a death before, where one is wanted."""
        self._stopping.set()
        with self._state:
            client = self._client
        if client is not None:
            client.disconnect()
        self._over.set()
        self._thread.join(timeout_s)

    def reconnect(self) -> None:
        """Drops the connection; the next one uses the newest certificate."""
        self._over.set()

    @property
    def online(self) -> bool:
        """Whether it is connected and subscribed."""
        with self._state:
            return self._up

    @property
    def protocol(self) -> str:
        """`5` or `3.1.1`, whichever it speaks."""
        return "3.1.1" if self._old_protocol else "5"

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, batch: bool = False) -> bool:
        """Sends with QoS 1. False when it is not connected or too much waits for the broker's PUBACK."""
        with self._state:
            client = self._client
            if not self._up or client is None or self._outstanding >= (BATCH_WINDOW if batch else WINDOW):
                return False
            self._outstanding += 1
        # Outside the lock: the client calls `_published` under a lock of its own.
        found = client.publish(topic, payload, qos=1, retain=retain)
        if found.rc != mqtt.MQTT_ERR_SUCCESS:
            self._release(client)
            return False
        return True

    def wait_for_room(self, timeout_s: float) -> bool:
        """Waits until another batch may be published; False when that is not so within ``timeout_s``."""
        with self._state:
            return self._state.wait_for(lambda: self._up and self._outstanding < BATCH_WINDOW, timeout_s)

    def stats(self) -> dict[str, object]:
        """Figures for diagnostics."""
        with self._state:
            return {
                "online": self._up,
                "protocol": self.protocol,
                "connects": self.connects,
                "failures": self.failures,
                "last_failure": self.last_failure,
                "outstanding": self._outstanding,
                "puback_refusals": self.puback_refusals,
            }

    # -- the supervising thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            reason = self._one_connection()
            if self._stopping.is_set():
                break
            self._events.down(reason)
            attempt = 0 if time.monotonic() - began > STEADY_S else attempt + 1
            self._stopping.wait(self._pause_s(attempt))

    def _pause_s(self, attempt: int) -> float:
        """Full jitter over a range that doubles: a thousand devices do not come back in the same second."""
        low, high = self._settings.reconnect_min_s, self._settings.reconnect_max_s
        return low * self._random.random() + self._random.uniform(0, min(high, low * 2 ** min(attempt, 16)))

    def _one_connection(self) -> str:
        self._over.clear()
        reason = [""]
        try:
            client = self._make_client(reason)
        except KeplerError as error:
            self._failed(error.sentence)
            return error.sentence
        try:
            parts = urlsplit(self._broker)
            port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
            keepalive = int(self._settings.keepalive_s)
            if self._old_protocol:
                client.connect(parts.hostname or "", port, keepalive)
            else:
                client.connect(
                    parts.hostname or "",
                    port,
                    keepalive,
                    clean_start=False,
                    properties=self._connect_properties(),
                )
        except (OSError, ValueError, ssl.SSLError) as error:
            # A broker that is not there says nothing about the certificate.
            self._failed(f"{type(error).__name__}: {error}", judged=isinstance(error, ssl.SSLError))
            return self.last_failure
        with self._state:
            self._client, self._outstanding = client, 0
        client.loop_start()
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while not self._over.wait(0.2):
            if not self.online and time.monotonic() > deadline:
                reason[0] = "The broker did not answer in time"
                break
        was_up = self.online
        with self._state:
            self._client, self._up = None, False
            self._state.notify_all()
        client.disconnect()
        client.loop_stop()
        if not was_up and not self._stopping.is_set():
            self._failed(reason[0] or "The connection was closed before it was accepted")
        return reason[0] or "The connection was closed"

    def _failed(self, text: str, judged: bool = True) -> None:
        with self._state:
            self.failures += 1
            self.last_failure = text[:500]
        if judged and self._credentials.failed():
            with self._state:
                self.last_failure = f"The new certificate was given up: {text[:400]}"

    def _make_client(self, reason: list[str]) -> mqtt.Client:
        settings = self._settings
        version = MQTTProtocolVersion.MQTTv311 if self._old_protocol else MQTTProtocolVersion.MQTTv5
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"kepler-{settings.tenant}-{settings.device}",
            clean_session=False if self._old_protocol else None,
            protocol=version,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(WINDOW)
        client.max_queued_messages_set(WINDOW * 2)
        # What a callback throws must not end the network thread.
        client.suppress_exceptions = True
        context = self._credentials.context(self._broker)
        if context is not None:
            cast("Any", client).tls_set_context(context)
        if settings.username:
            client.username_pw_set(settings.username, settings.password or None)
        will = self._events.will()
        properties = None
        if not self._old_protocol:
            properties = Properties(PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = WILL_DELAY_S
        client.will_set(will.topic, will.payload, qos=1, retain=True, properties=properties)
        self._attach(client, reason)
        return client

    def _connect_properties(self) -> Properties:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = int(self._settings.session_expiry_s)
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = MAX_BODY_BYTES + HEADER_BYTES + 1024
        return properties

    # -- on the client's thread ----------------------------------------------------------------------------------

    def _attach(self, client: mqtt.Client, reason: list[str]) -> None:
        present = [False]

        def connected(one: mqtt.Client, _data: Any, flags: Any, code: Any, _properties: Any) -> None:
            if code.is_failure:
                reason[0] = f"The broker refused: {code}"
                if code.value == _UNSUPPORTED_VERSION and self._settings.protocol == "auto":
                    self._old_protocol = True
                self._over.set()
                return
            present[0] = bool(flags.session_present)
            one.subscribe([(topic, 1) for topic in self._topics])

        def subscribed(one: mqtt.Client, _data: Any, _mid: int, codes: Any, _properties: Any) -> None:
            refused = [code for code in codes if code.is_failure]
            if refused:
                reason[0] = f"The broker refused a subscription: {refused[0]}"
                self._over.set()
                return
            self._credentials.worked()
            with self._state:
                if self._client is not one:
                    return
                self._up = True
                self.connects += 1
                self._state.notify_all()
            self._events.up(present[0])

        def disconnected(_one: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
            reason[0] = reason[0] or f"Disconnected: {code}"
            self._over.set()

        def published(one: mqtt.Client, _data: Any, _mid: int, code: Any, _properties: Any) -> None:
            if code.is_failure:
                with self._state:
                    self.puback_refusals += 1
            self._release(one)

        def message(one: mqtt.Client, _data: Any, found: mqtt.MQTTMessage) -> None:
            mid, qos = found.mid, found.qos
            try:
                topic = found.topic
            except UnicodeDecodeError:
                one.ack(mid, qos)
                return
            self._events.message(
                Incoming(topic, bytes(found.payload), found.retain, lambda: _ack(one, mid, qos))
            )

        client.on_connect = connected
        client.on_subscribe = subscribed
        client.on_disconnect = disconnected
        client.on_publish = published
        client.on_message = message

    def _release(self, client: mqtt.Client) -> None:
        with self._state:
            if client is self._client:
                self._outstanding = max(self._outstanding - 1, 0)
                self._state.notify_all()


def _ack(client: mqtt.Client, mid: int, qos: int) -> None:
    """Acknowledges on the connection it came by; on a closed one the broker sends it again."""
    if client.is_connected():
        client.ack(mid, qos)
