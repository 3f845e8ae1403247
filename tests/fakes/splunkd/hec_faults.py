"""What goes wrong on the way into Splunk, chosen by chance or by a test."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """One way a POST of events can go wrong."""

    BUSY = "busy"
    """503, code 9, with Retry-After; nothing is stored."""
    ERROR = "error"
    """500, code 8; nothing is stored."""
    HANG = "hang"
    """No answer for `hang_s`, then the connection ends; nothing is stored."""
    STORED_HANG = "stored-hang"
    """The same, but the events are stored."""
    DROP = "drop"
    """The connection ends without an answer; nothing is stored."""
    STORED_DROP = "stored-drop"
    """The events are stored and the connection ends before the 200."""
    LOST = "lost"
    """200 with an ackId that is never true, for the events are lost between there and the index."""
    LOST_ACK = "lost-ack"
    """200, the events are stored, but their ackId is never true."""


@dataclass
class FaultPlan:
    """Faults by chance: `rates` gives each its share of the POSTs; `choose` overrides it.

    Parameters
    ----------
    hang_s
        How long a hanging request keeps its client waiting.
    retry_after_s
        Sent with 503.
    """

    rates: Mapping[Fault, float] = field(default_factory=dict)
    seed: int = 0
    hang_s: float = 1.0
    retry_after_s: float | None = None
    choose: Callable[[int], Fault | None] | None = None
    """Given the number of the POST, from 1."""
    seen: Counter[Fault] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()
        self._posts = 0

    def next(self) -> Fault | None:
        with self._lock:
            self._posts += 1
            fault = self.choose(self._posts) if self.choose is not None else self._by_chance()
            if fault is not None:
                self.seen[fault] += 1
            return fault

    def _by_chance(self) -> Fault | None:
        drawn = self._random.random()
        for fault, rate in self.rates.items():
            if drawn < rate:
                return fault
            drawn -= rate
        return None
