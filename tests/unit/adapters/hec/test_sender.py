"""How a sender waits, without a network: the collector is a list of answers, the clock only counts."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kepler.adapters.hec.collector import Answer, Verdict
from kepler.adapters.hec.envelope import blocks, event_lines
from kepler.adapters.hec.sender import LaneSender, SendLimits
from kepler.adapters.hec.spool import BlockSpool
from kepler.ports.hec import Destination, EventKind, HecEvent

LIMITS = SendLimits(
    batch_bytes=100_000, batch_events=100, backoff_s=1.0, max_backoff_s=60.0, ack_poll_s=10.0, ack_timeout_s=300.0,
    max_unacknowledged=4,
)  # fmt: skip
TAKEN = Answer(Verdict.TAKEN)
BUSY = Answer(Verdict.RETRY, "busy", "Server is busy", 9)


class CountingClock:
    """Waiting takes no time and is written down."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        self.ended = threading.Event()

    def monotonic(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)


class Answers:
    """A collector that answers from a list, then takes everything; `acks` says which ids are true when asked."""

    def __init__(self, answers: Sequence[Answer], acks: Sequence[set[int]] = ()) -> None:
        self.left, self.acks = list(answers), list(acks)
        self.posted: list[list[bytes]] = []
        self.asked: list[list[int]] = []

    def post(self, body: bytes) -> Answer:
        self.posted.append(body.split(b"\n"))
        return self.left.pop(0) if self.left else TAKEN

    def acknowledged(self, ack_ids: Sequence[int]) -> tuple[Answer, set[int]]:
        self.asked.append(list(ack_ids))
        return TAKEN, self.acks.pop(0) if self.acks else set(ack_ids)

    def close(self) -> None:
        pass


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[BlockSpool]:
    made = BlockSpool(tmp_path / "spool.db", max_bytes=1 << 20, max_dead_bytes=1 << 20)
    yield made
    made.close()


def put(spool: BlockSpool, *numbers: int, index: str = "") -> None:
    events = [HecEvent(EventKind.JOB, {"n": n}, 1.0, str(n), index=index) for n in numbers]
    spool.put(Destination.EVENTS, blocks(event_lines(events, "kepler"), 100_000, 100))


def sender(
    spool: BlockSpool, collector: Answers, clock: CountingClock, limits: SendLimits = LIMITS
) -> LaneSender:
    return LaneSender(spool, collector, Destination.EVENTS, 0, 1, limits, index="kepler", clock=clock)  # type: ignore[arg-type]


def test_back_off_doubles_with_full_jitter_and_is_bounded(spool: BlockSpool) -> None:
    seen: list[list[float]] = []
    for _ in range(40):
        put(spool, 1)
        clock = CountingClock()
        sender(spool, Answers([BUSY] * 10), clock)._turn()
        seen.append(clock.waits)
    for attempt in range(10):
        bound = min(60.0, 2.0**attempt)
        waits = [waits[attempt] for waits in seen]
        assert all(0 <= wait <= bound for wait in waits)
        assert min(waits) < bound / 3
        assert max(waits) > bound * 2 / 3
    assert spool.depth(Destination.EVENTS)[0] == 0


def test_retry_after_is_the_least(spool: BlockSpool) -> None:
    put(spool, 1)
    clock = CountingClock()
    sender(spool, Answers([replace(BUSY, retry_after_s=120.0)]), clock)._turn()
    assert clock.waits == [120.0]


def test_a_stale_connection_is_tried_again_at_once(spool: BlockSpool) -> None:
    put(spool, 1)
    clock = CountingClock()
    collector = Answers([Answer(Verdict.RETRY, "stale-connection")])
    sender(spool, collector, clock)._turn()
    assert clock.waits == []
    assert len(collector.posted) == 2


def test_new_events_do_not_cut_a_back_off_short(spool: BlockSpool) -> None:
    put(spool, 1)
    waited: list[threading.Event] = []

    class Clock(CountingClock):
        def wait(self, event: threading.Event, seconds: float) -> None:
            waited.append(event)
            super().wait(event, seconds)

    made = sender(spool, Answers([BUSY]), Clock())
    made._turn()
    made.wake()
    assert not waited[0].is_set()
    made.hurry()
    assert waited[0].is_set()


def test_unacknowledged_batches_are_posted_again_and_then_leave(spool: BlockSpool) -> None:
    put(spool, 1, 2)
    clock = CountingClock()
    collector = Answers([replace(TAKEN, ack_id=0), replace(TAKEN, ack_id=1)], acks=[set()] * 30 + [{1}])
    made = sender(spool, collector, clock)
    made._turn()
    assert spool.depth(Destination.EVENTS)[0] == 2, "taken is not indexed"
    while len(collector.posted) == 1:
        made._turn()
    assert 300 <= clock.now < 320
    assert made.counts.failures["not-acknowledged"] == 1
    assert made.counts.resent == 2
    while spool.depth(Destination.EVENTS)[0]:
        made._turn()
    assert collector.posted[0] == collector.posted[1]
    assert made.counts.sent == 2


def test_no_more_than_so_many_wait_for_their_acknowledgement(spool: BlockSpool) -> None:
    for n in range(10):
        put(spool, n)
    limits = replace(LIMITS, batch_events=1)
    collector = Answers([replace(TAKEN, ack_id=n) for n in range(10)], acks=[set(), {0, 1, 2, 3}])
    made = sender(spool, collector, CountingClock(), limits)
    for _ in range(4):
        made._turn()
    assert len(collector.posted) == 4
    made._turn()
    assert len(collector.posted) == 4
    made._turn()
    assert len(collector.posted) == 5
    assert collector.asked[0] == [0, 1, 2, 3]


def test_bisection_finds_bad_events_without_being_told_which(spool: BlockSpool) -> None:
    put(spool, *range(64))
    bad = {7, 8, 50}

    class Picky(Answers):
        def post(self, body: bytes) -> Answer:
            super().post(body)
            found = any(f'"n":{n}}}'.encode() in line for n in bad for line in self.posted[-1])
            return Answer(Verdict.REFUSED, "data", "Event field cannot be blank", 13) if found else TAKEN

    collector = Picky([])
    made = sender(spool, collector, CountingClock())
    made._turn()
    letters = spool.dead_letters(10, 0)
    assert [f'"n":{n}}}' in letter.body for n, letter in zip(sorted(bad), letters, strict=True)] == [True] * 3
    assert made.counts.sent == 61
    assert len(collector.posted) < 40
    assert spool.depth(Destination.EVENTS)[0] == 0


def test_the_settings_own_index_is_no_fault_of_events(spool: BlockSpool) -> None:
    put(spool, 1, 2)
    refused = Answer(Verdict.REFUSED, "index", "Incorrect index", 7, None, 0)
    made = sender(spool, Answers([refused, refused]), CountingClock())
    made._turn()
    assert spool.dead_letters(10, 0) == []
    assert made.counts.sent == 2
    put(spool, 3, index="other")
    made = sender(spool, Answers([refused]), CountingClock())
    made._turn()
    assert [letter.code for letter in spool.dead_letters(10, 0)] == [7]
