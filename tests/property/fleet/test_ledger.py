"""The ledger against a device that sends as the contract allows, and a twin that keeps plain sets."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kepler.fleet.ledger import (
    MAX_GAPS,
    MAX_RANGES,
    BatchRange,
    Coverage,
    ranges_from_json,
    ranges_to_json,
)

BATCH = st.tuples(st.integers(0, 60), st.integers(1, 12), st.integers(0, 40)).map(
    lambda t: BatchRange(t[0] + 1, t[0] + t[1], t[0], t[2])
)


@given(st.lists(BATCH, max_size=40))
def test_ranges_are_what_sets_of_numbers_are(batches: list[BatchRange]) -> None:
    coverage, seen = Coverage(), set[int]()
    for batch in batches:
        coverage.add(batch)
        seen |= set(range(batch.after + 1, batch.last + 1))
    base = max((b.base for b in batches), default=0)
    assert {q for q in range(1, 100) if coverage.has(q)} == seen
    assert all(a[1] + 1 < b[0] for a, b in zip(coverage.seen, coverage.seen[1:], strict=False))
    for last in (b.last for b in batches):
        ack = coverage.acknowledge(last)
        assert {q for q in range(1, 100) if ack.covers(q)} == seen | set(range(1, base + 1))
        assert len(ack.gaps) <= MAX_GAPS
    assert ranges_from_json(ranges_to_json(coverage)) == coverage


@settings(max_examples=10)
@given(st.data())
def test_many_gaps_still_acknowledge_the_batch_and_nothing_that_did_not_come(data: st.DataObject) -> None:
    coverage, seen = Coverage(), set[int]()
    order = data.draw(st.permutations(range(150)))
    for i in order:
        coverage.add(BatchRange(i * 3 + 1, i * 3 + 2, i * 3, 0))
        seen |= {i * 3 + 1, i * 3 + 2}
        ack = coverage.acknowledge(i * 3 + 2)
        assert ack.covers(i * 3 + 1)
        assert ack.covers(i * 3 + 2)
        assert len(ack.gaps) <= MAX_GAPS
        assert all(q in seen for q in range(1, 460) if ack.covers(q))


def test_ranges_are_bounded_and_what_is_forgotten_is_taken_again() -> None:
    coverage = Coverage()
    for i in range(MAX_RANGES + 10):
        coverage.add(BatchRange(i * 2 + 1, i * 2 + 1, i * 2, 0))
    assert len(coverage.seen) == MAX_RANGES
    assert not coverage.has(1)
    assert coverage.has((MAX_RANGES + 9) * 2 + 1)


class Device:
    """One class of an outbox: keeps records until they are acknowledged, gives some up, sends in any order."""

    def __init__(self) -> None:
        self.next_q = 1
        self.left: list[int] = []
        self.given_up: set[int] = set()
        self.made: set[int] = set()

    def append(self, mine: int, others: int) -> None:
        self.left += range(self.next_q, self.next_q + mine)
        self.made |= set(range(self.next_q, self.next_q + mine))
        self.next_q += mine + others

    def give_up(self, count: int) -> None:
        self.given_up |= set(self.left[:count])
        self.left = self.left[count:]

    def batch(self, start: int, count: int) -> tuple[BatchRange, list[int]] | None:
        if not self.left:
            return None
        start %= len(self.left)
        records = self.left[start : start + count]
        after = self.left[start - 1] if start else self.base()
        return BatchRange(records[0], records[-1], after, self.base()), records

    def base(self) -> int:
        return self.left[0] - 1 if self.left else self.next_q - 1

    def acknowledged(self, covers: object) -> None:
        self.left = [q for q in self.left if not covers(q)]  # type: ignore[operator]


STEP = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 8), st.integers(0, 4)),
    st.tuples(st.just("give-up"), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("send"), st.integers(0, 50), st.integers(1, 6)),
    st.tuples(st.just("arrive"), st.integers(0, 50), st.booleans()),  # a message that stays may arrive again
    st.tuples(st.just("ack"), st.integers(0, 50), st.just(0)),
)


@settings(max_examples=150)
@given(st.lists(STEP, max_size=120))
def test_nothing_is_lost_and_nothing_taken_twice(steps: list[tuple[str, int, int]]) -> None:
    device, coverage = Device(), Coverage()
    on_the_way: list[tuple[BatchRange, list[int]]] = []
    acks: list[object] = []
    taken: list[int] = []

    def arrive(batch: BatchRange, records: list[int]) -> None:
        taken.extend(records[i] for i in coverage.fresh(records))
        coverage.add(batch)
        acks.append(coverage.acknowledge(batch.last).covers)

    for kind, a, b in steps:
        if kind == "append":
            device.append(a, b)
        elif kind == "give-up":
            device.give_up(a)
        elif kind == "send":
            made = device.batch(a, b)
            if made is not None:
                on_the_way.append(made)
        elif kind == "arrive" and on_the_way:
            arrive(*on_the_way[a % len(on_the_way)])
            if not b:
                del on_the_way[a % len(on_the_way)]
        elif kind == "ack" and acks:
            device.acknowledged(acks[a % len(acks)])
        assert device.made <= set(taken) | set(device.left) | device.given_up, "a record is gone"
    while device.left:
        made = device.batch(0, 5)
        assert made is not None
        arrive(*made)
        device.acknowledged(acks[-1])
    assert len(taken) == len(set(taken)), "a record was taken twice"
    assert device.made <= set(taken) | device.given_up
