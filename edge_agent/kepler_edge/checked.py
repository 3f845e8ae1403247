"""Reads JSON that came from outside: only the keys we know, of the types and sizes we expect."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from kepler_edge.errors import InvalidInput

MAX_TEXT = 65_536
MAX_ITEMS = 1_000_000

T = TypeVar("T")
_ABSENT: Any = object()


def parse_object(data: bytes, what: str, max_bytes: int) -> Section:
    """``data`` as one JSON object. NaN, infinities and keys that come twice are refused."""
    if len(data) > max_bytes:
        raise InvalidInput(f"{what} is larger than {max_bytes:,} bytes")
    try:
        value: Any = json.loads(data.decode(), parse_constant=_refuse, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} is not valid JSON", cause=str(error)[:200]) from error
    return Section(value, what)


def _refuse(token: str) -> float:
    raise ValueError(f"{token} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key comes twice")
    return made


class Section:
    """One JSON object on its way in. Each key is handed out once; `done` refuses what nobody asked for."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise InvalidInput(f"{where} is not a JSON object")
        self._values: dict[str, Any] = dict(cast("Mapping[str, Any]", value))
        self.where = where

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def take(self, key: str, default: Any = _ABSENT) -> Any:
        """The value as it is."""
        if key in self._values:
            return self._values.pop(key)
        if default is _ABSENT:
            raise InvalidInput(f"{self.where} lacks {key!r}")
        return default

    def _wrong(self, key: str, expected: str) -> InvalidInput:
        return InvalidInput(f"{self.where}: {key[:60]!r} is not {expected}")

    def text(self, key: str, default: str = _ABSENT, *, max_chars: int = MAX_TEXT) -> str:
        value = self.take(key, default)
        if not isinstance(value, str) or len(value) > max_chars:
            raise self._wrong(key, f"a text of at most {max_chars:,} characters")
        return value

    def text_or_none(self, key: str) -> str | None:
        return None if self._values.get(key, "") is None and self.take(key) is None else self.text(key)

    def choice(self, key: str, choices: Sequence[str]) -> str:
        value = self.text(key)
        if value not in choices:
            raise self._wrong(key, "one of " + ", ".join(choices))
        return value

    def flag(self, key: str, default: bool = _ABSENT) -> bool:
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def integer(self, key: str, default: int = _ABSENT, *, low: int = 0, high: int = 2**53 - 1) -> int:
        value = self.take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, f"a whole number from {low} to {high}")
        return value

    def number(
        self, key: str, default: float = _ABSENT, *, low: float = -math.inf, high: float = math.inf
    ) -> float:
        value = _number(self.take(key, default))
        if value is None or not low <= value <= high:
            raise self._wrong(key, "a finite number in its range")
        return value

    def number_or_none(self, key: str) -> float | None:
        return None if self._values.get(key, 0) is None and self.take(key) is None else self.number(key)

    def items(self, key: str, default: Sequence[Any] = _ABSENT, *, max_items: int = MAX_ITEMS) -> list[Any]:
        value = self.take(key, default)
        if not isinstance(value, list | tuple) or len(cast("Sequence[Any]", value)) > max_items:
            raise self._wrong(key, f"a list of at most {max_items:,} items")
        return list(cast("Sequence[Any]", value))

    def texts(self, key: str, *, max_items: int = MAX_ITEMS) -> tuple[str, ...]:
        values = self.items(key, max_items=max_items)
        if not all(isinstance(value, str) and len(value) <= MAX_TEXT for value in values):
            raise self._wrong(key, "a list of texts")
        return tuple(values)

    def numbers(self, key: str, *, max_items: int = MAX_ITEMS) -> tuple[float, ...]:
        found = [_number(value) for value in self.items(key, max_items=max_items)]
        if any(value is None for value in found):
            raise self._wrong(key, "a list of finite numbers")
        return tuple(value for value in found if value is not None)

    def rows(self, key: str, *, max_items: int = MAX_ITEMS) -> tuple[tuple[float, ...], ...]:
        """A list of lists of numbers; NaN where one is null."""
        rows: list[tuple[float, ...]] = []
        for row in self.items(key, max_items=max_items):
            cells = cast("list[Any]", row) if isinstance(row, list) else [""]
            numbers = [math.nan if cell is None else _number(cell) for cell in cells]
            if any(number is None for number in numbers):
                raise self._wrong(key, "a list of lists of numbers")
            rows.append(tuple(number for number in numbers if number is not None))
        return tuple(rows)

    def section(self, key: str) -> Section:
        return Section(self.take(key), f"{self.where}.{key}")

    def optional(self, key: str) -> Section:
        """`section`, empty where the key is absent."""
        return Section(self.take(key, {}), f"{self.where}.{key}")

    def sections(
        self, key: str, default: Sequence[Any] = _ABSENT, *, max_items: int = MAX_ITEMS
    ) -> list[Section]:
        found = self.items(key, default, max_items=max_items)
        return [Section(value, f"{self.where}.{key}[{index}]") for index, value in enumerate(found)]

    def mapping(
        self, key: str, read: Callable[[Section, str], T], *, max_items: int = 10_000
    ) -> dict[str, T]:
        """An object with free keys; ``read(section, name)`` reads each value. Absent: an empty one."""
        inner = self.optional(key)
        names = list(inner._values)
        if len(names) > max_items or any(len(name) > MAX_TEXT for name in names):
            raise self._wrong(key, f"an object of at most {max_items:,} keys")
        return {name: read(inner, name) for name in names}

    def done(self) -> None:
        """Raise when keys are left that nobody asked for."""
        if self._values:
            unknown = ", ".join(repr(key[:60]) for key in sorted(self._values)[:5])
            raise InvalidInput(
                f"{self.where} has unknown keys: {unknown}",
                cause="It was written by a newer version, or it was changed.",
            )


def _number(value: object) -> float | None:
    """``value`` as a float, or None where it is no finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
