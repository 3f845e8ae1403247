"""A bound on how long a stream waits for its caller's next message, with one timer for the whole stream.

``asyncio.timeout`` around each wait makes, sorts in and drops a timer per message, which for small messages
costs as much as reading them.
"""

from __future__ import annotations

import asyncio
from typing import Any


class IdleWatch:
    """Cancels the task that has waited for ``idle_s`` seconds between `begin` and `end`.

    `check`, called where the cancellation arrives, raises `TimeoutError` in its place, and nothing where
    somebody else cancelled the task. Successive waits may be different tasks'. Close it in the end.
    """

    __slots__ = ("_before", "_expired", "_idle_s", "_loop", "_since", "_task", "_timer")

    def __init__(self, idle_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_s = idle_s
        self._task: asyncio.Task[Any] | None = None  # the one that waits now
        self._before = 0
        self._since = 0.0
        self._expired = False
        self._timer = self._loop.call_later(idle_s, self._look)

    def begin(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        self._since = self._loop.time()

    def end(self) -> None:
        self._task = None

    def check(self) -> None:
        task, self._task = self._task, None
        if self._expired and task is not None and task.uncancel() <= self._before:
            raise TimeoutError

    def close(self) -> None:
        self._task = None
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        due = (now if self._task is None else self._since) + self._idle_s
        if self._task is not None and due <= now:
            self._expired = True
            self._task.cancel()
        else:
            self._timer = self._loop.call_at(due, self._look)
