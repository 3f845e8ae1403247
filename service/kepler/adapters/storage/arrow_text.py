"""Columns of numbers and labels as Arrow text, vectorised and without pandas.

``pyarrow.array`` and scalars made from Python values import pandas where it is installed, seconds on the
first search; arrays made from buffers do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from kepler.core.outputs import NumberOutput, Output

pc: Any = pyarrow.compute  # its functions are made on import, where no type checker sees them

_PLAIN_BELOW = 1e10  # Arrow writes whole numbers below it without exponent and without a point

Bools = npt.NDArray[np.bool_]


def strings(values: Sequence[str]) -> pa.StringArray:
    """A text array out of Python strings."""
    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int32)
    np.cumsum([len(item) for item in encoded], out=offsets[1:])
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


@lru_cache(maxsize=16)
def scalar(value: str) -> pa.StringScalar:
    return strings([value])[0]


def primitive(values: npt.NDArray[np.generic], kind: pa.DataType, blank: Bools | None = None) -> pa.Array:
    """A number array, null where ``blank``."""
    validity = None if blank is None else pa.py_buffer(np.packbits(~blank, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(np.ascontiguousarray(values))])


def booleans(values: Bools) -> pa.BooleanArray:
    packed = pa.py_buffer(np.packbits(values, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, packed])


def column_text(output: Output, labels: Sequence[str] | None = None) -> pa.Array:
    """``output`` as text, null where blank; ``labels`` stand in for its own (quoted ones, for instance).

    Numbers are the shortest text that reads back the same; float64 ones always show that they are:
    1.0 is "1.0".
    """
    if isinstance(output, NumberOutput):
        if np.issubdtype(output.values.dtype, np.integer):
            return pc.cast(
                primitive(output.values.astype(np.int64, copy=False), pa.int64(), output.blank), pa.string()
            )
        return _float_text(np.asarray(output.values, dtype=np.float64), output.blank)
    missing = output.codes < 0
    codes = primitive(
        output.codes.astype(np.int32, copy=False), pa.int32(), missing if missing.any() else None
    )
    return pc.take(strings(output.labels if labels is None else labels), codes)


def _float_text(values: npt.NDArray[np.float64], blank: Bools | None) -> pa.Array:
    missing = np.isnan(values) if blank is None else np.isnan(values) | blank
    text = pc.cast(primitive(values, pa.float64(), missing if missing.any() else None), pa.string())
    with np.errstate(invalid="ignore"):
        whole = (np.trunc(values) == values) & (np.abs(values) < _PLAIN_BELOW)
    if not whole.any():
        return text
    ending = pc.take(strings(["", ".0"]), primitive(whole.astype(np.int32), pa.int32()))
    return pc.binary_join_element_wise(text, ending, scalar(""))
