"""Order and rates: fresh before kept, alerts before all, what the service says about gaps, nonsense."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kepler_edge.clock import Clock
from kepler_edge.frames import decode, parse
from kepler_edge.keys import DeviceKey, Trust
from kepler_edge.outbox import Outbox
from kepler_edge.sender import MAX_UNACKED_BATCHES, Sender, TokenBucket
from kepler_edge.settings import make

KEY = DeviceKey(b"\x01" * 32)
RECORD = {"kind": "telemetry", "ts": 1.0, "mono": 1.0, "tag": "t", "value": 1}


class Bench:
    def __init__(self, folder: Path, **values: object) -> None:
        self.now = 0.0
        self.sent: list[dict[str, object]] = []
        self.room = True
        clock = Clock(lambda: 1.8e9, lambda: self.now, lambda: None, "0" * 32)
        self.outbox = Outbox(folder / "o.db", None, clock)
        settings = make({"device": "d", "tenant": "t", "hist_bytes_per_s": 0.0, **values})
        self.sender = Sender(self.outbox, self, KEY.sign, settings, clock, lambda: self.now)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, batch: bool = False) -> bool:
        if self.room:
            self.sent.append(parse(decode(topic, payload, Trust([KEY.public]).verify)))
        return self.room

    def wait_for_room(self, timeout_s: float) -> bool:
        return self.room

    def append(self, cls: int, count: int, size: int = 1) -> None:
        # Random, so that a frame is about as large as its records.
        self.outbox.append([(cls, RECORD | {"value": os.urandom(size).hex()}) for _ in range(count)])

    def drain(self) -> list[tuple[object, object, object, object]]:
        while self.sender.step():
            pass
        found = [(one["stream"], one["hist"], one["after"], one["last"]) for one in self.sent]
        self.sent.clear()
        return found

    def ack(self, stream: str, upto: int, gaps: list[list[int]] | None = None) -> int:
        message = {"epoch": self.outbox.epoch, "stream": stream, "upto": upto, "gaps": gaps or []}
        assert self.sender.acknowledged(message)
        return self.sender.settle()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.outbox.close()


def test_fresh_goes_before_kept_and_alerts_before_all(bench: Bench) -> None:
    bench.append(2, 3)
    bench.append(0, 2)
    bench.sender.connected()
    bench.append(2, 1)
    bench.append(1, 1)
    bench.append(0, 1)
    assert bench.drain() == [
        ("p0", False, 5, 8),
        ("p1", False, 5, 7),
        ("p2", False, 3, 6),
        ("p0", True, 3, 5),
        ("p2", True, 0, 3),
    ]


def test_history_has_a_rate_of_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path, hist_bytes_per_s=1000.0)
    bench.append(2, 4000, 500)
    bench.sender.connected()
    first = bench.drain()
    assert 1 <= len(first) <= 3
    bench.now += 1
    assert bench.drain() == []
    bench.append(1, 1)
    assert bench.drain() == [("p1", False, 4000, 4001)], "fresh records do not wait for it"
    bench.now += 300
    bench.ack("p2", 10**6)
    assert 1 <= sum(one[0] == "p2" for one in bench.drain()) <= 3


def test_a_bucket_may_be_overdrawn_once() -> None:
    bucket = TokenBucket(100.0, 0.0)
    assert bucket.ready(0.0)
    bucket.spend(10**6)
    assert not bucket.ready(100.0)
    assert bucket.ready(10**5)
    free = TokenBucket(0.0, 0.0)
    free.spend(10**12)
    assert free.ready(0.0)


def test_while_no_service_listens_only_alerts_are_tried(bench: Bench) -> None:
    bench.sender.connected()
    bench.sender.host_online(False)
    bench.append(0, 1)
    bench.append(1, 1)
    assert [one[0] for one in bench.drain()] == ["p0"]
    bench.sender.host_online(True)
    assert [one[0] for one in bench.drain()] == ["p1"]


def test_sending_rests_when_nothing_is_acknowledged(bench: Bench) -> None:
    bench.sender.connected()
    for _ in range(MAX_UNACKED_BATCHES + 10):
        bench.append(1, 1)
        bench.sender.step()
    assert len(bench.drain()) == MAX_UNACKED_BATCHES
    bench.ack("p1", 64)
    assert bench.drain() == [("p1", False, 64, 74)]


def test_silence_has_it_sent_again_ever_less_often(bench: Bench) -> None:
    bench.sender.connected()
    bench.append(1, 5)
    assert bench.drain() == [("p1", False, 0, 5)]
    times: list[float] = []
    while bench.now < 3000:
        bench.now += 1
        if bench.drain():
            times.append(bench.now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert times[0] == 31
    assert gaps[:3] == [61, 121, 241]
    assert max(gaps) <= 902
    assert bench.ack("p1", 5) == 5


def test_a_gap_is_sent_again_once(bench: Bench) -> None:
    bench.sender.connected()
    for _ in range(3):
        bench.append(1, 2)
        bench.drain()
    assert bench.ack("p1", 6, [[3, 4]]) == 4
    assert bench.drain() == [], "it may be on its way"
    bench.now += 6
    bench.ack("p1", 6, [[3, 4]])
    assert bench.drain() == [("p1", True, 2, 4)]
    bench.now += 1
    bench.ack("p1", 6, [[3, 4]])  # it is under way
    assert bench.drain() == []
    bench.now += 10
    bench.ack("p1", 6, [[3, 4]])
    assert bench.drain() == [("p1", True, 2, 4)]
    assert bench.ack("p1", 6) == 2


def test_history_that_waits_is_no_gap(tmp_path: Path) -> None:
    bench = Bench(tmp_path, hist_bytes_per_s=1.0)
    bench.append(2, 3000, 500)
    bench.sender.connected()
    bench.append(2, 1)
    sent = bench.drain()
    assert sent[0] == ("p2", False, 3000, 3001)
    bench.ack("p2", 3001, [[1, 3000]])
    assert bench.outbox.counts[2].rows == 3000
    assert 0 < bench.sender.sent_records < 1000
    assert bench.sender.stats()["history"] == [0, 0, 1, 0]


def test_nothing_is_deleted_that_was_never_sent(bench: Bench) -> None:
    bench.append(1, 5)
    bench.sender.connected()
    assert bench.ack("p1", 10**9) == 0
    bench.drain()
    assert bench.ack("p1", 10**9) == 5


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 5}, {"stream": "p9"}, {"stream": ["p1"]}, {"upto": "5"}, {"upto": -1}, {"upto": True}, {"upto": 2**60},
        {"gaps": 5}, {"gaps": [[1]]}, {"gaps": [[5, 1]]}, {"gaps": [["1", "2"]]}, {"gaps": [[1, 2]] * 101}, {"gaps": [[0, 1]]},
    ],
)  # fmt: skip
def test_nonsense_is_counted_and_ignored(bench: Bench, change: dict[str, object]) -> None:
    bench.append(1, 5)
    bench.sender.connected()
    bench.drain()
    message = {"epoch": bench.outbox.epoch, "stream": "p1", "upto": 5, "gaps": []} | change
    assert not bench.sender.acknowledged(message)
    assert bench.sender.settle() == 0
    assert bench.sender.bad_acks == 1
    assert bench.outbox.counts[1].rows == 5


def test_another_epoch_deletes_nothing(bench: Bench) -> None:
    bench.append(1, 5)
    bench.sender.connected()
    bench.drain()
    bench.sender.acknowledged({"epoch": "f" * 16, "stream": "p1", "upto": 5})
    assert bench.sender.settle() == 0
    assert bench.outbox.stale_acks == 1


def test_many_acknowledgements_share_a_commit(bench: Bench) -> None:
    bench.sender.connected()
    for number in range(1, 41):
        bench.append(1, 1)
        bench.drain()
        bench.sender.acknowledged({"epoch": bench.outbox.epoch, "stream": "p1", "upto": number})
    before = bench.outbox.commits
    assert bench.sender.settle() == 40
    assert bench.outbox.commits == before + 1
    assert bench.sender.settle() == 0
