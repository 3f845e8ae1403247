"""The spool with its senders: the one way into Splunk."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import structlog

from kepler.adapters.hec.collector import Address, Collector
from kepler.adapters.hec.envelope import SLOTS, Block, Line, blocks, event_lines, metric_lines
from kepler.adapters.hec.sender import LaneSender, SenderClock, SendLimits, WallClock
from kepler.adapters.hec.spool import BlockSpool, Dropped
from kepler.core.errors import KeplerError
from kepler.ports.hec import DeadLetter, Destination, EventKind, HecEvent, MetricPoint, SpoolState

log = structlog.get_logger()

ALERT_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class ForwarderOptions:
    """Where events go and the bounds of their way; the settings' section ``hec`` as the adapter needs it."""

    index: str = "kepler"
    metrics_index: str = "kepler_metrics"
    lanes: int = 2
    spool_bytes: int = 1 << 30
    dead_bytes: int = 64 << 20
    send: SendLimits = field(
        default_factory=lambda: SendLimits(
            batch_bytes=512 << 10,
            batch_events=2000,
            backoff_s=1.0,
            max_backoff_s=60.0,
            ack_poll_s=10.0,
            ack_timeout_s=300.0,
            max_unacknowledged=64,
        )
    )


class HecForwarder:
    """Implements `ports.hec.SplunkSink` and `SpoolControl`.

    Parameters
    ----------
    folder
        Holds ``spool.db``.
    address
        None keeps everything in the spool until one is set.
    token
        Gives the collector's token for a destination.
    """

    def __init__(
        self,
        folder: Path,
        address: Address | None,
        token: Callable[[Destination], str],
        options: ForwarderOptions | None = None,
        *,
        clock: SenderClock | None = None,
    ) -> None:
        self._options = options or ForwarderOptions()
        self._clock = clock or WallClock()
        self._spool = BlockSpool(
            folder / "spool.db",
            max_bytes=self._options.spool_bytes,
            max_dead_bytes=self._options.dead_bytes,
        )
        self._dropped: Counter[Destination] = Counter()
        self._senders = {to: self._lanes(to, address, token) for to in Destination} if address else {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="kepler-hec-watch", daemon=True)

    def _lanes(
        self, to: Destination, address: Address, token: Callable[[Destination], str]
    ) -> list[LaneSender]:
        options = self._options
        lanes = options.lanes if to is Destination.EVENTS else 1
        return [
            LaneSender(
                self._spool,
                Collector(address, lambda: token(to), str(uuid.uuid4())),
                to,
                lane,
                lanes,
                options.send,
                index=options.index if to is Destination.EVENTS else options.metrics_index,
                clock=self._clock,
            )
            for lane in range(lanes)
        ]

    def start(self) -> None:
        for senders in self._senders.values():
            for sender in senders:
                sender.start()
        self._thread.start()

    def stop(self, grace_s: float = 5.0) -> None:
        """End sending; what is not delivered stays in the spool. Can be repeated."""
        self._stop.set()
        for senders in self._senders.values():
            for sender in senders:
                sender.stop(grace_s)
        if self._thread.ident is not None:
            self._thread.join(grace_s)
        self._spool.close()

    # SplunkSink

    def put(self, events: Sequence[HecEvent], *, key: str = "", keep: bool = False) -> bool:
        made = self._blocks(event_lines(events, self._options.index))
        if not made and not key:
            return True
        taken = self._spool.put(Destination.EVENTS, made, key=key, keep=keep)
        self._wake(Destination.EVENTS)
        return taken

    def put_keyed(self, batches: Sequence[tuple[str, Sequence[HecEvent]]]) -> list[bool]:
        made = [(key, self._blocks(event_lines(events, self._options.index))) for key, events in batches]
        taken = self._spool.put_keyed(Destination.EVENTS, made)
        self._wake(Destination.EVENTS)
        return taken

    def put_metrics(self, points: Sequence[MetricPoint]) -> None:
        made = self._blocks(metric_lines(points, self._options.metrics_index))
        if made:
            self._spool.put(Destination.METRICS, made)
            self._wake(Destination.METRICS)

    def has(self, key: str) -> bool:
        return self._spool.has(key)

    def forget(self, keys: Sequence[str]) -> None:
        if keys:
            self._spool.forget(keys)

    # SpoolControl

    def states(self) -> list[SpoolState]:
        return [self._state(to) for to in Destination]

    def flush(self, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        for senders in self._senders.values():
            for sender in senders:
                sender.hurry()
        while any(self._spool.depth(to)[0] for to in Destination):
            if time.monotonic() >= until or self._stop.wait(0.05):
                return False
        return True

    def dead_letters(self, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        return self._spool.dead_letters(limit, after)

    def retry_dead(self, ids: Sequence[int]) -> int:
        count = self._spool.take_dead(
            ids, lambda source, body: Block(source, crc32(source.encode()) % SLOTS, 1, body)
        )
        for to in self._senders:
            self._wake(to)
        return count

    def delete_dead(self, ids: Sequence[int]) -> int:
        return self._spool.take_dead(ids, None)

    # Inside

    def _blocks(self, lines: Iterable[Line]) -> list[Block]:
        return blocks(lines, self._options.send.batch_bytes, self._options.send.batch_events)

    def _wake(self, to: Destination) -> None:
        for sender in self._senders.get(to, ()):
            sender.wake()

    def _state(self, to: Destination) -> SpoolState:
        events, size, oldest, dead = self._spool.depth(to)
        failures: Counter[str] = Counter()
        senders = self._senders.get(to, ())
        for sender in senders:
            failures.update(sender.counts.failures)
        problems = [sender.problem for sender in senders if sender.problem]
        if not senders:
            problems = ["hec.url is not set"] if events else []
        return SpoolState(
            to, events, size, oldest, dead,
            sum(sender.counts.sent for sender in senders),
            sum(sender.counts.resent for sender in senders),
            self._dropped[to], failures, problems[0] if problems else "",
        )  # fmt: skip

    def _watch(self) -> None:
        """Say once a minute what had to be dropped; also what an earlier process dropped and did not say."""
        while not self._stop.is_set():
            try:
                drops = self._spool.report_drops(self._alerts)
                for drop in drops:
                    self._dropped[drop.destination] += drop.events
                    log.error(
                        "hec.events_dropped", destination=drop.destination.value, source=drop.source,
                        events=drop.events, reason=drop.reason,
                    )  # fmt: skip
                if drops:
                    self._wake(Destination.EVENTS)
            except KeplerError as error:
                log.warning("hec.spool_unusable", error=error.sentence)
            self._clock.wait(self._stop, ALERT_EVERY_S)

    def _alerts(self, drops: Sequence[Dropped]) -> list[Block]:
        events = [
            HecEvent(
                EventKind.ALERT,
                {
                    "alert": "hec.events_dropped",
                    "severity": "error",
                    "destination": drop.destination.value,
                    "of_source": drop.source,
                    "reason": drop.reason,
                    "events": drop.events,
                    "bytes": drop.bytes,
                    "since": drop.since,
                    "until": drop.until,
                },
                drop.until,
            )
            for drop in drops
        ]
        return self._blocks(event_lines(events, self._options.index))
