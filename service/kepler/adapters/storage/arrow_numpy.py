"""Arrow arrays as NumPy ones without pandas.

``Array.to_numpy`` imports pandas when it is installed, two seconds on the first search; reading the
buffers is exact, copies nothing and needs NumPy only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kepler.core.records import Column, NumberColumn, TextColumn


def values(array: pa.Array, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The value buffer of a primitive array without nulls, shape (n_rows,)."""
    if len(array) == 0:
        return np.empty(0, dtype)
    item = np.dtype(dtype).itemsize
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * item)


def floats(array: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """A float64 array, null as NaN, shape (n_rows,)."""
    chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    parts = [
        values(pc.fill_null(chunk, math.nan) if chunk.null_count else chunk, np.float64) for chunk in chunks
    ]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0), *parts])


def text(array: pa.Array | pa.ChunkedArray) -> TextColumn:
    """A text or dictionary array as codes into its distinct values, null as -1."""
    chunked = array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
    coded = chunked if pa.types.is_dictionary(chunked.type) else chunked.dictionary_encode()
    if coded.num_chunks == 0:
        return TextColumn(np.empty(0, np.int32), ())
    unified = coded.unify_dictionaries()
    indices = [chunk.indices.cast(pa.int32()).fill_null(-1) for chunk in unified.chunks]
    codes = np.concatenate([values(chunk, np.int32) for chunk in indices])
    return TextColumn(codes, tuple(unified.chunk(0).dictionary.to_pylist()))


def column(array: pa.ChunkedArray) -> Column:
    """An Arrow column of float64 numbers, text or dictionary text as ours."""
    return NumberColumn(floats(array)) if pa.types.is_floating(array.type) else text(array)
