"""Events and metric points as the collector wants them: one JSON object a line."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from zlib import crc32

from kepler.core.errors import InvalidInput
from kepler.ports.hec import HecEvent, MetricPoint

SLOTS = 64  # sources are dealt to lanes by slot, so that the number of lanes may change between starts
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class Line:
    """One object, encoded: no line break stands in it."""

    source: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of one source, kept and sent together."""

    source: str
    slot: int
    events: int
    body: bytes


def event_lines(events: Iterable[HecEvent], index: str) -> Iterator[Line]:
    """Encode; raises `InvalidInput` for what is no JSON."""
    for event in events:
        event_id = event.event_id or uuid.uuid4().hex
        envelope: dict[str, Any] = {
            "time": round(event.time, 6),
            "source": event.source,
            "sourcetype": f"kepler:{event.kind.value}",
            "index": event.index or index,
            # Not as an indexed field too: a search would see it twice, as a multivalue.
            "event": {"event_id": "", **event.body} | {"event_id": event_id},
        }
        if event.host:
            envelope["host"] = event.host
        yield Line(event.source, _encoded(envelope))


def metric_lines(points: Iterable[MetricPoint], index: str) -> Iterator[Line]:
    """Points with several values each; values that are no finite numbers are left out."""
    for point in points:
        values = {
            f"metric_name:{name}": value for name, value in point.values.items() if math.isfinite(value)
        }
        if not values:
            continue
        envelope: dict[str, Any] = {
            "time": round(point.time, 6),
            "source": point.source,
            "index": index,
            "event": "metric",
            "fields": {**point.dimensions, **values},
        }
        if point.host:
            envelope["host"] = point.host
        yield Line(point.source, _encoded(envelope))


def blocks(lines: Iterable[Line], max_bytes: int, max_events: int) -> list[Block]:
    """Lines gathered by source, in order, into blocks within the bounds of one request.

    Raises `InvalidInput` for a line that is larger than a request may be.
    """
    by_source: dict[str, list[bytes]] = {}
    for line in lines:
        if len(line.data) > max_bytes:
            raise InvalidInput(
                f"An event of {len(line.data)} bytes is too large for Splunk",
                cause=f"One request may hold {max_bytes} bytes (hec.batch_kb).",
                fix="Send less in one event.",
            )
        by_source.setdefault(line.source, []).append(line.data)
    made: list[Block] = []
    for source, found in by_source.items():
        slot = crc32(source.encode()) % SLOTS
        for start, stop in pairwise(_cuts(found, max_bytes, max_events)):
            made.append(Block(source, slot, stop - start, b"\n".join(found[start:stop])))
    return made


def _cuts(lines: Sequence[bytes], max_bytes: int, max_events: int) -> Iterator[int]:
    yield 0
    size = count = 0
    for i, line in enumerate(lines):
        if count and (size + len(line) + 1 > max_bytes or count >= max_events):
            yield i
            size = count = 0
        size += len(line) + 1
        count += 1
    yield len(lines)


def _encoded(envelope: dict[str, Any]) -> bytes:
    try:
        return _ENCODER.encode(envelope).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            "An event for Splunk is no JSON",
            cause=str(error),
            fix="Use texts, finite numbers, lists and objects.",
        ) from error
