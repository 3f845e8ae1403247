"""A batch of records as a device sent it, and when its records were taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kepler.fleet.ledger import BatchRange, StreamName

# Below this a device's clock is as right as it has to be, and its times stay as they are.
TOLERANCE_S = 2.0


@dataclass(frozen=True, slots=True)
class BatchClock:
    """What the device knew about time when it wrote the batch; see the contract's ``clock``."""

    boot: str
    sync: bool
    err_s: float
    mono: float
    ts: float


@dataclass(frozen=True, slots=True)
class EdgeBatch:
    """One batch, checked. ``records`` are the contract's, by ascending ``q``."""

    tenant: str
    name: StreamName
    range: BatchRange
    hist: bool
    clock: BatchClock
    records: Sequence[dict[str, Any]]
    sha256: str
    received_at: float

    @property
    def key(self) -> str:
        """Names what was taken from it, for the spool."""
        return (
            f"{self.name.device}:{self.name.epoch}:{self.name.stream}:{self.range.first}:{self.sha256[:24]}"
        )


@dataclass(frozen=True, slots=True)
class BootClock:
    """How to tell a boot's times: wall clock is monotonic clock plus ``offset_s``, within ``err_s``."""

    offset_s: float
    err_s: float


def boot_clock(clock: BatchClock) -> BootClock | None:
    """What a batch whose clock is set says about its boot; None for others."""
    return BootClock(clock.ts - clock.mono, clock.err_s) if clock.sync else None


def timed(batch: EdgeBatch, known: BootClock | None) -> list[tuple[float, str]]:
    """Each record's time in seconds since the epoch, and how it was put right.

    ``""`` means the device's own time stands; ``"boot"`` that it was counted from a moment of the same boot whose
    clock was set; ``"arrival"`` that no such moment is known, and it was counted back from when the batch came:
    good to the delay of the batch.
    """
    clock = boot_clock(batch.clock) or known
    offset, how = (clock.offset_s, "boot") if clock else (batch.received_at - batch.clock.mono, "arrival")
    allowed = max(TOLERANCE_S, clock.err_s if clock else 0.0)
    times: list[tuple[float, str]] = []
    for record in batch.records:
        counted = offset + float(record["mono"])
        own = float(record["ts"])
        times.append((own, "") if abs(counted - own) <= allowed else (counted, how))
    return times
