"""From the outbox to the broker: fresh records first, kept ones at a rate of their own, until all is acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from .clock import Clock
from .frames import canonical, encode
from .outbox import CLASSES, Outbox, Range
from .settings import Settings

MAX_ROWS = 500
MAX_BYTES = 120 << 10  # of the records; the envelope makes it 128 KiB at most
# Batches the service has not acknowledged: beyond them sending rests, or a broker would drop what it cannot queue.
MAX_UNACKED_BATCHES = 64
MAX_RESEND_S = 900.0
GAP_GRACE_S = 5.0
MAX_ACKS = 64
IDLE_S = 1.0
_NO_RATE = float("inf")


class Publisher(Protocol):
    """The part of the link that is needed here."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, batch: bool = False) -> bool:
        """Whether it was taken."""
        ...

    def wait_for_room(self, timeout_s: float) -> bool:
        """Whether another batch may be published."""
        ...


class TokenBucket:
    """At most ``rate`` bytes a second, after a burst of two seconds or one batch. A rate of 0 is none."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate if rate > 0 else _NO_RATE
        self._burst = max(self.rate * 2, float(MAX_BYTES))
        self._level = self._burst
        self._at = now

    def ready(self, now: float) -> bool:
        """Whether anything may be sent. What is sent may overdraw the bucket: batches have the size they have."""
        if self.rate != _NO_RATE:
            self._level = min(self._burst, self._level + (now - self._at) * self.rate)
            self._at = now
        return self._level > 0

    def spend(self, size: int) -> None:
        """Counts what was sent."""
        if self.rate != _NO_RATE:
            self._level -= size


@dataclass(slots=True)
class _Class:
    """What is under way of one class. ``todo`` are ranges ``(low, high]`` of kept records, oldest first."""

    live: int = 0
    todo: list[Range] = field(default_factory=lambda: [])
    unacked: list[tuple[int, int, float]] = field(
        default_factory=lambda: []
    )  # (after, last, when) of batches
    progress_at: float = 0.0
    resend_s: float = 0.0
    gap_at: float = 0.0


class Sender:
    """Decides what is sent next. ``step`` does one thing; a thread of the agent's calls it for ever.

    After each connect everything in the outbox is kept history, sent at its own rate behind whatever is fresh. Gaps
    that the service names, and batches that it does not acknowledge, become history again.
    """

    def __init__(
        self,
        outbox: Outbox,
        link: Publisher,
        sign: Callable[[bytes], bytes],
        settings: Settings,
        clock: Clock,
        mono: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._link = link
        self._sign = sign
        self._settings = settings
        self._clock = clock
        self._mono = mono
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._online = False
        self._host_online = True
        self._held = False
        self._epoch = outbox.epoch
        self._classes = [_Class() for _ in CLASSES]
        self._acks: list[tuple[str, str, int, list[Range]]] = []
        self.sent_batches = 0
        self.sent_records = 0
        self.sent_bytes = 0
        self.resends = 0
        self.bad_acks = 0
        self.set_rates(settings)

    def set_rates(self, settings: Settings) -> None:
        """Takes new rates."""
        with self._lock:
            self._settings = settings
            now = self._mono()
            rates = (
                settings.p0_bytes_per_s, settings.p1_bytes_per_s, settings.p2_bytes_per_s, settings.p3_bytes_per_s,
            )  # fmt: skip
            self._buckets = [TokenBucket(rate, now) for rate in rates]
            self._hist = TokenBucket(settings.hist_bytes_per_s, now)

    # -- what happens elsewhere ------------------------------------------------------------------------------------

    def connected(self) -> None:
        """All that is in the outbox becomes history; whatever comes now is fresh."""
        with self._lock:
            self._online = True
            self._begin()
        self.wake()

    def disconnected(self) -> None:
        """Nothing is sent until the line is back."""
        with self._lock:
            self._online = False

    def host_online(self, online: bool) -> None:
        """Whether a service listens. While none does, only alerts are tried."""
        with self._lock:
            self._host_online = online
        self.wake()

    def flush(self) -> None:
        """Begins again with the oldest record that is not acknowledged."""
        with self._lock:
            self._begin()
        self.wake()

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    def acknowledged(self, message: dict[str, object]) -> bool:
        """Takes an `ack` of the service; what it covers is deleted by the next ``settle``.

        False for nonsense, which is counted and ignored.
        """
        epoch, stream, upto = message.get("epoch"), message.get("stream"), message.get("upto")
        gaps = _gaps(message.get("gaps", []))
        if not isinstance(epoch, str) or stream not in CLASSES or not _whole(upto) or gaps is None:
            self.bad_acks += 1
            return False
        assert isinstance(stream, str)
        assert isinstance(upto, int)
        with self._lock:
            self._acks.append((epoch, stream, upto, gaps))
            if epoch == self._epoch:
                one, now = self._classes[CLASSES.index(stream)], self._mono()
                before = len(one.unacked)
                one.unacked = [
                    (after, last, at)
                    for after, last, at in one.unacked
                    if last > upto or any(low <= last and after < high for low, high in gaps)
                ]
                if len(one.unacked) < before:
                    one.progress_at, one.resend_s = now, self._settings.resend_s
                self._again(one, gaps, now)
            full = len(self._acks) >= MAX_ACKS
        if full:
            self.settle()
        self.wake()
        return True

    def settle(self) -> int:
        """Deletes what was acknowledged since the last call; returns how many records.

        Apart from taking acknowledgements: deleting ten records one by one costs ten times the fsyncs of deleting them
        at once, and flash wears by fsyncs.
        """
        with self._lock:
            acks, self._acks = self._acks, []
        # The newest first: it mostly covers what those before it did.
        return sum(self._outbox.ack(*one) for one in reversed(acks))

    # -- sending -----------------------------------------------------------------------------------------------------

    def run(self, stopping: threading.Event) -> None:
        """Sends until ``stopping`` is set."""
        while not stopping.is_set():
            self._wake.clear()
            if not self._online or not self._link.wait_for_room(IDLE_S):
                self._wake.wait(IDLE_S if not self._online else 0.05)
            elif not self.step():
                self._wake.wait(0.1 if self._busy() else IDLE_S)

    def step(self) -> bool:
        """Sends one batch. False when there is none that may go now."""
        with self._lock:
            if not self._online:
                return False
            if self._outbox.epoch != self._epoch:
                self._begin()
            now = self._mono()
            self._check_progress(now)
            self._held = not self._hist.ready(now)
            for cls, one in enumerate(self._classes):
                if cls > 0 and not self._host_online:
                    break
                if not self._buckets[cls].ready(now):
                    self._held = True
                elif len(one.unacked) < MAX_UNACKED_BATCHES:
                    sent = self._send(cls, one.live, self._outbox.last, hist=False)
                    if sent is not None:
                        one.live = sent
                        return True
            if self._host_online and self._hist.ready(now):
                for cls, one in enumerate(self._classes):
                    if len(one.unacked) < MAX_UNACKED_BATCHES // 2 and self._send_history(cls, one):
                        return True
            return False

    def stats(self) -> dict[str, object]:
        """Figures for diagnostics."""
        with self._lock:
            return {
                "batches": self.sent_batches,
                "records": self.sent_records,
                "bytes": self.sent_bytes,
                "resends": self.resends,
                "bad_acks": self.bad_acks,
                "host_online": self._host_online,
                "unacked": [len(one.unacked) for one in self._classes],
                "history": [len(one.todo) for one in self._classes],
            }

    def _begin(self) -> None:
        self.settle()
        self._epoch = self._outbox.epoch
        now = self._mono()
        for cls in range(len(CLASSES)):
            # The border lies at a record of the class: a host sees that history ends where fresh records begin.
            base, highest = self._outbox.bounds(cls)
            todo = [(base, highest)] if base < highest else []
            self._classes[cls] = _Class(highest, todo, [], now, self._settings.resend_s)

    def _check_progress(self, now: float) -> None:
        """Sends again what is not acknowledged for long; ever less often, for Splunk may be down for hours."""
        for cls, one in enumerate(self._classes):
            if not one.unacked:
                one.progress_at = now
            elif now - one.progress_at > max(one.resend_s, 0.1):
                one.unacked.clear()
                self.settle()
                base = self._outbox.base(cls)
                one.todo = [(base, one.live)] if base < one.live else []
                one.progress_at, one.resend_s = now, min(one.resend_s * 2, MAX_RESEND_S)
                self.resends += 1

    def _again(self, one: _Class, gaps: Sequence[Range], now: float) -> None:
        """Makes gaps history again, unless they are history that has not been sent yet."""
        if not gaps or now < one.gap_at:
            return
        one.gap_at = now + GAP_GRACE_S
        wanted = [(low - 1, min(high, one.live)) for low, high in gaps if low - 1 < one.live]
        # A batch may have left after the one that this acknowledgement is about.
        fresh = [(after, last) for after, last, at in one.unacked if now - at < GAP_GRACE_S]
        missing = [part for piece in wanted for part in _minus(piece, [*one.todo, *fresh])]
        if missing:
            self.resends += 1
            one.todo = sorted([*one.todo, *missing])
            one.unacked = [
                (after, last, at)
                for after, last, at in one.unacked
                if not any(low < last and after < high for low, high in missing)
            ]

    def _send_history(self, cls: int, one: _Class) -> bool:
        while one.todo:
            low, high = one.todo[0]
            sent = self._send(cls, low, high, hist=True)
            if sent is None:
                if self._nothing_in(cls, low, high):
                    one.todo.pop(0)
                    continue
                return False
            if sent >= high:
                one.todo.pop(0)
            else:
                one.todo[0] = (sent, high)
            return True
        return False

    def _nothing_in(self, cls: int, low: int, high: int) -> bool:
        return not self._outbox.take(cls, low, high, 1, 1)

    def _send(self, cls: int, after: int, upto: int, *, hist: bool) -> int | None:
        """Publishes the records after ``after``; returns the last one's number, None when nothing was sent."""
        if after >= upto:
            return None
        rows = self._outbox.take(cls, after, upto, MAX_ROWS, MAX_BYTES)
        if not rows:
            return None
        stream = CLASSES[cls]
        body = _batch(
            self._settings.device, self._epoch, stream, hist, self._outbox.base(cls), after, rows, self._clock
        )
        topic = f"{self._settings.root}/{'hist' if hist else stream}"
        frame = encode(topic, body, self._sign)
        if not self._link.publish(topic, frame, batch=True):
            return None
        (self._hist if hist else self._buckets[cls]).spend(len(frame))
        last, one = rows[-1][0], self._classes[cls]
        if not one.unacked:
            one.progress_at = self._mono()
        one.unacked.append((after, last, self._mono()))
        self.sent_batches += 1
        self.sent_records += len(rows)
        self.sent_bytes += len(frame)
        return last

    def _busy(self) -> bool:
        """Whether something waits for a rate, rather than for somebody to make a record."""
        with self._lock:
            return self._held or any(one.todo for one in self._classes)


