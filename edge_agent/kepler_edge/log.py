"""The agent's log: JSON lines to a stream, the last of them in memory, and at a bounded rate to Splunk."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO

from .clock import Clock
from .frames import clean

LEVELS = ("debug", "info", "warning", "error")
KEPT_LINES = 500
MAX_VALUE_CHARS = 500
# The same event within a minute is written once more at most, with how often it came.
REPEAT_S = 60.0
MAX_EVENTS = 500
_SECRET = ("password", "token", "secret", "seed", "private", "pem", "authorization")

Record = dict[str, object]


class Log:
    """Events with keys. Values of keys that sound secret are never written, whoever passes them."""

    def __init__(self, clock: Clock, level: str = "info", stream: TextIO | None = None) -> None:
        self._clock = clock
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}
        self._deliver: Callable[[Record], None] | None = None
        self._tokens = 0.0
        self._per_minute = 0.0
        self._filled_at = clock.mono()
        self.level = level
        self.held_back = 0

    def deliver_to(self, put: Callable[[Record], None], per_minute: float) -> None:
        """Hands events of ``level`` and above over as records, at most so many a minute."""
        with self._lock:
            self._deliver, self._per_minute = put, per_minute
            self._tokens = min(self._tokens or per_minute, per_minute)

    def debug(self, event: str, **keys: object) -> None:
        """For people who look for something."""
        self._write("debug", event, keys)

    def info(self, event: str, **keys: object) -> None:
        """What happened."""
        self._write("info", event, keys)

    def warning(self, event: str, **keys: object) -> None:
        """What went wrong and is being seen to."""
        self._write("warning", event, keys)

    def error(self, event: str, **keys: object) -> None:
        """What somebody must see to."""
        self._write("error", event, keys)

    def last(self, lines: int = KEPT_LINES) -> list[str]:
        """The last lines, oldest first."""
        with self._lock:
            return list(self._lines)[-max(lines, 0) :] if lines > 0 else []

    def _write(self, level: str, event: str, keys: dict[str, object]) -> None:
        if LEVELS.index(level) < LEVELS.index(self.level):
            return
        shown = {name: _value(name, value) for name, value in list(keys.items())[:48] if value is not None}
        stamp = self._clock.stamp()
        with self._lock:
            mark = (event, str(shown.get("reason", "")))
            at, held = self._seen.get(mark, (0.0, 0))
            if level != "info" and at and stamp.mono - at < REPEAT_S:
                self._seen[mark] = (at, held + 1)
                return
            if len(self._seen) >= MAX_EVENTS:
                self._seen.clear()
            self._seen[mark] = (stamp.mono, 0)
            if held:
                shown["repeated"] = held
            line = json.dumps(
                {"ts": round(stamp.ts, 3), "level": level, "event": event[:200], **shown}, ensure_ascii=False
            )
            self._lines.append(line)
            put = self._deliver if self._take(stamp.mono) else None
        with contextlib.suppress(OSError, ValueError):  # a closed stream must not end the agent
            print(line, file=self._stream, flush=True)
        if put is not None:
            put(
                {
                    "kind": "log",
                    "ts": stamp.ts,
                    "mono": stamp.mono,
                    "level": level,
                    "event": event[:200],
                    "keys": shown,
                }
            )

    def _take(self, mono: float) -> bool:
        if self._deliver is None:
            return False
        rate = self._per_minute / 60.0
        self._tokens = min(self._per_minute, self._tokens + (mono - self._filled_at) * rate)
        self._filled_at = mono
        if self._tokens < 1:
            self.held_back += 1
            return False
        self._tokens -= 1
        return True


def _value(name: str, value: object) -> object:
    if any(part in name.lower() for part in _SECRET):
        return "hidden"
    found = clean(value)
    if isinstance(found, (dict, list)):
        found = json.dumps(found, ensure_ascii=False)
    return found[:MAX_VALUE_CHARS] if isinstance(found, str) else found
