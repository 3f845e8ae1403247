"""Everything that must reach Splunk, on disk until the service says that it has."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .clock import Clock
from .errors import Unavailable
from .frames import canonical, clean
from .outbox_file import (
    HEADROOM_PAGES,
    PAGE_BYTES,
    Limits,
    drop_ballast,
    is_broken,
    is_full,
    make_ballast,
    open_outbox,
    set_aside,
)

CLASSES = ("p0", "p1", "p2", "p3")
# A batch has at most 128 KiB; one record must leave room for its envelope.
MAX_RECORD_BYTES = 64 << 10
# Rows that one transaction deletes at most: the log must stay inside its part of the quota.
SLICE_ROWS = 2000
# Bytes of a row beyond its body: number, age, cell header, its share of the tree.
ROW_BYTES = 32

T = TypeVar("T")
Record = dict[str, object]
Range = tuple[int, int]


@dataclass(slots=True)
class ClassCounts:
    """What happened to one class since the agent started; ``rows`` and ``bytes`` are what is there now."""

    rows: int = 0
    bytes: int = 0
    appended: int = 0
    acked: int = 0
    evicted: int = 0
    expired: int = 0
    rejected: int = 0


@dataclass(slots=True)
class _Tombstone:
    q: int
    low: int
    high: int
    count: int


class Outbox:
    """A queue of records in four classes, `p0` (alerts) to `p3` (logs), that outlives power cuts.

    Every method is one or more whole transactions under one lock; any thread may call it. Records get numbers that
    rise over all classes and are never given twice within ``epoch``. When there is no room, the oldest records of the
    lowest class go first; alerts only make room for themselves, and what does not fit then is refused. Everything
    that is dropped is told by a tombstone in `p0`.
    """

    def __init__(self, path: Path, limits: Limits | None = None, clock: Clock | None = None) -> None:
        self._path = path
        self._ballast = path.with_name("ballast")
        self._limits = limits or Limits()
        self._clock = clock or Clock()
        self._lock = threading.RLock()
        self._tight = False
        self.commits = 0
        self.rebuilds = 0
        self.stale_acks = 0
        self.counts = [ClassCounts() for _ in CLASSES]
        self.rebuilt_because = ""
        self._open()

    def _open(self) -> None:
        self._db, broken = open_outbox(self._path, self._limits)
        if broken:
            self.rebuilds += 1
            self.rebuilt_because = broken
        make_ballast(self._ballast, self._limits)
        self._tombstones: dict[tuple[int, str], _Tombstone] = {}
        epoch, last, age_s = self._db.execute("SELECT epoch, last, age_s FROM outbox").fetchone()
        self.epoch: str = epoch
        self._last: int = last
        self._age_s: float = age_s
        self._age_at = self._clock.mono()
        # Anything that is there may have been sent by the process before.
        self._handed = [last] * len(CLASSES)
        for number, rows, size in self._db.execute("SELECT n, rows, bytes FROM class").fetchall():
            self.counts[number].rows, self.counts[number].bytes = rows, size

    # -- writing -------------------------------------------------------------------------------------------------

    def append(self, items: Sequence[tuple[int, Record]]) -> int:
        """Keeps records, each given as its class (0 to 3) and itself without `q`; one commit.

        Returns how many were kept; those refused are told by a tombstone. When this returns they are on the disk.

        Raises
        ------
        Unavailable
            When the disk takes nothing at all; nothing was kept then, and the call may be repeated.
        """

        def write() -> int:
            return sum(
                self._append_class(n, [record for c, record in items if c == n]) for n in range(len(CLASSES))
            )

        return self._transaction(write)

    def refuse(self, cls: int, count: int, reason: str = "full") -> None:
        """Tells of ``count`` records of a class that were dropped before they had a number."""
        if count > 0:
            self._transaction(lambda: self._refuse(cls, count, reason))

    def ack(self, epoch: str, stream: str, upto: int, gaps: Sequence[Range] = ()) -> int:
        """Deletes the records of ``stream`` up to ``upto``, those in ``gaps`` (from, to) excepted.

        Returns how many were deleted. An acknowledgement of another epoch, or of what was never sent, changes nothing.
        """
        if stream not in CLASSES:
            return 0
        cls = CLASSES.index(stream)
        with self._lock:
            if epoch != self.epoch:
                self.stale_acks += 1
                return 0
            upto = min(upto, self._handed[cls])
            deleted = 0
            for low, high in _without(upto, gaps):
                while self._any(cls, low, high):
                    part = self._transaction(lambda low=low, high=high: self._delete(cls, low, high)[0])
                    deleted += part
                    if part < SLICE_ROWS:
                        break
            self.counts[cls].acked += deleted
            return deleted

    def maintain(self) -> None:
        """Drops what is too old, gives pages back, restores the ballast. To be called every minute or so."""
        with self._lock:
            for cls, ttl_s in enumerate(self._limits.ttl_s):
                if ttl_s > 0:
                    while (
                        self._transaction(lambda cls=cls, ttl_s=ttl_s: self._expire(cls, ttl_s)) == SLICE_ROWS
                    ):
                        pass
            if self._tight and make_ballast(self._ballast, self._limits):
                self._tight = False
            free = self._pragma("freelist_count")
            if free > 256 and free * 4 > self._pragma("page_count"):
                with contextlib.suppress(sqlite3.Error):
                    # Through executescript: execute() steps once, and one step frees one page.
                    self._db.executescript(f"PRAGMA incremental_vacuum({min(free - 64, 512)})")

    def set_limits(self, limits: Limits) -> None:
        """Takes a new quota and new ages. A smaller quota drops the oldest of the lowest classes at once."""
        with self._lock:
            self._limits = limits
            while self._transaction(self._shrink):
                pass  # one slice a transaction, or the log would outgrow its part
            pages = self._pragma("page_count")
            with contextlib.suppress(sqlite3.Error):
                if pages > limits.max_pages():
                    self._db.executescript("PRAGMA incremental_vacuum")
                self._db.execute(f"PRAGMA max_page_count={limits.max_pages()}")

    def close(self) -> None:
        """Writes the log into the file and closes it."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._db.execute("UPDATE outbox SET age_s = ?", (self._age(),))
            self._db.close()

    # -- reading -------------------------------------------------------------------------------------------------

    def take(self, cls: int, after: int, upto: int, rows: int, size: int) -> list[tuple[int, bytes]]:
        """The records of a class in ``(after, upto]``, oldest first: at most ``rows`` of them and ``size`` bytes.

        At least one where there is one. They stay until they are acknowledged. Bodies are canonical JSON.
        """
        with self._lock:
            found: list[tuple[int, bytes]] = []
            total = 0
            statement = f"SELECT q, body FROM {CLASSES[cls]} WHERE q > ? AND q <= ? ORDER BY q LIMIT ?"  # noqa: S608
            try:
                for q, body in self._db.execute(statement, (after, upto, rows)):
                    total += len(body) + 1
                    if found and total > size:
                        break
                    found.append((q, body))
            except sqlite3.Error as error:
                self._repair(error)
                return []
            if found:
                self._handed[cls] = max(self._handed[cls], found[-1][0])
            return found

    @property
    def last(self) -> int:
        """The highest number that was given."""
        with self._lock:
            return self._last

    def base(self, cls: int) -> int:
        """The highest number at and below which nothing of the class is left."""
        with self._lock:
            lowest = self._first(cls)
            return self._last if lowest is None else lowest - 1

    def bounds(self, cls: int) -> tuple[int, int]:
        """``base`` and the highest number of a record of the class that is there; twice ``base`` where none is."""
        with self._lock:
            low, high = self._db.execute(f"SELECT min(q), max(q) FROM {CLASSES[cls]}").fetchone()  # noqa: S608
            return (self._last, self._last) if low is None else (low - 1, high)

    def stats(self) -> dict[str, object]:
        """Figures for diagnostics."""
        with self._lock:
            classes = {
                name: {field: getattr(counts, field) for field in ClassCounts.__slots__}
                for name, counts in zip(CLASSES, self.counts, strict=True)
            }
            return {
                "epoch": self.epoch,
                "last": self._last,
                "commits": self.commits,
                "rebuilds": self.rebuilds,
                "stale_acks": self.stale_acks,
                "bytes": self._pragma("page_count") * PAGE_BYTES,
                "quota_bytes": self._limits.quota_bytes,
                "disk_tight": self._tight,
                "classes": classes,
            }

    # -- inside a transaction --------------------------------------------------------------------------------------

    def _append_class(self, cls: int, records: list[Record]) -> int:
        if not records:
            return 0
        rows, size = self._numbered(records)
        before = self._last
        if not self._room(cls, size + ROW_BYTES * len(rows)):
            if len(records) > 1:  # a part may fit
                half = len(records) // 2
                return self._append_class(cls, records[:half]) + self._append_class(cls, records[half:])
            self._refuse(cls, 1, "full")
            return 0
        if self._last != before:  # tombstones of what made room took numbers
            rows, size = self._numbered(records)
        self._db.executemany(f"INSERT INTO {CLASSES[cls]} VALUES (?, ?, ?)", rows)  # noqa: S608
        self._last += len(rows)
        self._count(cls, len(rows), size)
        self.counts[cls].appended += len(rows)
        self._refuse(cls, len(records) - len(rows), "quota")
        return len(rows)

    def _numbered(self, records: list[Record]) -> tuple[list[tuple[int, float, bytes]], int]:
        """Rows under the next numbers, without records that are too large for a batch, and their bytes."""
        rows: list[tuple[int, float, bytes]] = []
        age_s, size = self._age(), 0
        for record in records:
            body = _body(record, self._last + 1 + len(rows))
            if len(body) <= MAX_RECORD_BYTES:
                rows.append((self._last + 1 + len(rows), age_s, body))
                size += len(body)
        return rows, size

    def _room(self, cls: int, size: int) -> bool:
        """Drops the oldest of the lowest classes until ``size`` bytes fit; never of a higher class than ``cls``."""
        need = size * 5 // 4 // PAGE_BYTES + 2
        while self._used() + need > self._cap():
            victim = next(
                (n for n in range(len(CLASSES) - 1, max(cls, 1) - 1, -1) if self.counts[n].rows), None
            )
            if victim is None:
                return False
            self._evict(victim, max(size, 16 * PAGE_BYTES))
        return True

    def _shrink(self) -> bool:
        if self._used() <= self._cap():
            return False
        victim = next((n for n in (3, 2, 1) if self.counts[n].rows), None)
        if victim is not None:
            self._evict(victim, SLICE_ROWS * MAX_RECORD_BYTES)
        return victim is not None

    def _cap(self) -> int:
        cap = self._limits.max_pages()
        if self._tight:
            # The disk has no block left: only pages the file already has can be used.
            cap = min(cap, self._pragma("page_count"))
        return max(cap - HEADROOM_PAGES, 1)

    def _used(self) -> int:
        return self._pragma("page_count") - self._pragma("freelist_count")

    def _evict(self, cls: int, size: int) -> None:
        mean = max(self.counts[cls].bytes // max(self.counts[cls].rows, 1), 1)
        wanted = min(max(size // mean, 16), SLICE_ROWS)
        count, low, high = self._delete(cls, 0, self._last, wanted)
        if not count:
            # The counters say that there are rows and the table has none: never loop on that.
            self._count(cls, -self.counts[cls].rows, -self.counts[cls].bytes)
            return
        self.counts[cls].evicted += count
        self._bury(cls, low, high, count, "full")

    def _expire(self, cls: int, ttl_s: float) -> int:
        limit = self._age() - ttl_s
        rows = self._db.execute(
            f"SELECT q, age_s FROM {CLASSES[cls]} ORDER BY q LIMIT ?",  # noqa: S608
            (SLICE_ROWS,),
        ).fetchall()
        old = 0
        for _, age_s in rows:
            if age_s > limit:
                break
            old += 1
        if old:
            count, low, high = self._delete(cls, 0, self._last, old)
            self.counts[cls].expired += count
            self._bury(cls, low, high, count, "ttl")
        return old

    def _delete(self, cls: int, low: int, high: int, rows: int = SLICE_ROWS) -> tuple[int, int, int]:
        """Deletes the oldest rows in ``(low, high]``; returns how many, the first and the last of them."""
        name = CLASSES[cls]
        count, size, first, last = self._db.execute(
            f"SELECT count(*), sum(length(body)), min(q), max(q) FROM "  # noqa: S608
            f"(SELECT q, body FROM {name} WHERE q > ? AND q <= ? ORDER BY q LIMIT ?)",
            (low, high, rows),
        ).fetchone()
        if not count:
            return 0, 0, 0
        self._db.execute(f"DELETE FROM {name} WHERE q >= ? AND q <= ?", (first, last))  # noqa: S608
        self._count(cls, -count, -size)
        return count, first, last

    def _refuse(self, cls: int, count: int, reason: str) -> None:
        """Gives numbers to records that are not kept, so that their loss can be told."""
        if count <= 0:
            return
        low, self._last = self._last + 1, self._last + count
        self.counts[cls].rejected += count
        self._bury(cls, low, self._last, count, reason)

    def _bury(self, cls: int, low: int, high: int, count: int, reason: str) -> None:
        """Writes a tombstone, or widens the last one of its kind while it has not been sent."""
        found = self._tombstones.get((cls, reason))
        if found is not None and found.q > self._handed[0]:
            found.low, found.high = min(found.low, low), max(found.high, high)
            found.count += count
        else:
            self._last += 1
            found = _Tombstone(self._last, low, high, count)
            self._tombstones[cls, reason] = found
        now = self._clock.stamp()
        record: Record = {
            "kind": "tombstone",
            "ts": now.ts,
            "mono": now.mono,
            "from": found.low,
            "to": found.high,
            "count": found.count,
            "stream": CLASSES[cls],
            "reason": reason,
        }
        body = _body(record, found.q)
        before = self._db.execute("SELECT length(body) FROM p0 WHERE q = ?", (found.q,)).fetchone()
        self._db.execute("INSERT OR REPLACE INTO p0 VALUES (?, ?, ?)", (found.q, self._age(), body))
        self._count(0, 0 if before else 1, len(body) - (before[0] if before else 0))

    def _any(self, cls: int, low: int, high: int) -> bool:
        found = f"SELECT 1 FROM {CLASSES[cls]} WHERE q > ? AND q <= ? LIMIT 1"  # noqa: S608
        try:
            return self._db.execute(found, (low, high)).fetchone() is not None
        except sqlite3.Error as error:
            self._repair(error)
            return False

    def _first(self, cls: int) -> int | None:
        return self._db.execute(f"SELECT min(q) FROM {CLASSES[cls]}").fetchone()[0]  # noqa: S608

    def _count(self, cls: int, rows: int, size: int) -> None:
        self.counts[cls].rows += rows
        self.counts[cls].bytes += size
        self._db.execute("UPDATE class SET rows = rows + ?, bytes = bytes + ? WHERE n = ?", (rows, size, cls))

    def _age(self) -> float:
        """Running time of all agents on this outbox, seconds."""
        return self._age_s + max(self._clock.mono() - self._age_at, 0.0)

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    # -- transactions and what may go wrong with them -----------------------------------------------------------------

    def _transaction(self, write: Callable[[], T]) -> T:
        with self._lock:
            for attempt in range(3):
                try:
                    with self._begun():
                        return write()
                except sqlite3.Error as error:
                    if attempt == 2 or not (is_full(error) or is_broken(error)):
                        raise self._unavailable(error) from error
                    self._repair(error)
            raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _begun(self) -> Generator[None, None, None]:
        """A transaction in which either everything happens, in memory too, or nothing."""
        last, tombstones = (
            self._last,
            {k: _Tombstone(t.q, t.low, t.high, t.count) for k, t in self._tombstones.items()},
        )
        counts = [ClassCounts(*(getattr(c, f) for f in ClassCounts.__slots__)) for c in self.counts]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("UPDATE outbox SET last = ?, age_s = ?", (self._last, self._age()))
            self._db.execute("COMMIT")
        except BaseException:
            self._last, self._tombstones, self.counts = last, tombstones, counts
            with contextlib.suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise
        self.commits += 1

    def _repair(self, error: sqlite3.Error) -> None:
        if is_broken(error):
            self._db.close()
            set_aside(self._path)
            self.counts = [ClassCounts() for _ in CLASSES]
            self._open()
            self.rebuilds += 1
            self.rebuilt_because = str(error)
        elif is_full(error):
            self._tight = True
            drop_ballast(self._ballast)
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(RESTART)")

    @staticmethod
    def _unavailable(error: sqlite3.Error) -> Unavailable:
        return Unavailable(
            "The outbox cannot be written", cause=str(error), fix="Free the disk, or make it writable again."
        )


def _body(record: Record, q: int) -> bytes:
    try:
        return canonical({**record, "q": q})
    except (ValueError, TypeError):
        return canonical(clean({**record, "q": q}))


def _without(upto: int, gaps: Sequence[Range]) -> list[Range]:
    """The ranges ``(low, high]`` up to ``upto`` that lie outside the gaps (from, to), both ends included."""
    found: list[Range] = []
    low = 0
    for start, end in sorted(gaps):
        if start > upto:
            break
        if start - 1 > low:
            found.append((low, start - 1))
        low = max(low, end)
    if low < upto:
        found.append((low, upto))
    return found
