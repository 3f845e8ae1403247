"""What the training rows looked like, per field: what drift is measured against later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kepler.core.checked_json import Section
from kepler.core.datasets import TrainingTable, WideText
from kepler.core.records import Bools, NumberColumn, TextColumn

QUANTILES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
TOP_CATEGORIES = 50
_SAMPLE_ROWS = 100_000  # quantiles of longer columns come from evenly spaced rows


@dataclass(frozen=True, slots=True)
class FieldProfile:
    """Counts over the rows that were sent. Numbers have moments and ``quantiles`` at `QUANTILES`; text has
    its most frequent values (``top``) and the number of ``distinct`` ones."""

    kind: str  # "number" or "text"
    count: int
    nulls: int
    mean: float = 0.0
    std: float = 0.0
    min: float = 0.0
    max: float = 0.0
    quantiles: tuple[float, ...] = ()
    distinct: int = 0
    top: tuple[tuple[str, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"kind": self.kind, "count": self.count, "nulls": self.nulls}
        if self.kind == "number":
            out |= {"mean": self.mean, "std": self.std, "min": self.min, "max": self.max}
            out["quantiles"] = list(self.quantiles)
        else:
            out |= {"distinct": self.distinct, "top": [{"value": text, "count": n} for text, n in self.top]}
        return out

    @classmethod
    def from_json(cls, section: Section) -> FieldProfile:
        kind = section.choice("kind", ("number", "text"))
        count, nulls = section.integer("count"), section.integer("nulls")
        if kind == "number":
            profile = cls(
                kind, count, nulls,
                section.number("mean"), section.number("std"), section.number("min"), section.number("max"),
                section.numbers("quantiles"),
            )  # fmt: skip
        else:
            top: list[tuple[str, int]] = []
            for item in section.sections("top", max_items=10_000):
                top.append((item.text("value"), item.integer("count")))
                item.done()
            profile = cls(kind, count, nulls, distinct=section.integer("distinct"), top=tuple(top))
        section.done()
        return profile


def profile_of(
    table: TrainingTable, fields: tuple[str, ...], rows: Bools | None = None
) -> dict[str, FieldProfile]:
    """Profiles of ``fields`` over ``rows`` of ``table`` (None: all)."""
    return {name: _profile(table, name, rows) for name in fields}


def _profile(table: TrainingTable, name: str, rows: Bools | None) -> FieldProfile:
    column = table.columns[name]
    if isinstance(column, NumberColumn):
        return _number(column if rows is None else NumberColumn(column.values[rows]))
    if isinstance(column, WideText):
        missing = column.missing if rows is None else column.missing[rows]
        return FieldProfile("text", len(missing), int(np.count_nonzero(missing)))
    return _text(column if rows is None else TextColumn(column.codes[rows], column.categories))


def _number(column: NumberColumn) -> FieldProfile:
    missing = np.isnan(column.values)
    nulls = int(np.count_nonzero(missing))
    known = column.values[~missing] if nulls else column.values
    if not len(known):
        return FieldProfile("number", len(column), nulls)
    step = -(-len(known) // _SAMPLE_ROWS)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(known.mean()), float(known.std())
        quantiles = tuple(float(value) for value in np.quantile(known[::step], QUANTILES))
    low, high = float(known.min()), float(known.max())
    if not all(np.isfinite([mean, std, *quantiles])):  # values near the end of float64
        return FieldProfile("number", len(column), nulls, min=low, max=high)
    return FieldProfile("number", len(column), nulls, mean, std, low, high, quantiles)


def _text(column: TextColumn) -> FieldProfile:
    nulls = int(np.count_nonzero(column.codes < 0))
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.categories))
    ranked = sorted(((-int(n), text) for text, n in zip(column.categories, counts, strict=True) if n))
    top = tuple((text, -n) for n, text in ranked[:TOP_CATEGORIES])
    return FieldProfile("text", len(column), nulls, distinct=len(ranked), top=top)