def _batch(
    device: str,
    epoch: str,
    stream: str,
    hist: bool,
    base: int,
    after: int,
    rows: list[tuple[int, bytes]],
    clock: Clock,
) -> bytes:
    """The canonical JSON of a batch, made without parsing the records: they are canonical already."""
    records = b",".join(body for _, body in rows)
    head = canonical({"after": after, "base": base, "clock": clock.state(), "device": device,
                      "epoch": epoch, "first": rows[0][0], "hist": hist, "last": rows[-1][0]})  # fmt: skip
    tail = canonical({"stream": stream, "v": 1})
    return head[:-1] + b',"records":[' + records + b"]," + tail[1:]


def _gaps(found: object) -> list[Range] | None:
    if not isinstance(found, list):
        return None
    ranges: list[Range] = []
    for item in cast("list[object]", found):
        pair = cast("list[object]", item) if isinstance(item, list) else []
        if len(pair) != 2 or not all(_whole(end) for end in pair):
            return None
        low, high = cast("list[int]", pair)
        if not 1 <= low <= high:
            return None
        ranges.append((low, high))
    return ranges if len(ranges) <= 100 else None


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _minus(piece: Range, others: Sequence[Range]) -> list[Range]:
    """``(low, high]`` without those parts that lie in ``others``."""
    parts = [piece]
    for low, high in others:
        parts = [
            part
            for start, end in parts
            for part in ((start, min(end, low)), (max(start, high), end))
            if part[0] < part[1]
        ]
    return parts
