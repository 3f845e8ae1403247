"""Who waits for a job's next change, and for the runner's end."""

from __future__ import annotations

import threading
from collections.abc import Callable


class JobChanges:
    """A counter per job, with waiting that polls nothing."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._counts: dict[str, int] = {}
        self._listeners: dict[str, list[Callable[[], None]]] = {}
        self._stopped = threading.Event()

    def count(self, job_id: str) -> int:
        return self._counts.get(job_id, 0)

    def tell(self, job_id: str) -> None:
        with self._condition:
            self._counts[job_id] = self._counts.get(job_id, 0) + 1
            self._condition.notify_all()
            listeners = tuple(self._listeners.get(job_id, ()))
        for listener in listeners:
            listener()

    def listen(self, job_id: str, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` after each change, in the thread that made it; gives what ends that.

        It must be quick and raise nothing.
        """
        with self._condition:
            self._listeners.setdefault(job_id, []).append(listener)

        def end() -> None:
            with self._condition:
                left = self._listeners.get(job_id, [])
                if listener in left:
                    left.remove(listener)
                if not left:
                    self._listeners.pop(job_id, None)

        return end

    def forget(self, job_id: str) -> None:
        self._counts.pop(job_id, None)

    def wait(self, job_id: str, count: int, timeout_s: float) -> None:
        """Until the job's counter is no longer ``count``, all is stopped, or ``timeout_s`` passed."""
        with self._condition:
            self._condition.wait_for(
                lambda: self.count(job_id) != count or self._stopped.is_set(), timeout=timeout_s
            )

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def wait_stopped(self, timeout_s: float) -> bool:
        return self._stopped.wait(timeout_s)

    def stop(self) -> None:
        with self._condition:
            self._stopped.set()
            self._condition.notify_all()
