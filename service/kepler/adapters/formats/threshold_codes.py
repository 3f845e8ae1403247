"""Values of one feature as small whole numbers: how many of a forest's thresholds lie below each.

Comparing such codes with a threshold's rank gives the same answer as comparing the values with the
threshold, at an eighth of the bytes, and many comparisons share one code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.unsignedinteger[Any]]

_EVEN_BUCKETS = 1 << 14
_PER_OCTAVE = 7  # bits: 128 buckets from each power of two to the next
_OCTAVES = 48
_CROWDED_SHARE = 0.5  # of the thresholds; beyond it a binary search for every row costs less


class ThresholdCodes:
    """Codes of one feature.

    A table over buckets of the value's range holds the thresholds below each bucket and the one inside it,
    so that one comparison settles a row. Rows of buckets with several thresholds are searched. Bucket
    numbers never fall as values rise, whatever is rounded, so the codes are exact.

    Parameters
    ----------
    thresholds
        Distinct and ascending, at least one; at most 65,534.
    inclusive
        Whether a value equal to a threshold counts as above it (``x < t`` splits) or not (``x <= t``).
    """

    def __init__(self, thresholds: Floats, *, inclusive: bool) -> None:
        self.thresholds = thresholds
        self._above: Any = np.greater_equal if inclusive else np.greater
        self._side: Any = "right" if inclusive else "left"
        self.dtype = np.dtype(np.uint8 if len(thresholds) <= 254 else np.uint16)
        self.largest = np.iinfo(self.dtype).max  # no value has this code: the missing ones may
        self._map: _EvenBuckets | _OctaveBuckets | None = None
        maps = [kind(thresholds) for kind in (_EvenBuckets, _OctaveBuckets)]
        crowded, _, best = min((item.crowding(thresholds), at, item) for at, item in enumerate(maps))
        if crowded <= _CROWDED_SHARE * len(thresholds):
            self._map = best
            self._tabulate(best.place(thresholds), best.count)

    def _tabulate(self, places: npt.NDArray[np.intp], count: int) -> None:
        held = np.bincount(places, minlength=count)
        self._below = (np.cumsum(held) - held).astype(self.dtype)
        self._inside = np.full(count, np.nan)  # no value is above it
        self._inside[places] = self.thresholds
        self._crowded = held > 1
        self._any_crowded = bool(self._crowded.any())

    def of(self, values: Floats) -> Codes:
        """Codes (n_rows,) of ``values``, none of them NaN."""
        if self._map is None:
            return np.searchsorted(self.thresholds, values, side=self._side).astype(self.dtype)
        places = self._map.place(values)
        codes = self._below.take(places)
        np.add(codes, self._above(values, self._inside.take(places)), out=codes, casting="unsafe")
        if self._any_crowded:
            rows = np.flatnonzero(self._crowded.take(places))
            codes[rows] = np.searchsorted(self.thresholds, values[rows], side=self._side)
        return codes


class _EvenBuckets:
    """Buckets of one width from the first threshold to the last."""

    count = _EVEN_BUCKETS

    def __init__(self, thresholds: Floats) -> None:
        finite = thresholds[np.isfinite(thresholds)]
        self._low = float(finite[0]) if len(finite) else 0.0
        width = float(finite[-1]) - self._low if len(finite) else 0.0
        self._scale = (self.count - 1) / width if np.isfinite(width) and width > 1e-290 else 0.0

    def place(self, values: Floats) -> npt.NDArray[np.intp]:
        if not self._scale:
            return np.zeros(len(values), np.intp)
        with np.errstate(over="ignore"):
            scaled = (values - self._low) * self._scale
        np.maximum(scaled, 0.0, out=scaled)
        np.minimum(scaled, self.count - 1, out=scaled)
        return scaled.astype(np.intp)

    def crowding(self, thresholds: Floats) -> int:
        """How many thresholds share a bucket with another."""
        return _crowding(self.place(thresholds))


class _OctaveBuckets:
    """Buckets that widen with the distance from the first threshold, for features with a long tail."""

    count = _OCTAVES << _PER_OCTAVE

    def __init__(self, thresholds: Floats) -> None:
        finite = thresholds[np.isfinite(thresholds)]
        self._low = float(finite[0]) if len(finite) else 0.0
        self._first = 0
        if len(finite) > 1:
            gap = np.maximum(np.diff(finite[:2]), np.finfo(np.float64).tiny)
            self._first = int(self._bits(gap)[0]) - 1

    def _bits(self, distances: Floats) -> npt.NDArray[np.int64]:
        """Exponent and first bits of positive numbers: whole numbers in the same order."""
        return distances.view(np.int64) >> (52 - _PER_OCTAVE)

    def place(self, values: Floats) -> npt.NDArray[np.intp]:
        with np.errstate(over="ignore"):
            distances = np.maximum(values - self._low, 0.0)
        places = self._bits(distances) - self._first
        return np.minimum(np.maximum(places, 0, out=places), self.count - 1, out=places)

    def crowding(self, thresholds: Floats) -> int:
        """How many thresholds share a bucket with another."""
        return _crowding(self.place(thresholds))


def _crowding(places: npt.NDArray[np.intp]) -> int:
    counts = np.bincount(places)
    return int(counts[counts > 1].sum())
