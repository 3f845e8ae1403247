"""Rows as columns: what every part of the service passes around instead of rows.

Plain NumPy. A column is numbers (missing is NaN) or text held as codes into its distinct values
(missing is code -1), so that no step needs per-row Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """Numbers, shape (n_rows,), float64; missing is NaN."""

    values: Float64

    def __len__(self) -> int:
        return len(self.values)

    @property
    def missing(self) -> Bools:
        return np.isnan(self.values)


@dataclass(frozen=True, slots=True)
class TextColumn:
    """Text as codes into ``categories``, shape (n_rows,), int32; missing is -1."""

    codes: Int32
    categories: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def missing(self) -> Bools:
        return self.codes < 0


Column = NumberColumn | TextColumn


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Named columns of one length, in the order they came.

    ``n_rows`` is kept beside the columns because a batch of no columns still has rows.
    """

    columns: Mapping[str, Column]
    n_rows: int

    def __post_init__(self) -> None:
        for name, column in self.columns.items():
            if len(column) != self.n_rows:
                raise ValueError(f"column {name!r} has {len(column)} rows, batch has {self.n_rows}")

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)
