"""From the devices into Splunk: who a device is, and what of its records is safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kepler.fleet.batches import BootClock, EdgeBatch
from kepler.fleet.ledger import Acknowledgement, BatchRange, Coverage, StreamName


class DeviceKeys(Protocol):
    """The registry of devices, as far as ingest asks it."""

    def public_keys(self, device: str) -> Sequence[bytes]:
        """Raw Ed25519 keys that hold now, newest first; none for a device that is unknown or revoked."""
        ...


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch that the ledger knows and that is not done."""

    name: StreamName
    range: BatchRange
    key: str
    sha256: str


class IngestLedger(Protocol):
    """Which batches were begun and which are done. Durable; may be shared by several services."""

    def begin(self, batches: Sequence[OpenBatch], now: float) -> list[Coverage]:
        """Write each as NEW unless it is there; gives what is safe of each one's class."""
        ...

    def done(self, batches: Sequence[OpenBatch], now: float) -> list[Coverage]:
        """Their records are safe: mark them DONE and count their ranges, all or nothing; what is safe now."""
        ...

    def drop(self, batches: Sequence[OpenBatch]) -> None:
        """They were begun and nothing of them was taken."""
        ...

    def open(self) -> list[OpenBatch]:
        """This service's batches that are NEW: it was ended between begin and done."""
        ...

    def boot_clock(self, device: str, boot: str) -> BootClock | None: ...

    def set_boot_clock(self, device: str, boot: str, clock: BootClock, now: float) -> None:
        """Keep what is known first of a boot."""
        ...

    def prune(self, now: float) -> None:
        """Forget what was done long ago, and streams and boots that nothing is heard of any more."""
        ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """A batch that came over the broker. ``token`` means something to the link alone."""

    batch: EdgeBatch
    token: object


class DeviceLink(Protocol):
    """The way back to the devices."""

    def acknowledge(self, tenant: str, name: StreamName, ack: Acknowledgement) -> None:
        """Tell a device what is safe. May be lost: it sends again and is told again."""
        ...

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """The broker need not keep these messages any more."""
        ...
