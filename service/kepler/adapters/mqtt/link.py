"""One connection to the broker, kept: MQTT 5 over TLS, manual acknowledgement, reconnects by itself."""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from kepler.core.errors import InvalidInput, NotFound, Unavailable
from kepler.core.extras import need
from kepler.settings_sections import is_loopback, split_address

log = structlog.get_logger()

SESSION_S = 7 * 86_400
MAX_PACKET_BYTES = 2 << 20
_PERSISTENT_V5 = 3  # clean start never, also not at the first connection


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """Where the broker is and how the service shows who it is."""

    address: str
    client_id: str
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 30
    receive_maximum: int = 100
    max_backoff_s: int = 60


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that the broker keeps until `HostLink.settle`."""

    topic: str
    payload: bytes
    mid: int
    connection: int  # which connection it came over
    qos: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish."""

    topic: str
    payload: bytes
    retain: bool = False


class HostLink:
    """The service's connection to the broker.

    Parameters
    ----------
    subscriptions
        Filters with QoS 1; shared ones begin with ``$share/``.
    on_message
        Called in the connection's thread; must not block. Every message given to it is to be settled.
    births
        Published after each connect.
    will
        Published by the broker when the connection breaks.
    """

    def __init__(
        self,
        options: BrokerOptions,
        subscriptions: Sequence[str],
        on_message: Callable[[Incoming], None],
        *,
        births: Callable[[], Sequence[Outgoing]] = lambda: (),
        will: Outgoing | None = None,
    ) -> None:
        self._mqtt: Any = need("paho.mqtt.client", extra="edge")
        self._options, self._subscriptions = options, list(subscriptions)
        self._on_message, self._births = on_message, births
        self._connection = 0
        self._up = threading.Event()
        self._stopping = False
        self.connects = 0
        self._client = self._made(will)

    @property
    def online(self) -> bool:
        return self._up.is_set()

    def start(self) -> None:
        """Connect in the background, again and again until it works."""
        properties = self._properties("CONNECT")
        properties.SessionExpiryInterval = SESSION_S
        properties.ReceiveMaximum = self._options.receive_maximum
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        host, port = split_address(self._options.address)
        self._client.connect_async(
            host, port, self._options.keepalive_s, clean_start=False, properties=properties
        )
        self._client.loop_start()

    def wait_online(self, timeout_s: float) -> bool:
        return self._up.wait(timeout_s)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Hand a message to the broker with QoS 1. Raises `Unavailable` while there is no connection."""
        if not self._up.is_set():
            raise Unavailable(
                "There is no connection to the MQTT broker", fix="Try again.", retry_after_s=5.0
            )
        self._client.publish(topic, payload, qos=1, retain=retain)

    def settle(self, messages: Sequence[Incoming]) -> None:
        """The broker need not keep them. Those of an earlier connection come again, and that is well."""
        for message in messages:
            if message.connection == self._connection and message.qos:
                self._client.ack(message.mid, message.qos)

    def stop(self, goodbye: Sequence[Outgoing] = (), timeout_s: float = 2.0) -> None:
        """Publish ``goodbye`` and end the connection in good order; can be repeated."""
        self._stopping = True
        if self._up.is_set():
            until = time.monotonic() + timeout_s
            for item in goodbye:
                sent = self._client.publish(item.topic, item.payload, qos=1, retain=item.retain)
                while not sent.is_published() and time.monotonic() < until and self._up.is_set():
                    time.sleep(0.01)
        self._client.disconnect()
        self._client.loop_stop()

    def _made(self, will: Outgoing | None) -> Any:
        mqtt, options = self._mqtt, self._options
        client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, options.client_id, protocol=mqtt.MQTTv5, manual_ack=True
        )
        client.reconnect_delay_set(1, options.max_backoff_s)
        client.max_inflight_messages_set(100)
        if will is not None:
            properties = self._properties("WILLMESSAGE")
            properties.WillDelayInterval = 10
            client.will_set(will.topic, will.payload, 1, retain=will.retain, properties=properties)
        context = _tls(options)
        if context is not None:
            client.tls_set_context(context)
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_message = self._received
        client.on_subscribe = self._subscribed
        return client

    def _properties(self, packet: str) -> Any:
        packets: Any = need("paho.mqtt.packettypes", extra="edge")
        properties: Any = need("paho.mqtt.properties", extra="edge")
        return properties.Properties(getattr(packets.PacketTypes, packet))

    # In the connection's thread.

    def _connected(self, client: Any, _: Any, __: Any, reason: Any, ___: Any) -> None:
        if reason.is_failure:
            log.warning("mqtt.refused", reason=str(reason), address=self._options.address)
            return
        self._connection += 1
        self.connects += 1
        if self._subscriptions:
            client.subscribe([(name, self._mqtt.SubscribeOptions(qos=1)) for name in self._subscriptions])
        self._up.set()
        for item in self._births():
            client.publish(item.topic, item.payload, qos=1, retain=item.retain)
        log.info("mqtt.connected", address=self._options.address)

    def _subscribed(self, _: Any, __: Any, ___: int, reasons: Sequence[Any], ____: Any) -> None:
        refused = [
            name for name, reason in zip(self._subscriptions, reasons, strict=False) if reason.is_failure
        ]
        if refused:
            log.error("mqtt.subscription_refused", topics=refused)

    def _disconnected(self, _: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        self._up.clear()
        self._connection += 1
        if not self._stopping:
            log.warning("mqtt.disconnected", reason=str(reason))
            # paho waits 1 s and doubles; services that lost the same broker must not come back as one.
            time.sleep(random.uniform(0, 1))  # noqa: S311 - no secret

    def _received(self, _: Any, __: Any, message: Any) -> None:
        found = Incoming("", message.payload, message.mid, self._connection, message.qos)
        try:
            found = Incoming(message.topic, message.payload, message.mid, self._connection, message.qos)
        except UnicodeDecodeError:
            log.warning("mqtt.bad_topic")
        try:
            self._on_message(found)
        except Exception:
            # Whatever one message does, the connection is for all of them.
            log.exception("mqtt.message_failed")
            self.settle([found])


def _tls(options: BrokerOptions) -> ssl.SSLContext | None:
    host, _ = split_address(options.address)
    if options.ca_file is None and options.cert_file is None and is_loopback(host):
        return None
    try:
        context = ssl.create_default_context(cafile=str(options.ca_file) if options.ca_file else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if options.cert_file is not None:
            context.load_cert_chain(options.cert_file, options.key_file)
    except FileNotFoundError as error:
        raise NotFound(
            "A certificate for the MQTT broker does not exist", fix="Correct the paths in the mqtt settings."
        ) from error
    except ssl.SSLError as error:
        raise InvalidInput(
            "A certificate for the MQTT broker cannot be used",
            cause=str(error),
            fix="Give PEM files of one pair.",
        ) from error
    return context
