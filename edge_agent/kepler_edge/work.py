"""Work beside the agent's loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Task(Generic[T]):
    """One piece of work in a thread of its own, which never keeps the process from ending.

    ``work`` gets an event that `stop` sets: it should end soon then.
    """

    def __init__(self, work: Callable[[threading.Event], T]) -> None:
        self._work = work
        self._stop = threading.Event()
        self._done = threading.Event()
        self._result: T | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="kepler-edge-work", daemon=True).start()

    def _run(self) -> None:
        try:
            self._result = self._work(self._stop)
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()

    def wait(self, wait_s: float) -> bool:
        """Whether it has ended, waiting up to ``wait_s``."""
        return self._done.wait(wait_s)

    def stop(self) -> None:
        """Ask it to end; it is not waited for."""
        self._stop.set()

    def result(self) -> T:
        """What it gave; raises what it raised. Only once it has ended."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]
