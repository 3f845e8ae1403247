"""New columns as CSV fragments: one record per row, ready to be appended at the ends of the caller's records.

A value is quoted when it is not purely ``A-Z a-z 0-9 . + -``: no other character needs thought then. Blank
is empty. Records end with LF.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from kepler.adapters.storage.arrow_text import column_text, pc, scalar
from kepler.adapters.storage.small_slices import quoted, render_small
from kepler.core.outputs import NumberOutput, Output, TextOutput
from kepler.ports.serving import Scoring

_NOT_PLAIN = "[^A-Za-z0-9.+-]"


def render_outputs(scoring: Scoring, n_rows: int) -> tuple[bytes, bool]:
    """CSV records of the outputs of ``scoring``, and whether none of them spans lines.

    >>> from kepler.ports.serving import TextOutput
    >>> render_outputs(Scoring((TextOutput("p", np.array([0, -1], np.int32), ("a b",)),)), 2)
    (b'"a b"\\n\\n', True)
    """
    one_line = not any(
        "\n" in label or "\r" in label
        for output in scoring.outputs
        if isinstance(output, TextOutput)
        for label in output.labels
    )
    small = render_small(scoring.outputs, n_rows)
    return (small if small is not None else render_many(scoring.outputs, n_rows)), one_line


def render_many(outputs: Sequence[Output], n_rows: int) -> bytes:
    """CSV records of ``outputs``, vectorised."""
    columns = [
        column_text(output)
        if isinstance(output, NumberOutput)
        else column_text(output, [quoted(label) for label in output.labels])
        for output in outputs
    ]
    return _join(columns, n_rows)


def render_text(columns: Sequence[pa.Array], n_rows: int) -> tuple[bytes, bool]:
    """As `render_outputs`, for text columns that are not quoted yet."""
    one_line = True
    ready: list[pa.Array] = []
    for column in columns:
        needs = pc.match_substring_regex(column, _NOT_PLAIN)
        if pc.any(needs, min_count=0).as_py():
            one_line = (
                one_line and not pc.any(pc.match_substring_regex(column, "[\r\n]"), min_count=0).as_py()
            )
            inner = pc.replace_substring(column, '"', '""')
            wrapped = pc.binary_join_element_wise(scalar('"'), inner, scalar('"'), scalar(""))
            column = pc.if_else(needs, wrapped, column)
        ready.append(column)
    return _join(ready, n_rows), one_line


def _join(columns: Sequence[pa.Array], n_rows: int) -> bytes:
    if not n_rows:
        return b""
    if not columns:
        return b"\n" * n_rows
    parts: list[pa.Array | pa.Scalar] = []
    for column in columns:
        parts += [scalar(","), column]
    joined = pc.binary_join_element_wise(
        *parts[1:], scalar("\n"), scalar(""), null_handling="replace", null_replacement=""
    )
    # The texts of an array lie one after the other: its data is the file.
    _, offsets, data = joined.buffers()
    ends = np.frombuffer(offsets, np.int32, n_rows + 1, joined.offset * 4)
    return data.slice(int(ends[0]), int(ends[-1] - ends[0])).to_pybytes()
