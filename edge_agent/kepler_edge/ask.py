"""Second opinions: what the device is not sure of, the service is asked, when it is reached.

The device always answers first. Where its answer is unsure by the rule the record waits for the service, but never longer
than ``timeout_s``; then the device's answer goes as it is. So no record is lost or late because the line is down.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from kepler_edge.errors import KeplerError, Unavailable
from kepler_edge.model import LoadedModel
from kepler_edge.outputs import MAX_OUTPUTS, Value

WAITING = 1_000
REST_S = 10.0  # without asking, after the service was not reached
_POLL_S = 0.2

Record = dict[str, object]


class Service(Protocol):
    """Who is asked."""

    def ask(
        self, model: str, fields: Mapping[str, object], *, probabilities: bool, timeout_s: float
    ) -> tuple[str, dict[str, str]]: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """When an answer is unsure.

    Attributes
    ----------
    confidence
        A classifier's largest probability below this; 0: never.
    low, high
        A number (``anomaly_score``, ``predicted(y)`` of a regression) from ``low`` to ``high``; equal: never.
    """

    confidence: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def unsure(self, out: Mapping[str, Value]) -> bool:
        """Whether the service should be asked."""
        chances = [
            value
            for name, value in out.items()
            if name.startswith("probability(") and isinstance(value, float)
        ]
        if chances:
            return max(chances) < self.confidence
        if self.low >= self.high:
            return False
        return any(
            isinstance(value, float) and self.low <= value <= self.high
            for name, value in out.items()
            if name == "anomaly_score" or name.startswith("predicted(")
        )


@dataclass(slots=True)
class _Question:
    model: LoadedModel
    fields: dict[str, object]
    record: Record
    until: float


class Asker:
    """Holds unsure records until the service answered or their time is over.

    Parameters
    ----------
    put
        Where records go, with their priority: 0 is an alert.
    service
        Who is asked, and ``model``: what it scores with, such as ``app:failure_large@prod``.
    """

    def __init__(
        self,
        put: Callable[[int, Record], None],
        service: Service,
        model: str,
        rule: Rule,
        timeout_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._put, self._service, self._model, self._rule = put, service, model, rule
        self._timeout_s, self._now = timeout_s, now
        self._waiting: queue.Queue[_Question] = queue.Queue(WAITING)
        self._rests_until = 0.0
        self._lock = threading.Lock()
        self._closed = False
        self.counts = {"asked": 0, "answered": 0, "late": 0, "failed": 0, "offline": 0}

    def take(self, model: LoadedModel, fields: Mapping[str, object], record: Record) -> bool:
        """Whether the record was taken over; else it goes its own way at once."""
        if not self._rule.unsure(cast("dict[str, Value]", record["out"])):
            return False
        if self._now() < self._rests_until:
            self.counts["offline"] += 1
            return False
        question = _Question(model, dict(fields), record, self._now() + self._timeout_s)
        with self._lock:  # what comes after the end of `run` goes its own way
            if self._closed:
                return False
            try:
                self._waiting.put_nowait(question)
            except queue.Full:
                self.counts["late"] += 1
                return False
        return True

    def run(self, stop: threading.Event) -> None:
        """Ask until ``stop``; what waits then goes with the device's answer."""
        while True:
            try:
                question = self._waiting.get(timeout=_POLL_S)
            except queue.Empty:
                with self._lock:
                    self._closed = stop.is_set() and self._waiting.empty()
                    if self._closed:
                        return
                continue
            if not stop.is_set():
                self._ask(question)
            self._put(0 if question.record["alert"] else 1, question.record)

    def _ask(self, question: _Question) -> None:
        """Ask, and write the answer into the record."""
        left_s = question.until - self._now()
        if left_s <= 0:
            self.counts["late"] += 1
            return
        if self._now() < self._rests_until:
            self.counts["offline"] += 1
            return
        out = cast("dict[str, Value]", question.record["out"])
        self.counts["asked"] += 1
        try:
            who, answer = self._service.ask(
                self._model,
                question.fields,
                probabilities=any(name.startswith("probability(") for name in out),
                timeout_s=left_s,
            )
        except Unavailable:
            self.counts["offline"] += 1
            self._rests_until = self._now() + REST_S
            return
        except KeplerError:
            self.counts["failed"] += 1
            return
        self.counts["answered"] += 1
        told: dict[str, Value] = {name: _value(text, out.get(name)) for name, text in answer.items()}
        merged: dict[str, Value] = {**out, **told, "answered_by": who}
        own: dict[str, Value] = {f"device.{name}": value for name, value in out.items()}
        if len(merged) + len(own) <= MAX_OUTPUTS:
            merged |= own
        question.record["out"] = merged
        question.record["alert"] = question.model.alerts(merged)


def _value(text: str, like: Value) -> Value:
    """The service's text as the device would have said it."""
    if not text:
        return None
    if isinstance(like, str):
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return None
    return int(number) if isinstance(like, int) and number.is_integer() else number
