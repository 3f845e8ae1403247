"""Indexed events and metric data points, held in memory, and how a search reads them.

Sources: field names and order of events from recording 8.2.1 `events.txt`; newest first (Search Manual); time
modifiers (Search Reference, "Time modifiers"); metrics (Metrics manual, "mstats").
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .builtins_rows import Chunks, Stage
from .errors import OutsideTheStandIn, SplSyntaxError
from .search_terms import parse_terms
from .spl import Command
from .table import Table, text

if TYPE_CHECKING:
    from .search_context import SearchContext

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
UNIT_NAMES = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "week", "weeks"), "w"),
}
_RELATIVE = re.compile(r"([+-]\d*)([a-z]+)|@([a-z]+)")
FIRST_FIELDS = (
    "_time",
    "index",
    "_raw",
    "host",
    "source",
    "sourcetype",
    "linecount",
    "splunk_server",
    "_indextime",
)


def parse_time(written: str | float | None, now: float) -> float:
    """Epoch seconds, `now`, `-1h@h`, `@d`, `2021-07-27T05:48:20`, or empty; 0 is "all time"."""
    if written is None or written == "":
        return 0.0
    if isinstance(written, (int, float)):
        return float(written)
    value = written.strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    if value.startswith("rt"):
        raise OutsideTheStandIn("real-time searches")
    if value == "now" or value == "now()":
        return now
    for layout in ("%Y-%m-%dT%H:%M:%S", "%m/%d/%Y:%H:%M:%S"):
        try:
            return time.mktime(time.strptime(re.sub(r"\.\d+|Z$|[+-]\d\d:?\d\d$", "", value), layout))
        except ValueError:
            continue
    moment, position = now, 0
    while position < len(value):
        match = _RELATIVE.match(value, position)
        unit = UNIT_NAMES.get(match[2] or match[3]) if match else None
        if match is None or unit is None:
            raise SplSyntaxError(f"Invalid time modifier '{written}'.")
        if match[3]:
            moment = moment // UNITS[unit] * UNITS[unit]
        else:
            moment += float(match[1] + ("1" if len(match[1]) == 1 else "")) * UNITS[unit]
        position = match.end()
    return moment


@dataclass(frozen=True, slots=True)
class Event:
    """One event or data point; its fields are extracted when a search reads it, as in splunkd."""

    time: float
    index: str
    given: Mapping[str, str]
    """Metadata and indexed fields."""
    raw: str | None = None

    def row(self) -> dict[str, str]:
        if self.raw is None:
            return dict(self.given)
        head = {
            "_time": time_text(self.time),
            "index": self.index,
            "_raw": self.raw,
            "linecount": str(self.raw.count("\n") + 1),
            "splunk_server": "standin",
        }
        found = _extracted(self.raw)
        for name, value in self.given.items():
            # A field that is indexed and extracted from the event's text has both values.
            found[name] = f"{value}\n{found[name]}" if name in found and name not in FIRST_FIELDS else value
        return {**head, **found}


def time_text(moment: float) -> str:
    return f"{moment:.3f}"


class EventStore:
    """Events by index, newest first; metric data points beside them."""

    def __init__(self) -> None:
        self._events: dict[str, list[Event]] = {"main": [], "_internal": []}
        self._metrics: dict[str, list[Event]] = {}
        self._lock = threading.Lock()

    def create(self, index: str, *, metrics: bool = False) -> None:
        with self._lock:
            (self._metrics if metrics else self._events).setdefault(index, [])

    @property
    def indexes(self) -> dict[str, str]:
        return {**dict.fromkeys(self._events, "event"), **dict.fromkeys(self._metrics, "metric")}

    def add(
        self,
        event: str | Mapping[str, Any],
        *,
        index: str = "main",
        time_s: float | None = None,
        host: str = "standin",
        source: str = "standin",
        sourcetype: str = "_json",
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """Store one event; a dict, or text that is a JSON object, has its keys extracted as fields."""
        now = time.time()
        raw = (
            event if isinstance(event, str) else json.dumps(event, separators=(",", ":"), ensure_ascii=False)
        )
        given = {"host": host, "source": source, "sourcetype": sourcetype, "_indextime": str(int(now))}
        given.update({k: text(v) for k, v in (fields or {}).items()})
        with self._lock:
            self._events.setdefault(index, []).append(
                Event(now if time_s is None else time_s, index, given, raw)
            )

    def add_many(
        self, events: Iterable[Mapping[str, Any]], *, index: str = "main", time_field: str = "_time"
    ) -> None:
        """Store many events at once; `time_field` of each, if there, is its time."""
        for event in events:
            moment = event.get(time_field)
            body = {k: v for k, v in event.items() if k != time_field}
            self.add(body, index=index, time_s=float(moment) if moment is not None else None)

    def add_metric(
        self,
        name: str,
        value: float,
        *,
        index: str,
        time_s: float | None = None,
        dims: Mapping[str, str] | None = None,
    ) -> None:
        moment = time.time() if time_s is None else time_s
        row = {
            "_time": time_text(moment),
            "index": index,
            "metric_name": name,
            "_value": text(value),
            **(dims or {}),
        }
        with self._lock:
            self._metrics.setdefault(index, []).append(Event(moment, index, row))

    def between(self, earliest: float, latest: float, *, metrics: bool = False) -> list[Event]:
        with self._lock:
            stored = self._metrics if metrics else self._events
            found = [
                e
                # The newest of one second first as well: sorting keeps the order of equals.
                for events in stored.values()
                for e in reversed(events)
                if e.time >= earliest and (not latest or e.time < latest)
            ]
        found.sort(key=lambda e: e.time, reverse=True)
        return found


def _extracted(raw: str) -> dict[str, str]:
    """Search-time extraction: a JSON object's keys (nested with dots), else key=value pairs."""
    if raw.lstrip().startswith("{"):
        try:
            return _flat(json.loads(raw))
        except ValueError:
            pass
    pairs = re.findall(r'(?<![\w.])([A-Za-z_][\w.]*)=("(?:[^"\\]|\\.)*"|[^\s,;"]+)', raw)
    return {k: v.strip('"') for k, v in pairs}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, item in value.items():
        name = prefix + key
        if isinstance(item, Mapping):
            found.update(_flat(item, name + "."))
        elif isinstance(item, list):
            found[name + "{}"] = "\n".join(text(x) for x in item)
        elif isinstance(item, bool):
            found[name] = "true" if item else "false"
        else:
            found[name] = text(item)
    return found


