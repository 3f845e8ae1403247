"""Rows drawn from a training profile, where the rows themselves were not kept.

Each field is drawn by itself: ranges and frequencies are right, what belongs together in real rows is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from kepler.core.profile import QUANTILES, FieldProfile
from kepler.core.records import Column, NumberColumn, RecordBatch, TextColumn


def sample_rows(
    profile: Mapping[str, FieldProfile], fields: Iterable[str], n_rows: int, seed: int = 0
) -> RecordBatch:
    """``n_rows`` rows of ``fields``; those without a profile are left out. The same seed gives the same rows."""
    columns: dict[str, Column] = {}
    for place, name in enumerate(fields):
        found = profile.get(name)
        if found is None:
            continue
        rng = np.random.default_rng([seed, place])
        columns[name] = _numbers(found, n_rows, rng) if found.kind == "number" else _texts(found, n_rows, rng)
    return RecordBatch(columns, n_rows)


def _numbers(profile: FieldProfile, n_rows: int, rng: np.random.Generator) -> NumberColumn:
    inner = profile.quantiles if len(profile.quantiles) == len(QUANTILES) else ()
    places = (0.0, *(QUANTILES if inner else ()), 1.0)
    values = np.interp(rng.random(n_rows), places, (profile.min, *inner, profile.max))
    if inner and all(float(value).is_integer() for value in inner):  # a count or a code
        values = np.round(values)
    values[_missing(profile, n_rows, rng)] = np.nan
    return NumberColumn(values)


def _texts(profile: FieldProfile, n_rows: int, rng: np.random.Generator) -> TextColumn:
    counts = np.array([count for _, count in profile.top], dtype=np.float64)
    if not counts.sum():
        return TextColumn(np.full(n_rows, -1, dtype=np.int32), ())
    codes = rng.choice(len(counts), size=n_rows, p=counts / counts.sum()).astype(np.int32)
    codes[_missing(profile, n_rows, rng)] = -1
    return TextColumn(codes, tuple(text for text, _ in profile.top))


def _missing(
    profile: FieldProfile, n_rows: int, rng: np.random.Generator
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return rng.random(n_rows) < profile.nulls / max(1, profile.count)
