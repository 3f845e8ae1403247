"""JSON payloads as readings: objects, arrays of them, arrays of numbers, single values. Hostile until checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from kepler_edge.errors import InvalidInput
from kepler_edge.reading import Reading

MAX_BYTES = 256 << 10
MAX_FIELDS = 1_000
MAX_READINGS = 1_000
MAX_TEXT = 4_096
MAX_DEPTH = 4
_TIMES = ("ts", "timestamp", "time")


def readings_of(
    payload: bytes, source: str, *, field: str = "value", names: Sequence[str] = (), ts_field: str = ""
) -> list[Reading]:
    """Readings in ``payload``.

    Parameters
    ----------
    payload
        UTF-8 JSON of at most 256 KiB. Nested objects become ``outer.inner``; arrays inside them are left out.
    source
        Of the readings.
    field
        Name of a value that comes alone.
    names
        Names of the values of an array; by default ``0``, ``1``, ...
    ts_field
        Field that says when, in seconds or milliseconds since the epoch; by default ``ts``, ``timestamp`` or ``time``
        where that holds a number.

    Raises
    ------
    InvalidInput
        For anything else.
    """
    if len(payload) > MAX_BYTES:
        raise InvalidInput(f"A payload has {len(payload):,} bytes and may have {MAX_BYTES:,}")
    try:
        value: Any = json.loads(payload.decode(), parse_constant=_nothing)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("A payload is no JSON", cause=str(error)[:100]) from error
    if isinstance(value, list):
        cells = cast("list[Any]", value)
        if cells and all(isinstance(cell, dict) for cell in cells):
            if len(cells) > MAX_READINGS:
                raise InvalidInput(f"A payload has more than {MAX_READINGS} readings")
            return [_reading(cast("dict[str, Any]", cell), source, ts_field) for cell in cells]
        if len(cells) > MAX_FIELDS:
            raise InvalidInput(f"A payload has more than {MAX_FIELDS} values")
        named = {names[at] if at < len(names) else str(at): cell for at, cell in enumerate(cells)}
        return [_reading(named, source, ts_field)] if named else []
    if isinstance(value, dict):
        return [_reading(cast("dict[str, Any]", value), source, ts_field)]
    return [_reading({field: value}, source, "")]


def _nothing(token: str) -> None:
    """NaN and infinities of careless senders are missing values."""


def _reading(values: Mapping[str, Any], source: str, ts_field: str) -> Reading:
    fields: dict[str, object] = {}
    _flatten(values, "", fields, MAX_DEPTH)
    return Reading(source, fields, time_in(fields, ts_field))


def _flatten(values: Mapping[str, Any], prefix: str, into: dict[str, object], depth: int) -> None:
    for name, value in values.items():
        full = prefix + name
        if isinstance(value, dict):
            if depth > 1:
                _flatten(cast("dict[str, Any]", value), full + ".", into, depth - 1)
        elif not isinstance(value, list):
            if len(into) >= MAX_FIELDS or len(full) > 500:
                raise InvalidInput(f"A reading has more than {MAX_FIELDS} fields, or a name that is too long")
            into[full] = value[:MAX_TEXT] if isinstance(value, str) else value


def time_in(fields: Mapping[str, object], ts_field: str) -> float | None:
    """When the reading was taken, seconds since the epoch; None where it does not say."""
    for name in (ts_field,) if ts_field else _TIMES:
        value = fields.get(name)
        if isinstance(value, str) and ts_field:
            try:
                value = float(value)
            except ValueError:
                continue
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e20:
            seconds = float(value)
            while seconds > 1e11:  # milli-, micro- or nanoseconds: no clock is in the year 5138
                seconds /= 1000
            return seconds if math.isfinite(seconds) else None
    return None
