"""Features over the last readings of each source, kept as readings come.

Memory is bounded: so many sources, so many readings in all; beyond them the source that was silent longest goes
first. A window by time looks back from the newest reading. A reading that is older than the newest counts as
taken with it; one that is a whole window older says that the clock was set back, and the window begins anew.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kepler_edge.checked import Section
from kepler_edge.errors import InvalidInput
from kepler_edge.preparation import number_of

FUNCTIONS = (
    "mean", "std", "min", "max", "last", "first", "delta", "slope", "median", "count", "range",
)  # fmt: skip
MAX_SOURCES = 1_000
MAX_READINGS = 100_000  # of one window
MAX_TOTAL = 1_000_000  # over all windows of all sources, about 100 bytes each


@dataclass(frozen=True, slots=True)
class Window:
    """One feature: ``function`` of ``field`` over the last ``seconds`` or ``rows`` readings of a source."""

    name: str
    field: str
    function: str
    seconds: float
    rows: int

    @classmethod
    def of(cls, section: Section) -> Window:
        """Read one of a release's ``windows``. Raises `InvalidInput`."""
        window = cls(
            section.text("as", max_chars=500),
            section.text("field", max_chars=500),
            section.choice("function", FUNCTIONS),
            section.number("seconds", low=0),
            section.integer("rows", high=MAX_READINGS),
        )
        section.done()
        if (window.seconds > 0) == (window.rows > 0):
            raise InvalidInput(f"{section.where} has a length in seconds or in rows: one of them, not both")
        return window


