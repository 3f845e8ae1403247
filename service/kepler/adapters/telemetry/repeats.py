"""A library that says the same many times a second says it once, and then once a minute with a count."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

EVERY_S = 60.0
MAX_KEYS = 200  # of different texts remembered; the oldest is forgotten first

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
# Where there is no room, every statement of a library fails in words of its own: they all say this one thing.
_NO_ROOM = re.compile(r"disk is full|no space left on device|could not extend file", re.IGNORECASE)
_HEAD_CHARS = 200  # what follows is the statement and its values


class RepeatFilter(logging.Filter):
    """Lets a text through at most once in ``every_s``; the next one says how many were left out.

    Texts that differ in their numbers only are the same text, and so are all that say that a disk is full. Put
    it on a logger: on a handler it would count each record once per handler.

    Parameters
    ----------
    every_s
        Seconds in which one record of a text passes.
    clock
        Monotonic seconds.
    """

    def __init__(self, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s = every_s
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[
            tuple[int, str], tuple[float, int]
        ] = {}  # when it passed, how many were left out since

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes; its text then names those left out since the last one."""
        if record.levelno < logging.WARNING:
            return True
        text = record.getMessage()
        key = (record.levelno, _kind(text))
        now = self._clock()
        with self._lock:
            last, left_out = self._said.pop(key, (float("-inf"), 0))
            passes = now - last >= self._every_s
            self._said[key] = (now, 0) if passes else (last, left_out + 1)
            if len(self._said) > MAX_KEYS:
                del self._said[next(iter(self._said))]
        if passes and left_out:
            record.msg, record.args = f"{text} ({left_out} more like this since the last one)", ()
        return passes


def _kind(text: str) -> str:
    return "no room" if _NO_ROOM.search(text) else _NUMBER.sub("#", text[:_HEAD_CHARS])
