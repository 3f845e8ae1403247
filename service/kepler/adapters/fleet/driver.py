"""Drives rollouts in a thread of its own: now and then, and at once when something happened."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from kepler.core.errors import KeplerError

log = structlog.get_logger()

LOOK_S = 2.0  # deadlines and rests of stages are no finer than this


class RolloutDriver:
    """Calls ``look`` until stopped; ``look`` must bear to be called at any time.

    `wake` may be called before `start`, from any thread, and costs nothing.
    """

    def __init__(self, look_s: float = LOOK_S) -> None:
        self._look_s = look_s
        self._look: Callable[[], object] = lambda: None
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kepler-rollouts", daemon=True)

    def start(self, look: Callable[[], object]) -> None:
        self._look = look
        self._thread.start()

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        """Can be repeated."""
        self._stopping.set()
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join(10.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                self._look()
            except KeplerError as error:
                log.warning("rollouts.look_failed", error=error.sentence)
            except Exception:
                log.exception("rollouts.look_broke")
            self._woken.wait(self._look_s)
            # Steps of many devices come at once: one look serves them all.
            self._stopping.wait(0.05)
