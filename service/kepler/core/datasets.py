"""The rows of one training as columns, and which fields of a header a training means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from kepler.core.errors import InvalidInput, nearest
from kepler.core.patterns import matches
from kepler.core.records import Bools, Column, Float64, NumberColumn, TextColumn

MAX_TRACKED_DISTINCT = 20_000  # distinct texts of one field that are worth keeping in memory


@dataclass(frozen=True, slots=True)
class WideText:
    """Text with more than `MAX_TRACKED_DISTINCT` distinct values: only which rows lack it is kept."""

    missing: Bools
    example: str = ""

    def __len__(self) -> int:
        return len(self.missing)


@dataclass(frozen=True, slots=True)
class NumberBlock:
    """Columns of numbers that lie in one piece: ``values`` (n_fields, n_rows) float64, finite or NaN.

    `NumberColumn` s of a table are its rows. The matrix of a training of numbers alone is made in its place.
    """

    fields: tuple[str, ...]
    values: Float64


@dataclass(slots=True)
class TrainingTable:
    """All rows of a training, only the fields it uses. Columns may be taken out to free memory.

    ``infinite`` counts values such as "inf" per field: they were read as missing. ``bad_numbers`` holds
    one example of a text per field that is not a number.
    """

    columns: dict[str, Column | WideText]
    n_rows: int
    infinite: dict[str, int] = field(default_factory=dict[str, int])
    bad_numbers: dict[str, str] = field(default_factory=dict[str, str])
    block: NumberBlock | None = None

    def missing(self, name: str) -> Bools:
        return self.columns[name].missing


def is_internal(name: str) -> bool:
    """Fields that ``*`` never means: Splunk's own (``_time``, ``_raw``) and multivalue shadows."""
    return name.startswith("_")


def expand_fields(
    patterns: Sequence[str], header: Sequence[str], *, exclude: Iterable[str] = ()
) -> tuple[str, ...]:
    """The names in ``header`` that ``patterns`` mean, in the order of the patterns, each once.

    ``*`` stands for any run of characters. A pattern never means an internal field nor one in
    ``exclude``; an exact name may mean an internal one. Raises `InvalidInput` for an exact name that is
    not there, naming the nearest, and when a pattern or all of them together mean nothing.

    >>> expand_fields(["b", "SS_*"], ["_time", "SS_b", "a", "b", "SS_a"])
    ('b', 'SS_b', 'SS_a')
    """
    present = set(header)
    banned = set(exclude)
    picked: dict[str, None] = {}
    for pattern in patterns:
        if pattern in present:
            if pattern in banned:
                raise InvalidInput(
                    f"Field {pattern!r} is both the target and a feature", fix="Leave it out after `from`."
                )
            picked[pattern] = None
        elif "*" in pattern:
            own = pattern.startswith("_") and not pattern.startswith("__mv_")
            hits = [
                name
                for name in header
                if name not in banned
                and not name.startswith("__mv_")
                and (own or not is_internal(name))
                and matches(pattern, name)
            ]
            if not hits:
                raise InvalidInput(f"No field matches {pattern!r}", fix=_present(header))
            picked.update(dict.fromkeys(hits))
        else:
            raise missing_field(pattern, header)
    if not picked:
        raise InvalidInput("No field to learn from is named", fix="Name fields, or * for all of them.")
    return tuple(picked)


def missing_field(name: str, header: Sequence[str]) -> InvalidInput:
    """The error for a field that the rows lack."""
    close = nearest(name, [item for item in header if not item.startswith("__mv_")])
    fix = f"Did you mean {', '.join(repr(item) for item in close)}?" if close else "The rows have no fields."
    return InvalidInput(f"Field {name!r} is not in the rows", fix=fix)


def _present(header: Sequence[str]) -> str:
    names = [name for name in header if not is_internal(name)]
    shown = ", ".join(repr(name) for name in names[:8])
    return (
        f"The rows have {shown}{' and more' if len(names) > 8 else ''}."
        if names
        else "The rows have no fields."
    )


def text_column(values: Sequence[str | None]) -> TextColumn:
    """A column out of plain texts, None or empty where missing. For small data and tests.

    >>> text_column(["b", "", "a", "b"]).categories
    ('b', 'a')
    """
    index: dict[str, int] = {}
    codes = [index.setdefault(value, len(index)) if value else -1 for value in values]
    return TextColumn(np.asarray(codes, dtype=np.int32), tuple(index))


def number_column(values: Sequence[float | None]) -> NumberColumn:
    """A column out of plain numbers, None where missing."""
    return NumberColumn(
        np.asarray([np.nan if value is None else value for value in values], dtype=np.float64)
    )