def time_range(context: SearchContext, equals: Mapping[str, str]) -> tuple[float, float]:
    """`earliest=` and `latest=` in the search win over the job's."""
    earliest = parse_time(equals.get("earliest"), context.now) if "earliest" in equals else context.earliest
    latest = parse_time(equals.get("latest"), context.now) if "latest" in equals else context.latest
    return earliest, latest


_TIME_TERMS = re.compile(r'(?<!\S)(earliest|latest)\s*=\s*("[^"]*"|\S+)')


def without_time(command_text: str) -> tuple[str, dict[str, str]]:
    given = {m[1]: m[2].strip('"') for m in _TIME_TERMS.finditer(command_text)}
    return _TIME_TERMS.sub("", command_text), given


def search_events_stage(context: SearchContext, command: Command) -> Stage:
    """`search index=x ...` as the first command: events of the time range, newest first.

    Without `index=` it reads `main`, the default index of a new installation (authorize.conf srchIndexesDefault).
    """
    body, given = without_time(command.text)
    terms = parse_terms(body)
    earliest, latest = time_range(context, given)
    names_index = "index" in terms.fields

    def run(_: Chunks) -> Chunks:
        rows: list[dict[str, str]] = []
        for event in context.events.between(earliest, latest):
            if not names_index and event.index != "main":
                continue
            if event.index.startswith("_") and not names_index:
                continue
            row = event.row()
            if terms.test(lambda name, row=row: row.get(name, "")):
                rows.append(row)
                if len(rows) == context.config.chunk_rows:
                    yield _event_table(rows)
                    rows = []
        yield _event_table(rows)

    return run


def _event_table(rows: list[dict[str, str]]) -> Table:
    names = list(dict.fromkeys([*FIRST_FIELDS, *(k for row in rows for k in row)])) if rows else []
    columns = {n: [row.get(n, "") for row in rows] for n in names}
    if rows:
        columns["_serial"] = [str(i) for i in range(len(rows))]
    return Table(columns, len(rows))
