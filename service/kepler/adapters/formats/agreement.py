"""Does a written file answer as the estimator does? Checked on training rows and on a grid.

Random rows miss what goes wrong in conversions: values that lie exactly on a split, missing values,
categories never seen, extremes. The grid puts each of them, one column at a time, into real rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kepler.adapters.formats.writers import Written
from kepler.core.algorithms import Matrix, RawScores

TOLERANCE = 1e-6
TIE = 1e-9
SAMPLE_ROWS = 2_000
GRID_ROWS = 6_000
SEED = 20_240_229

Score = Callable[[Matrix], RawScores]


@dataclass(frozen=True, slots=True)
class Agreement:
    """``largest`` difference relative to max(1, |value|) over ``rows``; ``reason`` is empty when they agree."""

    largest: float
    rows: int
    reason: str = ""


def check_agreement(native: Score, written: Score, sample: Matrix, hints: Written) -> Agreement:
    """Compare ``native`` and ``written`` on ``sample`` and on the grid around it."""
    rng = np.random.default_rng(SEED)
    rows = _pick(sample, SAMPLE_ROWS, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        missing = _takes_missing(native, rows)
    grid = grid_rows(rows, hints.thresholds, rng, missing=missing)
    every: Any = np.concatenate([rows, grid]) if len(grid) else rows
    if not len(every):
        return Agreement(0.0, 0, "there are no rows to check it on")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # the grid is meant to be odd; what counts is that both answer alike
        try:
            expected = native(every)
        except ValueError:  # an estimator may refuse values it never met; then only real rows can be compared
            every = rows
            expected = native(every)
        return compare(expected, written(every), hints.boundary)


def compare(expected: RawScores, got: RawScores, boundary: float | None = None) -> Agreement:
    """Numbers within `TOLERANCE`; labels, clusters and signs equal, but for ties of the estimator itself.

    A tie is a row whose two likeliest classes, or whose score and boundary, are closer than rounding.
    """
    rows = len(next(iter(expected.values())))
    if set(expected) != set(got):
        return Agreement(np.inf, rows, f"it gives {sorted(got)} in place of {sorted(expected)}")
    largest, reason = 0.0, ""
    ties = _ties(expected, boundary, rows)
    for key, value in expected.items():
        other = got[key]
        if other.shape != value.shape:
            return Agreement(np.inf, rows, f"{key} has shape {other.shape}, not {value.shape}")
        if np.issubdtype(value.dtype, np.integer):
            wrong = int(((value != other) & ~ties).sum())
            if wrong:
                reason = reason or f"{wrong} of {rows} checked rows have another {key}"
            continue
        difference = relative_difference(value, other)
        largest = max(largest, difference)
        if not difference <= TOLERANCE:
            reason = reason or f"{key} differs by up to {difference:.3g}"
    return Agreement(largest, rows, reason)


def relative_difference(expected: npt.NDArray[np.float64], got: npt.NDArray[np.float64]) -> float:
    """Largest |difference| / max(1, |expected|); equal infinities and NaN in the same place are equal."""
    expected, got = np.asarray(expected, np.float64), np.asarray(got, np.float64)
    same = (expected == got) | (np.isnan(expected) & np.isnan(got))
    if same.all():
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(expected - got) / np.maximum(1.0, np.abs(expected))
    difference[same] = 0.0
    return float("inf") if np.isnan(difference).any() else float(difference.max())


def _ties(expected: RawScores, boundary: float | None, rows: int) -> npt.NDArray[np.bool_]:
    if boundary is not None and "score" in expected:
        return np.asarray(np.abs(expected["score"] - boundary) < TIE)
    if "probabilities" in expected and expected["probabilities"].shape[1] > 1:
        top = np.sort(expected["probabilities"], axis=1)
        return np.asarray(top[:, -1] - top[:, -2] < TIE)
    return np.zeros(rows, dtype=np.bool_)


def _takes_missing(native: Score, rows: Matrix) -> bool:
    if not len(rows):
        return False
    probe = rows[:1].copy()
    probe[:] = np.nan
    try:
        native(probe)
    except ValueError:  # how scikit-learn refuses NaN
        return False
    return True


def _pick(rows: Matrix, limit: int, rng: np.random.Generator) -> Matrix:
    if len(rows) <= limit:
        return rows
    return rows[np.sort(rng.choice(len(rows), limit, replace=False))]


def grid_rows(
    rows: Matrix, thresholds: dict[int, npt.NDArray[np.float64]], rng: np.random.Generator, *, missing: bool
) -> Matrix:
    """Real rows with one value replaced: by a split value and its neighbours, an extreme, 0, 1, or nothing."""
    if not len(rows) or not rows.shape[1]:
        return rows[:0]
    width = rows.shape[1]
    per_column = max(12, GRID_ROWS // width)
    columns: list[npt.NDArray[np.int64]] = []
    values: list[Matrix] = []
    for column in range(width):
        special = _special(rows[:, column], thresholds.get(column), per_column, rng, missing)
        columns.append(np.full(len(special), column, dtype=np.int64))
        values.append(special)
    where, what = np.concatenate(columns), np.concatenate(values)
    if len(where) > 4 * GRID_ROWS:  # very wide sets: every column keeps its chance
        kept = np.sort(rng.choice(len(where), 4 * GRID_ROWS, replace=False))
        where, what = where[kept], what[kept]
    grid: Any = rows[rng.integers(0, len(rows), len(where))].copy()
    grid[np.arange(len(where)), where] = what
    if missing:
        blank = np.full((1, width), np.nan, dtype=rows.dtype)
        grid = np.concatenate([grid, blank])
    return grid


def _special(
    column: Matrix,
    splits: npt.NDArray[np.float64] | None,
    limit: int,
    rng: np.random.Generator,
    missing: bool,
) -> Matrix:
    known = column[np.isfinite(column)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    reach = max(1.0, high - low)
    # An unseen category leaves a row of zeros in its one-hot columns: 0 and 1 stand for that.
    fixed = [0.0, 1.0, -1.0, low, high, low - reach, high + reach, low - 1e3 * reach, high + 1e3 * reach]
    parts: list[Any] = [np.asarray(fixed, dtype=column.dtype)]
    if missing:
        parts.append(np.asarray([np.nan, np.nan], dtype=column.dtype))
    if splits is not None and len(splits):
        chosen = np.unique(splits)
        most = max(1, (limit - len(fixed)) // 3)
        if len(chosen) > most:
            chosen = rng.choice(chosen, most, replace=False)
        at = chosen.astype(column.dtype)
        parts += [at, np.nextafter(at, -np.inf, dtype=at.dtype), np.nextafter(at, np.inf, dtype=at.dtype)]
    return np.concatenate(parts)
