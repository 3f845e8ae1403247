"""What the device knows about time: wall clock, monotonic clock, and how far the first may be trusted."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# A wall clock before the day this was written is not set, whatever the kernel says: no battery, 1970.
EARLIEST_TS = 1_764_028_800.0  # 2025-11-25
LATEST_TS = 7_258_118_400.0  # 2200: a wrong year, set by hand
# Error of a clock that was never set: about 30 years, in milliseconds.
UNKNOWN_ERR_MS = 1e12
# Crystal of a cheap gateway, in parts per million.
DRIFT_PPM = 500.0
_TIME_ERROR = 5


@dataclass(frozen=True, slots=True)
class Stamp:
    """One moment on both clocks, in seconds."""

    ts: float
    mono: float


@dataclass(frozen=True, slots=True)
class Sync:
    """What the kernel says: whether something sets the clock, and its largest error in milliseconds."""

    sync: bool
    err_ms: float


class Clock:
    """Wall time with an error bound.

    Parameters
    ----------
    wall, mono
        The clocks, seconds.
    probe
        Asks the kernel; None where it cannot say, and then a plausible wall clock counts as set.
    boot
        Name of this boot, within which ``mono`` counts.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        mono: Callable[[], float] = time.monotonic,
        probe: Callable[[], Sync | None] | None = None,
        boot: str | None = None,
    ) -> None:
        self._wall = wall
        self._mono = mono
        self._probe = probe or kernel_sync
        self.boot = boot or boot_name()
        self._set_at: tuple[float, float] | None = None  # mono, err_ms when it was last seen set

    def stamp(self) -> Stamp:
        """Now."""
        return Stamp(self._wall(), self._mono())

    def mono(self) -> float:
        """Monotonic seconds; for waiting, never the wall clock."""
        return self._mono()

    def state(self) -> dict[str, object]:
        """The contract's `clock`: sync, err_ms, boot, mono, ts."""
        now = self.stamp()
        sync = self.sync()
        return {"sync": sync.sync, "err_ms": sync.err_ms, "boot": self.boot, "mono": now.mono, "ts": now.ts}

    def sync(self) -> Sync:
        """Whether the wall clock is set, and its error: it grows with the crystal's drift while nothing sets it."""
        now = self.stamp()
        if not EARLIEST_TS < now.ts < LATEST_TS:
            self._set_at = None
            return Sync(False, UNKNOWN_ERR_MS)
        said = self._probe()
        if said is None:
            return Sync(True, 1000.0)
        if said.sync:
            self._set_at = (now.mono, said.err_ms)
            return Sync(True, round(said.err_ms, 3))
        if self._set_at is None:
            return Sync(False, UNKNOWN_ERR_MS)
        since, err_ms = self._set_at
        return Sync(False, round(err_ms + (now.mono - since) * DRIFT_PPM / 1000.0, 3))


def boot_name() -> str:
    """The kernel's random name of this boot, so it survives restarts of the agent; else one of this process."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
        return text.strip().replace("-", "").lower()
    except (OSError, ValueError):
        return os.urandom(16).hex()


class _Timex(ctypes.Structure):
    # struct timex of Linux, which is padded beyond what is read here.
    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    ]


def kernel_sync() -> Sync | None:
    """What adjtimex tells; None where there is no such call or it is forbidden."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        timex = _Timex()
        state = int(libc.adjtimex(ctypes.byref(timex)))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    return Sync(state != _TIME_ERROR, float(timex.maxerror) / 1000.0)
