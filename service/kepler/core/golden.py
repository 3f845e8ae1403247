"""Prepared rows with the answers a model gave when it was made, checked again each time it is loaded.

ONNX Runtime loads damaged weights without a word; these rows notice. They hold the numbers the model reads,
never the text of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kepler.core.algorithms import Matrix, RawScores
from kepler.core.checked_json import Section
from kepler.core.errors import InvalidInput

GOLDEN_ROWS = 8
TOLERANCE = 1e-5  # relative to max(1, |value|): other processors round float32 sums differently

Rows = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, slots=True)
class GoldenVectors:
    """``inputs`` (n_rows, n_features) and per key of `RawScores` the ``outputs`` (n_rows, width); None is NaN."""

    inputs: Rows
    outputs: Mapping[str, Rows]
    tolerance: float = TOLERANCE

    @classmethod
    def of(cls, x: Matrix, raw: RawScores) -> GoldenVectors:
        return cls(_rows(x), {key: _rows(values) for key, values in raw.items()})

    def matrix(self, dtype: npt.DTypeLike) -> Matrix:
        return _array(self.inputs).astype(dtype)

    def difference(self, raw: RawScores) -> float:
        """Largest difference of ``raw`` from the recorded outputs; infinite where the shape differs.

        Whole numbers (labels, clusters) must be equal: any difference counts as infinite.
        """
        if set(raw) != set(self.outputs):
            return np.inf
        worst = 0.0
        for key, values in raw.items():
            expected, got = _array(self.outputs[key]), _array(_rows(values))
            if expected.shape != got.shape or not np.array_equal(np.isnan(expected), np.isnan(got)):
                return np.inf
            gap = np.nan_to_num(np.abs(got - expected) / np.maximum(1.0, np.abs(expected)))
            if gap.size and np.issubdtype(np.asarray(values).dtype, np.integer) and gap.any():
                return np.inf
            worst = max(worst, float(gap.max(initial=0.0)))
        return worst

    def empty(self) -> RawScores:
        """Outputs for no rows, in the shape of the recorded ones."""
        out: RawScores = {}
        for key, rows in self.outputs.items():
            whole = key in ("label", "cluster", "normal")
            values = _array(rows)[:0]
            flat = key not in ("probabilities", "components")
            out[key] = (values[:, 0] if flat else values).astype(np.int64 if whole else np.float64)
        return out

    def to_json(self) -> dict[str, Any]:
        return {
            "inputs": [list(row) for row in self.inputs],
            "outputs": {key: [list(row) for row in rows] for key, rows in self.outputs.items()},
            "tolerance": self.tolerance,
        }

    @classmethod
    def from_json(cls, section: Section) -> GoldenVectors:
        inputs = section.rows("inputs", max_items=1_000)
        outputs = section.mapping("outputs", lambda inner, key: inner.rows(key), max_items=10)
        tolerance = section.number("tolerance")
        section.done()
        widths = {len(row) for row in inputs}
        if (
            len(widths) > 1
            or any(len(rows) != len(inputs) for rows in outputs.values())
            or not 0 <= tolerance <= 1
        ):
            raise InvalidInput(f"{section.where}: rows of different lengths, or a tolerance beyond 1")
        if any(len({len(row) for row in rows}) > 1 for rows in outputs.values()):
            raise InvalidInput(f"{section.where}: rows of different lengths")
        return cls(inputs, outputs, tolerance)


def _rows(values: npt.NDArray[Any]) -> Rows:
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    return tuple(tuple(float(cell) if np.isfinite(cell) else None for cell in row) for row in table)


def _array(rows: Rows) -> npt.NDArray[np.float64]:
    return np.asarray([[np.nan if cell is None else cell for cell in row] for row in rows], dtype=np.float64)
