"""What goes into Splunk, and the one spool that brings it there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class EventKind(StrEnum):
    """What an event is about; its sourcetype is ``kepler:<kind>``."""

    PREDICTION = "prediction"
    JOB = "job"
    DRIFT = "drift"
    DEPLOYMENT = "deployment"
    FLEET = "fleet"
    AUDIT = "audit"
    ALERT = "alert"


class Destination(StrEnum):
    """Which index a block is for; each is sent by itself, so that one that refuses does not hold the other."""

    EVENTS = "events"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class HecEvent:
    """One event.

    Parameters
    ----------
    body
        A JSON object. ``event_id`` is added to it.
    event_id
        The same for the same event however often it is sent: the macro ``kepler_dedup`` goes by it. Empty: a
        random one, which stays the same over all retries of the spool.
    time
        Seconds since the epoch.
    source
        Splunk's field ``source``; events of one source are sent in the order they were put.
    host
        Splunk's field ``host``; empty leaves it to the receiver.
    index
        Empty for the index of the settings.
    """

    kind: EventKind
    body: Mapping[str, object]
    time: float
    event_id: str = ""
    source: str = "kepler"
    host: str = ""
    index: str = ""


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """Values taken at one time, for a metrics index.

    Send gauges and totals that only grow: a point that a retry sent twice then changes nothing, where a sum
    or a count of points would be wrong.
    """

    values: Mapping[str, float]
    time: float
    dimensions: Mapping[str, str] = field(default_factory=dict[str, str])
    source: str = "kepler"
    host: str = ""


@dataclass(frozen=True, slots=True)
class SpoolState:
    """What lies in the spool of one destination and what became of the rest since the start."""

    destination: Destination
    events: int
    bytes: int
    oldest_at: float  # seconds since the epoch; 0 when it is empty
    dead: int
    sent: int
    resent: int  # of these, posted again for want of an answer or an acknowledgement
    dropped: int
    failures: Mapping[str, int]  # failed posts by reason
    problem: str = ""  # why nothing is delivered now; empty while it is


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that Splunk refuses for what it is."""

    id: int
    at: float
    destination: Destination
    source: str
    code: int
    reason: str
    body: str


class SplunkSink(Protocol):
    """Takes events for Splunk. What it took is on the disk and will be sent until Splunk has it."""

    def put(self, events: Sequence[HecEvent], *, key: str = "", keep: bool = False) -> bool:
        """Take ``events``; durable when it returns.

        Parameters
        ----------
        key
            Names these events: the same key is taken once, also over restarts, until `forget`.
        keep
            They are never dropped to make room for others.

        Returns
        -------
        bool
            False when ``key`` was taken before.

        Raises
        ------
        Overloaded
            When there is no room and nothing that may be dropped, or the disk is full.
        InvalidInput
            When an event is no JSON or larger than one request may be.
        """
        ...

    def put_keyed(self, batches: Sequence[tuple[str, Sequence[HecEvent]]]) -> list[bool]:
        """As `put` with ``key`` and ``keep`` for each of several, in one commit: all are taken or none."""
        ...

    def put_metrics(self, points: Sequence[MetricPoint]) -> None:
        """Take points for the metrics index; as `put`."""
        ...

    def has(self, key: str) -> bool:
        """Whether the events of ``key`` were taken."""
        ...

    def forget(self, keys: Sequence[str]) -> None:
        """``keys`` will not be asked for again."""
        ...


class SpoolControl(Protocol):
    """What an operator may ask of the spool."""

    def states(self) -> list[SpoolState]: ...

    def flush(self, timeout_s: float) -> bool:
        """Try now what waits for its next attempt; whether all was delivered within ``timeout_s``."""
        ...

    def dead_letters(self, limit: int = 100, after: int = 0) -> list[DeadLetter]: ...

    def retry_dead(self, ids: Sequence[int]) -> int:
        """Put refused events back, all when ``ids`` is empty; gives their number."""
        ...

    def delete_dead(self, ids: Sequence[int]) -> int:
        """Forget refused events for good, all when ``ids`` is empty; gives their number."""
        ...
