"""A handful of rows without Arrow, whose readers cost the same for one row as for a thousand.

Programs that ask for single predictions send slices of a few rows; Arrow's reader and its kernels then cost
ten times what the model does. What is read and written here is exactly what `csv_slices` and `csv_fragments`
read and write: anything that is not plain is left to them (None), and a property test compares the two.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from kepler.core.outputs import NumberOutput, Output
from kepler.core.records import Column, NumberColumn, RecordBatch, TextColumn

SLICE_BYTES = 4096
ROWS = 64
# Numbers that every reader takes alike; others ("1e400", " 1", "nan") are Arrow's to judge.
_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?")
# Within it Python and Arrow write the same shortest text, without exponent.
_PLAIN_FROM, _PLAIN_BELOW = 1e-4, 1e10
_PLAIN_TEXT = re.compile(r"[A-Za-z0-9.+-]*")


def read_small(slice_: bytes, columns: Sequence[str], numbers: Mapping[str, bool]) -> RecordBatch | None:
    """Columns of a small slice, or None where Arrow has to look.

    Parameters
    ----------
    slice_
        Whole CSV records without header.
    columns
        Their header.
    numbers
        The columns to read, and whether each holds numbers.
    """
    if len(slice_) > SLICE_BYTES or b"\r" in slice_ or slice_.startswith(b"\xef\xbb\xbf"):
        return None
    try:
        text = slice_.decode()
        if b'"' in slice_:
            rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        else:  # an empty line, which the reader takes for no cell at all, is left to Arrow
            rows = [line.split(",") if line else [] for line in text.removesuffix("\n").split("\n")]
    except (UnicodeDecodeError, csv.Error):
        return None
    width = len(columns)
    if not rows or any(len(row) != width for row in rows):
        return None
    found: dict[str, Column] = {}
    for at, name in enumerate(columns):
        if name in numbers:
            cells = [row[at] for row in rows]
            column = _numbers(cells) if numbers[name] else _texts(cells)
            if column is None:
                return None
            found[name] = column
    return RecordBatch({name: found[name] for name in numbers}, len(rows))


def _numbers(cells: list[str]) -> NumberColumn | None:
    if not all(_NUMBER.fullmatch(cell) for cell in cells if cell):
        return None
    return NumberColumn(np.array([float(cell) if cell else math.nan for cell in cells], np.float64))


def _texts(cells: list[str]) -> TextColumn:
    index: dict[str, int] = {}
    codes = [index.setdefault(cell, len(index)) if cell else -1 for cell in cells]
    return TextColumn(np.array(codes, np.int32), tuple(index))


def render_small(outputs: Sequence[Output], n_rows: int) -> bytes | None:
    """CSV records of a few rows of new columns, or None where Arrow has to write them."""
    if n_rows > ROWS:
        return None
    columns: list[list[str]] = []
    for output in outputs:
        if isinstance(output, NumberOutput):
            column = _number_text(output.values.tolist(), output.blank)
            if column is None:
                return None
        else:
            column = [quoted(output.labels[code]) if code >= 0 else "" for code in output.codes.tolist()]
        columns.append(column)
    if not columns:
        return b"\n" * n_rows
    return "".join(",".join(row) + "\n" for row in zip(*columns, strict=True)).encode()


def _number_text(values: list[float] | list[int], blank: npt.NDArray[np.bool_] | None) -> list[str] | None:
    hidden = blank.tolist() if blank is not None else [False] * len(values)
    column: list[str] = []
    for value, empty in zip(values, hidden, strict=True):
        if empty or value != value:
            column.append("")
        elif isinstance(value, int) or value == 0 or _PLAIN_FROM <= abs(value) < _PLAIN_BELOW:
            column.append(repr(value))
        else:
            return None
    return column


def quoted(value: str) -> str:
    """``value`` as a CSV field.

    >>> print(quoted("a b"), quoted("x-1.5"))
    "a b" x-1.5
    """
    return value if _PLAIN_TEXT.fullmatch(value) else '"' + value.replace('"', '""') + '"'
