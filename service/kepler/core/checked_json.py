"""Reads JSON that came from outside: only the keys we know, of the types and sizes we expect.

A `Section` hands out each key once; `Section.done` refuses what nobody asked for. Every refusal is an
`InvalidInput` that names the place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from kepler.core.errors import InvalidInput

MAX_TEXT = 65_536
MAX_ITEMS = 1_000_000
MAX_CHARS = 64 * 1024 * 1024

T = TypeVar("T")
_ABSENT: Any = object()


def parse_object(text: str, what: str, max_chars: int = MAX_CHARS) -> Section:
    """Parse ``text`` as one JSON object; ``what`` names it in errors. NaN and infinities are refused."""
    if len(text) > max_chars:
        raise InvalidInput(f"{what} is larger than {max_chars:,} characters")
    try:
        value: Any = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} is not valid JSON", cause=str(error)[:200]) from error
    return Section(value, what)


def _refuse_constant(token: str) -> float:
    raise ValueError(f"{token} is not a JSON number")


def canonical(value: Mapping[str, Any]) -> bytes:
    """The one way to write ``value`` as bytes: sorted keys, no spaces, UTF-8. What signatures cover."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


class Section:
    """One JSON object on its way in."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise InvalidInput(f"{where} is not a JSON object")
        self._values: dict[str, Any] = dict(cast("dict[str, Any]", value))
        self.where = where

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def _take(self, key: str, default: Any) -> Any:
        if key in self._values:
            return self._values.pop(key)
        if default is _ABSENT:
            raise InvalidInput(f"{self.where} lacks {key!r}")
        return default

    def _wrong(self, key: str, expected: str) -> InvalidInput:
        return InvalidInput(f"{self.where}: {key!r} is not {expected}")

    def text(self, key: str, default: str = _ABSENT, *, max_chars: int = MAX_TEXT) -> str:
        value = self._take(key, default)
        if not isinstance(value, str) or len(value) > max_chars:
            raise self._wrong(key, f"a text of at most {max_chars:,} characters")
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str:
        value = self.text(key)
        if value not in choices:
            raise self._wrong(key, "one of " + ", ".join(choices))
        return value

    def flag(self, key: str, default: bool = _ABSENT) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def integer(self, key: str, default: int = _ABSENT, *, low: int = 0, high: int = 2**63 - 1) -> int:
        value = self._take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, default: float = _ABSENT) -> float:
        return self._number(key, self._take(key, default))

    def number_or_none(self, key: str, default: float | None = _ABSENT) -> float | None:
        value = self._take(key, default)
        return None if value is None else self._number(key, value)

    def _number(self, key: str, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self._wrong(key, "a finite number")
        return float(value)

    def text_or_none(self, key: str) -> str | None:
        value = self._take(key, _ABSENT)
        if value is not None and (not isinstance(value, str) or len(value) > MAX_TEXT):
            raise self._wrong(key, "a text or null")
        return value

    def items(self, key: str, default: Sequence[Any] = _ABSENT, *, max_items: int = MAX_ITEMS) -> list[Any]:
        value = self._take(key, default)
        if not isinstance(value, list | tuple) or len(cast("list[Any]", value)) > max_items:
            raise self._wrong(key, f"a list of at most {max_items:,} items")
        return list(cast("list[Any]", value))

    def texts(self, key: str, default: Sequence[str] = _ABSENT) -> tuple[str, ...]:
        values = self.items(key, default)
        if not all(isinstance(value, str) and len(value) <= MAX_TEXT for value in values):
            raise self._wrong(key, "a list of texts")
        return tuple(values)

    def numbers(self, key: str, default: Sequence[float] = _ABSENT) -> tuple[float, ...]:
        return tuple(self._number(key, value) for value in self.items(key, default))

    def rows(self, key: str, *, max_items: int = MAX_ITEMS) -> tuple[tuple[float | None, ...], ...]:
        """A list of lists of numbers, null where a number is missing."""
        rows: list[tuple[float | None, ...]] = []
        for row in self.items(key, max_items=max_items):
            if not isinstance(row, list) or len(cast("list[Any]", row)) > max_items:
                raise self._wrong(key, "a list of lists of numbers")
            cells = cast("list[Any]", row)
            rows.append(tuple(None if cell is None else self._number(key, cell) for cell in cells))
        return tuple(rows)

    def section(self, key: str) -> Section:
        return Section(self._take(key, _ABSENT), f"{self.where}.{key}")

    def sections(self, key: str, *, max_items: int = MAX_ITEMS) -> Iterator[Section]:
        for index, value in enumerate(self.items(key, max_items=max_items)):
            yield Section(value, f"{self.where}.{key}[{index}]")

    def mapping(
        self, key: str, read: Callable[[Section, str], T], *, max_items: int = MAX_ITEMS
    ) -> dict[str, T]:
        """An object with free keys; ``read(section, name)`` reads each value out of ``section``."""
        inner = self.section(key)
        names = list(inner._values)
        if len(names) > max_items or any(len(name) > MAX_TEXT for name in names):
            raise self._wrong(key, f"an object of at most {max_items:,} keys")
        return {name: read(inner, name) for name in names}

    def text_map(self, key: str, *, max_items: int = 10_000) -> dict[str, str]:
        return self.mapping(key, lambda inner, name: inner.text(name), max_items=max_items)

    def number_map(self, key: str, *, max_items: int = 10_000) -> dict[str, float]:
        return self.mapping(key, lambda inner, name: inner.number(name), max_items=max_items)

    def scalars(self, key: str, *, max_items: int = 1_000) -> dict[str, Any]:
        """An object whose values are JSON scalars or flat lists of them, such as hyperparameters."""
        return self.mapping(key, lambda inner, name: inner._scalar(name), max_items=max_items)

    def _scalar(self, key: str) -> Any:
        value = self._take(key, _ABSENT)
        cells = cast("list[Any]", value) if isinstance(value, list) else [value]
        for cell in cells:
            if not (cell is None or isinstance(cell, bool | int | float | str)):
                raise self._wrong(key, "a scalar or a list of scalars")
        return cast("Any", value)

    def done(self) -> None:
        """Raise when keys are left that nobody asked for."""
        if self._values:
            unknown = ", ".join(repr(key[:60]) for key in sorted(self._values)[:5])
            raise InvalidInput(
                f"{self.where} has unknown keys: {unknown}",
                cause="It was written by a newer version, or it was changed.",
            )
