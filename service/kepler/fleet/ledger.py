"""What of a device's records has come: ranges of their numbers, per device, epoch and class.

Numbers rise over all classes of an epoch, so the holes of one class are mostly none. A batch says between which
numbers nothing else of its class exists (`after`, `last`) and below which nothing is left (`base`).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Range = tuple[int, int]

MAX_GAPS = 100  # of one acknowledgement
# An orderly device has a handful. What is forgotten beyond this is taken again if it comes again: doubled, not lost.
MAX_RANGES = 1000


@dataclass(frozen=True, slots=True)
class StreamName:
    """Whose numbers these are."""

    device: str
    epoch: str
    stream: str


@dataclass(frozen=True, slots=True)
class BatchRange:
    """What one batch covers.

    Parameters
    ----------
    first, last
        Lowest and highest number in it.
    after
        Between it and ``last`` the outbox holds no record of the class but these.
    base
        Nothing of the class at or below it is left in the outbox.
    """

    first: int
    last: int
    after: int
    base: int


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """All of a class up to ``upto`` is safe, but for the ranges in ``gaps``."""

    upto: int
    gaps: tuple[Range, ...]

    def covers(self, q: int) -> bool:
        return q <= self.upto and not any(low <= q <= high for low, high in self.gaps)


@dataclass(slots=True)
class Coverage:
    """Numbers of one class whose records are safe.

    Parameters
    ----------
    seen
        Closed ranges that batches covered, ascending, none touching the next.
    base
        See `BatchRange`. It answers acknowledgements, and drops no record: one at or below it that comes after
        all was sent before the device gave it up, and is welcome.
    """

    seen: list[Range] = field(default_factory=list[Range])
    base: int = 0

    def has(self, q: int) -> bool:
        """Whether the record is safe already."""
        i = bisect.bisect_right(self.seen, (q, _INFINITE)) - 1
        return i >= 0 and self.seen[i][1] >= q

    def fresh(self, numbers: Iterable[int]) -> list[int]:
        """Positions in ``numbers`` of records that have not come, each number once."""
        found: list[int] = []
        taken: set[int] = set()
        for position, q in enumerate(numbers):
            if q not in taken and not self.has(q):
                found.append(position)
                taken.add(q)
        return found

    def add(self, batch: BatchRange) -> None:
        """The records of ``batch`` are safe."""
        self.base = max(self.base, batch.base)
        low, high = batch.after + 1, batch.last
        start = bisect.bisect_left(self.seen, (low, 0))
        if start and self.seen[start - 1][1] >= low - 1:
            start -= 1
        stop = start
        while stop < len(self.seen) and self.seen[stop][0] <= high + 1:
            low, high = min(low, self.seen[stop][0]), max(high, self.seen[stop][1])
            stop += 1
        self.seen[start:stop] = [(low, high)]
        if len(self.seen) > MAX_RANGES:
            del self.seen[: len(self.seen) - MAX_RANGES]

    def acknowledge(self, last: int) -> Acknowledgement:
        """What to tell the device after a batch that ends with ``last``.

        All that is safe, where its gaps can be named; else what is safe around that batch, with everything
        further below called missing.
        """
        safe = self._safe()
        if len(safe) - (safe[0][0] == 1 if safe else 0) > MAX_GAPS:
            upper = bisect.bisect_right(safe, (last, _INFINITE))
            safe = safe[max(0, upper - MAX_GAPS) : upper]
        gaps: list[Range] = []
        below = 0
        for low, high in safe:
            if low > below + 1:
                gaps.append((below + 1, low - 1))
            below = high
        return Acknowledgement(below, tuple(gaps))

    def _safe(self) -> list[Range]:
        """The seen ranges with what is gone below ``base``."""
        if not self.base:
            return self.seen
        merged, rest = self.base, 0
        while rest < len(self.seen) and self.seen[rest][0] <= merged + 1:
            merged = max(merged, self.seen[rest][1])
            rest += 1
        return [(1, merged), *self.seen[rest:]]


_INFINITE = 1 << 60


def ranges_to_json(coverage: Coverage) -> list[int]:
    """``[base, low, high, low, high, ...]``."""
    return [coverage.base, *(bound for pair in coverage.seen for bound in pair)]


def ranges_from_json(numbers: Sequence[int]) -> Coverage:
    if not numbers:
        return Coverage()
    return Coverage(list(zip(numbers[1::2], numbers[2::2], strict=True)), numbers[0])
