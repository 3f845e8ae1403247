"""Collects records for the outbox, so that many share one fsync."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from .errors import Unavailable
from .outbox import CLASSES, Outbox, Record

# 100 rows or 100 ms: one fsync for 100 rows costs as much as for one, and flash wears by fsyncs.
GROUP_ROWS = 100
GROUP_S = 0.1
# Taken at once when producers were faster than the disk.
LARGEST_GROUP_ROWS = 1000
MAINTAIN_S = 30.0
RETRY_S = 1.0


class GroupCommit:
    """A thread between those who make records and the disk.

    ``put`` never waits for the disk. When the disk takes nothing for so long that ``bound`` records are waiting, the
    oldest of the lowest class are dropped; a tombstone tells of them once the disk is back.
    """

    def __init__(
        self, outbox: Outbox, committed: Callable[[], None] | None = None, bound: int = 20_000
    ) -> None:
        self._outbox = outbox
        self._committed = committed or (lambda: None)
        self._bound = bound
        self._changed = threading.Condition()
        self._waiting: tuple[deque[Record], ...] = tuple(deque() for _ in CLASSES)
        self._count = 0
        self._writing = 0
        self._urgent = False
        self._stopping = False
        self._dropped = [0] * len(CLASSES)
        self.dropped_total = [0] * len(CLASSES)
        self.failure = ""
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def put(self, cls: int, record: Record) -> None:
        """Hands a record over. Alerts are written at once, the others within 100 ms. The caller must not change it."""
        with self._changed:
            self._waiting[cls].append(record)
            self._count += 1
            if self._count > self._bound:
                self._drop_one()
            if cls == 0:
                self._urgent = True
            if self._urgent or self._count == 1 or self._count >= GROUP_ROWS:
                self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Waits until everything that was put is on the disk. False when it is not within ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._urgent = True
            self._changed.notify_all()
            while self._count or self._writing:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
            return True

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Writes what waits and ends the thread. False when something could not be written in time."""
        done = self.flush(timeout_s)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return done

    @property
    def waiting(self) -> int:
        """Records that are not on the disk yet."""
        with self._changed:
            return self._count + self._writing

    def _drop_one(self) -> None:
        for cls in range(len(CLASSES) - 1, -1, -1):
            if self._waiting[cls]:
                self._waiting[cls].popleft()
                self._count -= 1
                self._dropped[cls] += 1
                self.dropped_total[cls] += 1
                return

    def _run(self) -> None:
        maintain_at = time.monotonic() + MAINTAIN_S
        while True:
            group = self._next_group(maintain_at)
            if group:
                self._write(group)
            if time.monotonic() >= maintain_at:
                maintain_at = time.monotonic() + MAINTAIN_S
                try:
                    self._outbox.maintain()
                except Unavailable as error:
                    self.failure = error.sentence
            with self._changed:
                if self._stopping and (not self._count or self.failure):
                    return

    def _next_group(self, until: float) -> list[tuple[int, Record]]:
        with self._changed:
            while not self._count and not self._stopping:
                left = until - time.monotonic()
                if left <= 0:
                    return []
                self._changed.wait(left)
            full_at = time.monotonic() + GROUP_S
            while not (self._urgent or self._stopping or self._count >= GROUP_ROWS):
                left = full_at - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._urgent = False
            group: list[tuple[int, Record]] = []
            for cls, queue in enumerate(self._waiting):
                while queue and len(group) < LARGEST_GROUP_ROWS:
                    group.append((cls, queue.popleft()))
            self._count -= len(group)
            self._writing = len(group)
            return group

    def _write(self, group: list[tuple[int, Record]]) -> None:
        try:
            self._outbox.append(group)
        except Unavailable as error:
            self.failure = error.sentence
            self._put_back(group)
            return
        self.failure = ""
        with self._changed:
            self._writing = 0
            dropped, self._dropped = self._dropped, [0] * len(CLASSES)
            self._changed.notify_all()
        for cls, count in enumerate(dropped):
            try:
                self._outbox.refuse(cls, count)
            except Unavailable:
                with self._changed:
                    self._dropped[cls] += count
        self._committed()

    def _put_back(self, group: list[tuple[int, Record]]) -> None:
        with self._changed:
            for cls, record in reversed(group):
                self._waiting[cls].appendleft(record)
            self._count += len(group)
            self._writing = 0
            while self._count > self._bound:
                self._drop_one()
            if not self._stopping:
                self._changed.wait(RETRY_S)
