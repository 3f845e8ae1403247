"""Wires the way into Splunk: the one spool, and what devices send where there is a broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kepler.adapters.hec.collector import Address
from kepler.adapters.hec.forwarder import ForwarderOptions, HecForwarder
from kepler.adapters.hec.sender import SendLimits
from kepler.adapters.mqtt.ingest import SUBSCRIPTIONS, IngestChannel, host_state
from kepler.adapters.mqtt.ledger_rows import LedgerRows
from kepler.adapters.mqtt.link import BrokerOptions, HostLink
from kepler.ports.clock import Clock
from kepler.ports.hec import Destination, SplunkSink
from kepler.ports.ingest import DeviceKeys
from kepler.ports.security import SecretStore
from kepler.settings_sections import HecSettings
from kepler.usecases.ingest import IngestBatches

_MIB = 2**20
_TOKEN_FOR_S = 10.0


def build_spool(home: Path, settings: HecSettings, secrets: Callable[[], SecretStore]) -> HecForwarder:
    """The spool of ``home``; without an address it keeps what it is given."""
    address = Address(settings.url, settings.ca_file, settings.timeout_s) if settings.url else None
    options = ForwarderOptions(
        index=settings.index,
        metrics_index=settings.metrics_index,
        lanes=settings.lanes,
        spool_bytes=settings.spool_mb * _MIB,
        dead_bytes=settings.dead_letter_mb * _MIB,
        send=SendLimits(
            batch_bytes=settings.batch_kb * 1024,
            batch_events=settings.batch_events,
            backoff_s=1.0,
            max_backoff_s=settings.max_backoff_s,
            ack_poll_s=settings.ack_poll_s,
            ack_timeout_s=settings.ack_timeout_s,
            max_unacknowledged=64,
        ),
    )
    return HecForwarder(home / "hec", address, _Tokens(settings, secrets), options)


class _Tokens:
    """Tokens by destination, read again now and then, so that a new one needs no restart."""

    def __init__(self, settings: HecSettings, secrets: Callable[[], SecretStore]) -> None:
        self._settings, self._secrets = settings, secrets
        self._read: dict[str, tuple[float, str]] = {}

    def __call__(self, destination: Destination) -> str:
        name = self._settings.token
        if destination is Destination.METRICS:
            name = self._settings.metrics_token or name
        at, token = self._read.get(name, (0.0, ""))
        if not token or time.monotonic() - at > _TOKEN_FOR_S:
            token = self._secrets().get(name)
            self._read[name] = time.monotonic(), token
        return token


class RegisteredKeys:
    """Implements `DeviceKeys` over the registry, remembering answers for a moment.

    A revoked device is heard for ``keep_s`` more at most; its certificate ends its connection before that.
    """

    def __init__(
        self, keys_of: Callable[[str, float], Sequence[bytes]], clock: Clock, keep_s: float = 10.0
    ) -> None:
        self._keys_of, self._clock, self._keep_s = keys_of, clock, keep_s
        self._known: dict[str, tuple[float, Sequence[bytes]]] = {}

    def public_keys(self, device: str) -> Sequence[bytes]:
        now = time.monotonic()
        at, keys = self._known.get(device, (-self._keep_s, ()))
        if now - at < self._keep_s:
            return keys
        keys = self._keys_of(device, self._clock.now())
        if len(self._known) > 100_000:
            self._known.clear()  # names come from outside
        self._known[device] = now, keys
        return keys


class Ingest:
    """Everything between the broker and the spool. Its link is its own, for a device's burst is no reason to wait
    with a command."""

    def __init__(
        self,
        home: Path,
        broker: BrokerOptions,
        tenant: str,
        keys: DeviceKeys,
        sign: Callable[[bytes], bytes],
        sink: SplunkSink,
        clock: Clock,
        database_url: str = "",
    ) -> None:
        self.ledger = LedgerRows(home, broker.client_id, database_url)
        self.channel = IngestChannel(keys, clock, sign)
        self._gone = lambda: host_state(tenant, False, clock.now(), sign)
        self.link = HostLink(
            broker,
            SUBSCRIPTIONS,
            self.channel.receive,
            births=lambda: [host_state(tenant, True, clock.now(), sign)],
            will=self._gone(),
        )
        self.channel.attach(self.link, IngestBatches(self.ledger, sink, self.channel, clock))

    def start(self) -> None:
        """Finish what was begun before, then listen."""
        self.channel.start()
        self.link.start()

    def stop(self) -> None:
        """Before the spool: what it has taken is in there."""
        self.link.stop([self._gone()])
        self.channel.stop()
        self.ledger.close()