class _Buffer:
    """The numbers of one field within one length, and what is asked of them.

    Sums are of differences from ``_origin`` and are summed afresh after as many removals as there are readings, so
    that rounding does not add up over a year.
    """

    def __init__(self, seconds: float, rows: int, functions: frozenset[str]) -> None:
        self._seconds = seconds
        self._rows = rows or MAX_READINGS
        self._cells: deque[tuple[float, float]] = deque()  # (at, value)
        self._sorted: list[float] | None = [] if "median" in functions else None
        self._least: deque[tuple[int, float]] | None = deque() if functions & {"min", "range"} else None
        self._most: deque[tuple[int, float]] | None = deque() if functions & {"max", "range"} else None
        self._slopes = "slope" in functions
        self._pushed = 0
        self._removed = 0
        self._origin = (0.0, 0.0)
        self._v = self._vv = self._t = self._tt = self._tv = 0.0

    def __len__(self) -> int:
        return len(self._cells)

    def push(self, at: float, value: float | None) -> None:
        """A reading at ``at`` seconds; None moves the window on without one."""
        cells = self._cells
        if cells and at < cells[-1][0]:
            if self._seconds and at < cells[-1][0] - self._seconds:
                self._clear()
            else:
                at = cells[-1][0]
        if value is not None:
            if not cells:
                self._origin = (at, value)
            cells.append((at, value))
            self._add(at, value, 1)
            if self._sorted is not None:
                insort(self._sorted, value)
            _keep(self._least, self._pushed, value, 1)
            _keep(self._most, self._pushed, value, -1)
            self._pushed += 1
        while len(cells) > self._rows or (self._seconds and cells and cells[0][0] <= at - self._seconds):
            self._drop()

    def _add(self, at: float, value: float, sign: int) -> None:
        v, t = value - self._origin[1], at - self._origin[0]
        self._v += sign * v
        self._vv += sign * v * v
        if self._slopes:
            self._t += sign * t
            self._tt += sign * t * t
            self._tv += sign * t * v

    def _drop(self) -> None:
        at, value = self._cells.popleft()
        gone = self._pushed - len(self._cells) - 1
        if self._sorted is not None:
            del self._sorted[bisect_left(self._sorted, value)]
        for ends in (self._least, self._most):
            if ends and ends[0][0] <= gone:
                ends.popleft()
        self._removed += 1
        if self._removed > len(self._cells):
            self._sum_afresh()
        else:
            self._add(at, value, -1)

    def _sum_afresh(self) -> None:
        self._removed = 0
        self._v = self._vv = self._t = self._tt = self._tv = 0.0
        if self._cells:
            self._origin = self._cells[0]
        for at, value in self._cells:
            self._add(at, value, 1)

    def _clear(self) -> None:
        while self._cells:
            self._drop()

    def give(self, function: str) -> float | None:
        """The feature; None while there are too few readings."""
        cells = self._cells
        n = len(cells)
        if function == "count":
            return float(n)
        if not n:
            return None
        first, last = cells[0][1], cells[-1][1]
        if function == "mean":
            return self._origin[1] + self._v / n
        if function == "std":  # of the population, as in Splunk's stdevp
            return math.sqrt(max(0.0, self._vv / n - (self._v / n) ** 2))
        if function == "median" and self._sorted is not None:
            return (self._sorted[(n - 1) // 2] + self._sorted[n // 2]) / 2
        if function == "slope":  # least squares, per second
            spread = self._tt - self._t * self._t / n
            return (
                None if spread <= 1e-12 * max(1.0, self._tt) else (self._tv - self._t * self._v / n) / spread
            )
        if function == "delta":
            return last - first
        if function == "last":
            return last
        if function == "first":
            return first
        low = self._least[0][1] if self._least else 0.0
        high = self._most[0][1] if self._most else 0.0
        return {"min": low, "max": high, "range": high - low}[function]


def _keep(ends: deque[tuple[int, float]] | None, place: int, value: float, sign: int) -> None:
    """Keep in ``ends`` only what may yet be the least (sign 1) or the greatest (sign -1)."""
    if ends is not None:
        while ends and sign * ends[-1][1] >= sign * value:
            ends.pop()
        ends.append((place, value))


class Windows:
    """All windows of one model over all its sources."""

    def __init__(
        self, windows: Sequence[Window], *, max_sources: int = MAX_SOURCES, max_total: int = MAX_TOTAL
    ) -> None:
        names = [window.name for window in windows]
        if len(set(names)) < len(names):
            raise InvalidInput("Two windows make the same feature")
        self.windows = tuple(windows)
        self.evicted = 0
        self._max_sources = max_sources
        self._max_total = max_total
        self._total = 0
        self._sources: OrderedDict[str, dict[tuple[str, float, int], _Buffer]] = OrderedDict()
        self._functions: dict[tuple[str, float, int], frozenset[str]] = {}
        for window in windows:
            key = (window.field, window.seconds, window.rows)
            self._functions[key] = self._functions.get(key, frozenset()) | {window.function}

    def __bool__(self) -> bool:
        return bool(self.windows)

    @property
    def readings(self) -> int:
        """Readings held, over all sources."""
        return self._total

    def update(self, source: str, fields: Mapping[str, object], at: float) -> dict[str, object]:
        """Take in a reading of ``source`` at ``at`` seconds; gives ``fields`` with the features beside them.

        A feature is None while its window has too few readings. Raises `InvalidInput` for text in a number.
        """
        numbers = {key[0]: number_of(fields.get(key[0]), key[0]) for key in self._functions}
        buffers = self._of(source)
        for key, buffer in buffers.items():
            value = numbers[key[0]]
            before = len(buffer)
            buffer.push(at, value if math.isfinite(value) else None)
            self._total += len(buffer) - before
        while self._total > self._max_total and len(self._sources) > 1:
            self._evict()
        made: dict[str, object] = dict(fields)
        for window in self.windows:
            made[window.name] = buffers[window.field, window.seconds, window.rows].give(window.function)
        return made

    def _of(self, source: str) -> dict[tuple[str, float, int], _Buffer]:
        found = self._sources.get(source)
        if found is None:
            found = {key: _Buffer(key[1], key[2], functions) for key, functions in self._functions.items()}
            self._sources[source] = found
            if len(self._sources) > self._max_sources:
                self._evict()
        self._sources.move_to_end(source)
        return found

    def _evict(self) -> None:
        """Forget the source that was silent longest."""
        _, buffers = self._sources.popitem(last=False)
        self._total -= sum(len(buffer) for buffer in buffers.values())
        self.evicted += 1
