"""From readings to records: the thread that scores."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from .clock import Clock, Stamp
from .errors import KeplerError
from .log import Log
from .model import LoadedModel, Scored
from .outbox import Record
from .reading import Reading

MAX_WAITING = 10_000
WAIT_S = 0.5


class Models(Protocol):
    """The part of the releases that is needed here."""

    def serving(self) -> Mapping[str, LoadedModel]:
        """Models that answer."""
        ...

    def shadows(self) -> Mapping[str, LoadedModel]:
        """Models that score beside them."""
        ...

    def observe(
        self, model: LoadedModel | str, scored: Scored | None, error: BaseException | str | None = None
    ) -> None:
        """What came of one scoring."""
        ...


class SecondOpinion(Protocol):
    """May take over records that the device is not sure of."""

    def take(self, model: LoadedModel, fields: Mapping[str, object], record: Record) -> bool: ...


class Scorer:
    """A bounded queue of readings, and one thread that has every model score those bound to it.

    When readings come quicker than they can be scored the newest is dropped and counted: inputs never wait.
    """

    def __init__(self, models: Models, put: Callable[[int, Record], None], clock: Clock, log: Log) -> None:
        self._models = models
        self._put = put
        self._clock = clock
        self._log = log
        self._queue: queue.Queue[Reading] = queue.Queue(MAX_WAITING)
        self.second_opinion: SecondOpinion | None = None
        self.paused = False
        self.telemetry = False
        self.readings = 0
        self.scored = 0
        self.failed = 0
        self.dropped = 0

    def feed(self, reading: Reading) -> None:
        """Hands a reading over."""
        try:
            self._queue.put_nowait(reading)
        except queue.Full:
            self.dropped += 1
            self._log.warning(
                "readings.dropped", source=reading.source, reason="more come than can be scored"
            )

    def run(self, stopping: threading.Event) -> None:
        """Scores until ``stopping`` is set; what waits then is scored still."""
        while True:
            try:
                reading = self._queue.get(timeout=WAIT_S)
            except queue.Empty:
                if stopping.is_set():
                    return
                continue
            self.take(reading)

    def take(self, reading: Reading) -> None:
        """Scores one reading with every model it is for."""
        self.readings += 1
        stamp = self._clock.stamp()
        if self.telemetry:
            self._telemetry(reading, stamp)
        if self.paused:
            return
        for model in self._models.serving().values():
            self._score(model, reading, stamp, shadow=False)
        for model in self._models.shadows().values():
            self._score(model, reading, stamp, shadow=True)

    def _score(self, model: LoadedModel, reading: Reading, stamp: Stamp, *, shadow: bool) -> None:
        found = model.takes(reading)
        if found is None:
            return
        source, values = found
        try:
            # Windows count by the readings' own times, or else by a clock that nobody sets.
            at = stamp.mono if reading.ts is None else reading.ts
            scored = model.score(values, source=source, at=at)
        except KeplerError as error:
            self._trouble(model, source, error.sentence, error)
            return
        except Exception as error:
            self._trouble(model, source, f"{type(error).__name__}: {error}", error)
            return
        self.scored += 1
        self._models.observe(model, scored)
        record: Record = {
            "kind": "prediction",
            "ts": stamp.ts if reading.ts is None else reading.ts,
            "mono": stamp.mono,
            "model": model.name,
            "version": model.version,
            "sha8": model.sha8,
            "source": source[:500],
            "out": scored.out,
            "alert": scored.alert,
            "lat_us": round(scored.lat_us, 1),
        }
        if shadow:
            record["shadow"] = True
        elif self.second_opinion is not None and self.second_opinion.take(model, values, record):
            return
        self._put(0 if scored.alert and not shadow else 1, record)

    def _telemetry(self, reading: Reading, stamp: Stamp) -> None:
        for tag, value in reading.fields.items():
            self._put(
                2,
                {
                    "kind": "telemetry",
                    "ts": stamp.ts if reading.ts is None else reading.ts,
                    "mono": stamp.mono,
                    "tag": tag[:500],
                    "value": value
                    if value is None or isinstance(value, (str, int, float, bool))
                    else str(value),
                    "source": reading.source[:500],
                },
            )

    def _trouble(self, model: LoadedModel, source: str, reason: str, error: BaseException) -> None:
        self.failed += 1
        self._models.observe(model, None, error)
        self._log.warning(
            "scoring.failed", model=model.name, version=model.version, source=source, reason=reason
        )

    def stats(self) -> dict[str, object]:
        """Figures for diagnostics."""
        return {
            "readings": self.readings,
            "scored": self.scored,
            "failed": self.failed,
            "dropped": self.dropped,
            "waiting": self._queue.qsize(),
            "paused": self.paused,
        }
