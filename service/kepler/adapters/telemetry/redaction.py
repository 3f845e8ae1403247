"""Keeps credentials out of logs: by the key they stand under, by their shape, and by being known."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, MutableMapping
from typing import Any

MASK = "[redacted]"
MIN_KNOWN_CHARS = 8  # shorter values are words, and masking them would spoil every line
MAX_DEPTH = 6
HEAD_CHARS, TAIL_CHARS = 4_096, 12_288  # of one value; a log line is no place for data
MAX_SCANNED_CHARS = 65_536

_KEY = re.compile(
    r"(^|[_.\-\s])(token|secret|password|passwd|passphrase|pwd|authorization|api[_-]?key|private[_-]?key"
    r"|credentials?|cookie|session[_-]?key)$",
    re.IGNORECASE,
)
# Shape, what it becomes, and words of which a text must hold one: looking for them is 20 times faster.
_SHAPES = (
    (re.compile(r"kp_[a-z0-9]+_[A-Za-z0-9_-]{16,}"), MASK, ("kp_",)),
    (re.compile(r"kpu_[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]+)?"), MASK, ("kpu_",)),
    (
        re.compile(r"\b(bearer|basic|splunk)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE),
        rf"\1 {MASK}",
        ("bearer", "basic", "splunk"),
    ),
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
        MASK,
        ("private key-",),
    ),
    (re.compile(r"(://[^\s/:@]*):[^\s/@]+@"), rf"\1:{MASK}@", ("://",)),
    (
        re.compile(
            r"((?:token|secret|password|passwd|api[_-]?key)[\"']?\s*[=:]\s*[\"']?)(?!\[redacted)[^\s\"',;&}]{4,}",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
        ("token", "secret", "passw", "api"),
    ),
)


class Redactor:
    """Masks secrets in texts and log events. `learn` adds values that nothing else would recognise."""

    def __init__(self) -> None:
        self._known: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def learn(self, value: str) -> None:
        """Never let ``value`` pass again; values under 8 characters are left to their keys."""
        if len(value) < MIN_KNOWN_CHARS or value in self._known:
            return
        with self._lock:
            # Longest first: a value may hold another.
            self._known = tuple(sorted({*self._known, value}, key=len, reverse=True))

    def text(self, text: str) -> str:
        """``text`` without secrets.

        >>> Redactor().text("call with Bearer abcdefgh1234")
        'call with Bearer [redacted]'
        """
        for value in self._known:
            if value in text:
                text = text.replace(value, MASK)
        lowered = text.lower()
        for shape, mask, words in _SHAPES:
            if any(word in lowered for word in words):
                text = shape.sub(mask, text)
        return text

    def __call__(self, logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """As structlog processor."""
        for key in list(event):
            if not key.startswith("_"):  # structlog's own entries
                event[key] = self._value(key, event[key], 0)
        return event

    def _value(self, key: str, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if _KEY.search(key):
            return MASK
        if isinstance(value, str):
            return self._bounded(value)
        if depth >= MAX_DEPTH:
            return MASK
        if isinstance(value, Mapping):
            return {self.text(str(k)): self._value(str(k), item, depth + 1) for k, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._value("", item, depth + 1) for item in value]
        if isinstance(value, (bytes, bytearray)):
            return self._bounded(bytes(value).decode("utf-8", "replace"))
        return self._bounded(str(value))

    def _bounded(self, text: str) -> str:
        """``text`` redacted, and without its middle where it is long: a traceback's end says most."""
        if len(text) <= HEAD_CHARS + TAIL_CHARS:
            return self.text(text)
        if len(text) > MAX_SCANNED_CHARS:
            return f"[{len(text)} characters]"
        whole = self.text(text)  # before it is cut, so that no half of a secret stands at the edge
        if len(whole) <= HEAD_CHARS + TAIL_CHARS:
            return whole
        return f"{whole[:HEAD_CHARS]} [{len(whole) - HEAD_CHARS - TAIL_CHARS} more] {whole[-TAIL_CHARS:]}"


REDACTOR = Redactor()
