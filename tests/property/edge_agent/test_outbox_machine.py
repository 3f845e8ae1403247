"""The outbox against a plain twin: every record is there, or acknowledged, or told of by a tombstone."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kepler_edge.clock import Clock
from kepler_edge.outbox import CLASSES, Outbox
from kepler_edge.outbox_file import Limits
from support.mqtt_schemas import validator

RECORD = validator("batch").schema["properties"]["records"]["items"]
classes = st.integers(0, 3)
# Memory where there is some: what is tested here is bookkeeping, not fsync.
QUICK = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Machine(RuleBasedStateMachine):
    """The twin keeps, for each class, the numbers that must still be there."""

    @initialize(ttl=st.sampled_from([0.0, 50.0]))
    def start(self, ttl: float) -> None:
        self.folder = tempfile.TemporaryDirectory(dir=QUICK)
        self.now = 100.0
        # Small enough that a few hundred records of 2 KiB fill it.
        self.limits = Limits(quota_bytes=4 << 20, ballast_bytes=2 << 20, ttl_s=(0.0, 0.0, ttl, ttl))
        self.clock = Clock(lambda: 1.8e9, lambda: self.now, lambda: None, "0" * 32)
        self.outbox = self.open()
        self.epoch = self.outbox.epoch
        self.sent = [0, 0, 0, 0]  # highest number handed out, by class
        self.acked: list[set[int]] = [set(), set(), set(), set()]
        self.appended = 0
        self.highest = 0

    def open(self) -> Outbox:
        return Outbox(Path(self.folder.name) / "outbox.db", self.limits, self.clock)

    def rows(self, cls: int) -> list[tuple[int, dict[str, object]]]:
        """All of a class, read beside `take`, which would count as sending."""
        found = self.outbox._db.execute(f"SELECT q, body FROM {CLASSES[cls]} ORDER BY q").fetchall()
        return [(q, json.loads(body)) for q, body in found]

    @rule(cls=classes, count=st.integers(1, 120), size=st.sampled_from([10, 2000]))
    def append(self, cls: int, count: int, size: int) -> None:
        before = self.outbox.last
        record = {"kind": "telemetry", "ts": 1.0, "mono": self.now, "tag": "t", "value": "x" * size}
        rest = {"kind": "log", "ts": 1.0, "mono": self.now, "level": "info", "event": "e"}
        kept = self.outbox.append([(cls, record)] * count + [(3, rest)])
        assert kept <= count + 1
        assert self.outbox.last >= before + count + 1
        self.appended += count + 1

    @rule(cls=classes, rows=st.integers(1, 200))
    def take(self, cls: int, rows: int) -> None:
        found = self.outbox.take(cls, 0, self.outbox.last, rows, 64 << 10)
        expected = self.rows(cls)[: len(found)]
        assert [(q, json.loads(body)) for q, body in found] == expected
        assert len(found) <= rows
        assert found or not self.numbers(cls)
        if found:
            self.sent[cls] = max(self.sent[cls], found[-1][0])

    @rule(cls=classes, share=st.floats(0, 1.5), gap=st.booleans())
    def ack(self, cls: int, share: float, gap: bool) -> None:
        upto = int(self.outbox.last * share)
        gaps = [(upto // 3, upto // 2)] if gap and upto > 9 else []
        before = set(self.numbers(cls))
        self.outbox.ack(self.epoch, CLASSES[cls], upto, gaps)
        after = set(self.numbers(cls))
        safe = {
            q
            for q in before
            if q <= min(upto, self.sent[cls]) and not any(low <= q <= high for low, high in gaps)
        }
        assert before - after == safe
        self.acked[cls] |= safe

    @rule(cls=classes)
    def ack_of_another_epoch(self, cls: int) -> None:
        before = self.numbers(cls)
        assert self.outbox.ack("f" * 16, CLASSES[cls], self.outbox.last) == 0
        assert self.numbers(cls) == before

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.outbox.maintain()

    @rule()
    def restart(self) -> None:
        self.outbox.close()
        self.outbox = self.open()
        assert self.outbox.epoch == self.epoch
        assert self.outbox.rebuilds == 0
        self.sent = [self.outbox.last] * 4

    @precondition(lambda self: hasattr(self, "outbox"))
    @invariant()
    def nothing_is_lost_silently(self) -> None:
        """Numbers given = there + acknowledged + told of, class by class."""
        assert self.outbox.last >= self.highest
        self.highest = self.outbox.last
        there = [self.numbers(cls) for cls in range(4)]
        numbers = [q for rows in there for q in rows]
        assert len(numbers) == len(set(numbers))
        told = sum(record["count"] for record in self.tombstones_ever().values())
        made = self.appended + len(self.tombstones)
        assert len(numbers) + sum(len(one) for one in self.acked) + told == made
        assert self.outbox.last == made
        for cls, rows in enumerate(there):
            assert self.outbox.counts[cls].rows == len(rows)
            assert self.outbox.base(cls) == (min(rows) - 1 if rows else self.outbox.last)

    def numbers(self, cls: int) -> list[int]:
        return [q for (q,) in self.outbox._db.execute(f"SELECT q FROM {CLASSES[cls]}").fetchall()]

    def tombstones_ever(self) -> dict[int, dict[str, object]]:
        """Tombstones by number, those acknowledged too; the last text of each is the one that was delivered."""
        if not hasattr(self, "tombstones"):
            self.tombstones: dict[int, dict[str, object]] = {}
        found = "SELECT q, body FROM p0 WHERE instr(body, CAST('tombstone' AS BLOB))"
        for q, body in self.outbox._db.execute(found).fetchall():
            record = json.loads(body)
            if q <= self.sent[0] and q in self.tombstones:
                assert record == self.tombstones[q], "changed after it was sent"
            self.tombstones[q] = record
        return self.tombstones

    @precondition(lambda self: hasattr(self, "outbox"))
    @invariant()
    def the_disk_is_not_overrun(self) -> None:
        size = sum(file.stat().st_size for file in Path(self.folder.name).iterdir())
        assert size <= self.limits.quota_bytes

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            check = validator("batch").evolve(schema=RECORD)
            for cls in range(4):
                for q, record in self.rows(cls)[:2]:
                    assert record["q"] == q
                    check.validate(record)
            self.outbox.close()
            self.folder.cleanup()


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestOutbox = Machine.TestCase
