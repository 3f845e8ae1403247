"""Means of the target per category, smoothed, and out of fold for the rows they were learned from.

A category with few rows is pulled towards the mean over all rows: ``(sum + m * mean) / (count + m)`` with
m = 10 rows (Micci-Barreca 2001, "A Preprocessing Scheme for High-Cardinality Categorical Attributes").
Training rows get the means of the four fifths they are not in, so that no row sees its own target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kepler.core.records import Int32

SMOOTHING_ROWS = 10.0
FOLDS = 5

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TargetMeans:
    """Targets (n_rows, width) of the training rows; ``labels`` name the columns when there are several."""

    values: Float64
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, y: npt.NDArray[np.generic], classes: tuple[str, ...]) -> TargetMeans:
        """From class indices (with ``classes``) or numbers."""
        if not classes:
            return cls(np.asarray(y, dtype=np.float64)[:, None])
        if len(classes) <= 2:
            return cls((np.asarray(y) == len(classes) - 1).astype(np.float64)[:, None])
        hot = np.asarray(y)[:, None] == np.arange(len(classes))[None, :]
        return cls(hot.astype(np.float64), classes)

    def encode(self, codes: Int32, n_categories: int) -> tuple[Float64, Float64]:
        """Means (n_categories, width) and the mean over all rows (width,). Codes below 0 count only there."""
        return _means(codes, self.values, n_categories)

    def out_of_fold(self, codes: Int32, n_categories: int, seed: int) -> Float64:
        """Each row's encoding (n_rows, width) learned without the row's own fifth."""
        fold = np.random.default_rng(seed).permutation(len(codes)) % FOLDS
        out = np.empty_like(self.values)
        for k in range(FOLDS):
            mine = fold == k
            means, default = _means(codes[~mine], self.values[~mine], n_categories)
            table = np.vstack([means, default])
            out[mine] = table[np.where(codes[mine] < 0, n_categories, codes[mine])]
        return out


def _means(codes: Int32, values: Float64, n_categories: int) -> tuple[Float64, Float64]:
    default = values.mean(axis=0) if len(values) else np.zeros(values.shape[1])
    known = codes >= 0
    counts = np.bincount(codes[known], minlength=n_categories).astype(np.float64)
    sums = np.column_stack(
        [
            np.bincount(codes[known], weights=values[known, column], minlength=n_categories)
            for column in range(values.shape[1])
        ]
    )
    means = (sums + SMOOTHING_ROWS * default) / (counts + SMOOTHING_ROWS)[:, None]
    return means, default
