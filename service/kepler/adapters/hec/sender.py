"""Brings one lane of a destination to Splunk: in order, again until it is there."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from kepler.adapters.hec.collector import INDEX_CODE, Answer, Collector, Verdict
from kepler.adapters.hec.spool import BlockSpool, Refused, StoredBlock, iterate_lines
from kepler.core.errors import KeplerError
from kepler.ports.hec import Destination

log = structlog.get_logger()

IDLE_S = 0.5
MAX_DEAD_TEXT = 300


class SenderClock(Protocol):
    """Time as the sender spends it; a test may let it run quicker."""

    def monotonic(self) -> float: ...

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Until ``event`` is set, ``seconds`` at most."""
        ...


class WallClock:
    """Implements `SenderClock`."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> None:
        event.wait(seconds)


@dataclass(frozen=True, slots=True)
class SendLimits:
    """Bounds and times of a sender."""

    batch_bytes: int
    batch_events: int
    backoff_s: float
    max_backoff_s: float
    ack_poll_s: float
    ack_timeout_s: float
    max_unacknowledged: int


@dataclass(slots=True)
class Counts:
    """Since the start."""

    sent: int = 0
    resent: int = 0
    failures: Counter[str] = field(default_factory=Counter[str])


@dataclass(slots=True)
class Unacknowledged:
    """Blocks that Splunk took and has not yet acknowledged."""

    ids: list[int]
    events: int
    refused: list[Refused]
    ack_ids: set[int]
    deadline: float


class LaneSender:
    """One thread, one connection, one channel.

    A batch is posted until it is taken or refused, before the next one is. Where Splunk acknowledges, the next
    one does not wait for that; a batch that is not acknowledged in time is posted again, and its events may then
    be in the index twice. A batch that is refused for what is in it is taken apart until the events at fault are
    found: these become dead letters, the others are delivered.
    """

    def __init__(
        self,
        spool: BlockSpool,
        collector: Collector,
        destination: Destination,
        lane: int,
        lanes: int,
        limits: SendLimits,
        *,
        index: str,
        clock: SenderClock | None = None,
    ) -> None:
        self._spool, self._collector, self._destination = spool, collector, destination
        self._lane, self._lanes, self._limits, self._index = lane, lanes, limits, index
        self._clock = clock or WallClock()
        self.counts = Counts()
        self.problem = ""
        self._cursor = 0
        self._waiting: list[Unacknowledged] = []
        self._again: deque[list[int]] = deque()
        self._next_poll = 0.0
        self._stopping = False
        self._wake = threading.Event()  # ends idling alone: new events must not cut a back-off short
        self._hurry = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"kepler-hec-{destination.value}-{lane}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    def hurry(self) -> None:
        """Do now what waits for its next attempt."""
        self._hurry.set()
        self._wake.set()

    def stop(self, grace_s: float) -> None:
        self._stopping = True
        self.hurry()
        if self._thread.ident is not None:
            self._thread.join(grace_s)
        self._collector.close()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._turn()
            except KeplerError as error:
                # What is in the spool stays there.
                if self.problem != error.sentence:
                    log.warning("hec.cannot_send", error=error.sentence)
                self.problem = error.sentence
                self._pause(self._limits.max_backoff_s / 4)
            except Exception:
                log.exception("hec.sender_failed")
                self._pause(self._limits.max_backoff_s / 4)

    def _turn(self) -> None:
        now = self._clock.monotonic()
        if self._waiting and (
            now >= self._next_poll or len(self._waiting) >= self._limits.max_unacknowledged
        ):
            if now < self._next_poll:
                self._pause(self._next_poll - now)
            self._poll()
        if len(self._waiting) >= self._limits.max_unacknowledged:
            return
        blocks = self._batch()
        if blocks:
            self._deliver(blocks)
            return
        until_poll = self._next_poll - self._clock.monotonic() if self._waiting else IDLE_S
        self._pause(min(IDLE_S, until_poll), self._wake)

    def _batch(self) -> list[StoredBlock]:
        while self._again:
            blocks = self._spool.get(self._again.popleft())
            if blocks:
                self.counts.resent += sum(block.events for block in blocks)
                return blocks
        blocks = self._spool.next(
            self._destination,
            self._lane,
            self._lanes,
            self._cursor,
            self._limits.batch_bytes,
            self._limits.batch_events,
        )
        if blocks:
            self._cursor = blocks[-1].id
        return blocks

    def _deliver(self, blocks: list[StoredBlock]) -> None:
        try:
            self._post_blocks(blocks)
        except BaseException:
            # The token is missing, the disk is full: the batch stays the next one.
            self._again.appendleft([block.id for block in blocks])
            raise

    def _post_blocks(self, blocks: list[StoredBlock]) -> None:
        refused: list[Refused] = []
        ack_ids: set[int] = set()
        lines = list(iterate_lines(blocks))
        if not self._send(lines, refused, ack_ids):
            return  # stopping: it is sent again after the next start
        done = Unacknowledged(
            [block.id for block in blocks],
            len(lines) - len(refused),
            refused,
            ack_ids,
            self._clock.monotonic() + self._limits.ack_timeout_s,
        )
        if not ack_ids:
            self._finish(done)
            return
        if not self._waiting:
            self._next_poll = self._clock.monotonic() + self._limits.ack_poll_s
        self._waiting.append(done)

    def _finish(self, done: Unacknowledged) -> None:
        self._spool.delivered(self._destination, done.ids, done.refused)
        self.counts.sent += done.events
        if done.refused:
            log.warning(
                "hec.events_refused", destination=self._destination.value, events=len(done.refused),
                code=done.refused[0].code, reason=done.refused[0].reason,
            )  # fmt: skip

    def _send(self, lines: Sequence[tuple[str, bytes]], refused: list[Refused], ack_ids: set[int]) -> bool:
        """Post until taken, taking apart what is refused; False when the sender is being stopped."""
        answer = self._post_until_judged(lines)
        if answer is None:
            return False
        if answer.verdict is Verdict.TAKEN:
            if answer.ack_id is not None:
                ack_ids.add(answer.ack_id)
            return True
        if len(lines) == 1:
            source, body = lines[0]
            refused.append(Refused(source, answer.code, answer.text[:MAX_DEAD_TEXT], body))
            return True
        bad = answer.bad_event
        if bad is not None and bad < len(lines):
            parts = [lines[:bad], lines[bad : bad + 1], lines[bad + 1 :]]
        else:
            parts = [lines[: len(lines) // 2], lines[len(lines) // 2 :]]
        return all(self._send(part, refused, ack_ids) for part in parts if part)

    def _post_until_judged(self, lines: Sequence[tuple[str, bytes]]) -> Answer | None:
        body = b"\n".join(line for _, line in lines)
        attempt = 0
        while not self._stopping:
            answer = self._collector.post(body)
            verdict = answer.verdict
            if answer.code == INDEX_CODE and not self._has_other_index(lines, answer):
                # The index of the settings is missing or not allowed: nothing is wrong with the events.
                verdict = Verdict.BLOCKED
            if verdict is Verdict.TAKEN:
                self.problem = ""
                return answer
            self.counts.failures[answer.reason] += 1
            if verdict is Verdict.REFUSED:
                return answer
            if answer.reason == "stale-connection":
                self.counts.resent += len(lines)
                continue  # at once, over a new connection
            attempt = self._back_off(answer, verdict, attempt)
            if verdict is Verdict.RETRY:
                self.counts.resent += len(lines)
            if self._waiting and self._clock.monotonic() >= self._next_poll:
                self._poll()
        return None

    def _has_other_index(self, lines: Sequence[tuple[str, bytes]], answer: Answer) -> bool:
        ours = b'"index":"%s"' % self._index.encode()
        bad = answer.bad_event
        asked = lines if bad is None or bad >= len(lines) else [lines[bad]]
        return any(ours not in line.partition(b'"event":')[0] for _, line in asked)

    def _back_off(self, answer: Answer, verdict: Verdict, attempt: int) -> int:
        """Full jitter: anything between nothing and the doubled bound, but not before Retry-After."""
        limits = self._limits
        bound = limits.max_backoff_s
        if verdict is Verdict.RETRY:
            bound = min(bound, limits.backoff_s * 2 ** min(attempt, 30))
        wait_s = max(answer.retry_after_s, random.uniform(0, bound))  # noqa: S311 - no secret
        if not self.problem or attempt in (3, 10):
            log.warning(
                "hec.post_failed", destination=self._destination.value, reason=answer.reason, text=answer.text,
                code=answer.code, wait_s=round(wait_s, 3),
            )  # fmt: skip
        self.problem = answer.text
        self._pause(wait_s)
        return attempt + 1

    def _poll(self) -> None:
        """Ask for acknowledgements; what is not there in time goes back to be posted again."""
        asked = sorted({ack_id for item in self._waiting for ack_id in item.ack_ids})
        answer, there = self._collector.acknowledged(asked)
        if answer.verdict is not Verdict.TAKEN:
            self.counts.failures["ack-" + answer.reason] += 1
        now = self._clock.monotonic()
        left: list[Unacknowledged] = []
        for item in self._waiting:
            item.ack_ids -= there
            if not item.ack_ids:
                self._finish(item)
            elif now >= item.deadline:
                self.counts.failures["not-acknowledged"] += 1
                log.warning(
                    "hec.not_acknowledged", destination=self._destination.value, events=item.events,
                    after_s=self._limits.ack_timeout_s,
                )  # fmt: skip
                self._again.append(item.ids)
            else:
                left.append(item)
        self._waiting = left
        self._next_poll = now + self._limits.ack_poll_s

    def _pause(self, seconds: float, until: threading.Event | None = None) -> None:
        event = until or self._hurry
        if seconds > 0 and not self._stopping:
            self._clock.wait(event, seconds)
        event.clear()

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._again
