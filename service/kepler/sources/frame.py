"""Tables in memory: data frames, Arrow tables, mappings of columns, lists of dictionaries.

Arrow writes the CSV where it is installed, else pandas, else the csv module cell by cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kepler.client.constants import SLICE_BYTES
from kepler.client.slices import RECORD_BYTES_MAX, tidy
from kepler.core.errors import InvalidInput

_FIRST_ROWS = 5_000


class FrameRows:
    """Rows of ``table``: pandas or polars data frame, Arrow table, ``{"a": [...]}`` or ``[{"a": 1}, ...]``.

    The index of a data frame is left out. None and NaN are missing values.
    Raises `InvalidInput` for columns of different length, doubled names, or values that no CSV cell holds.

    >>> list(FrameRows({"a": [1, 2], "b": ["x", None]}).columns)
    ['a', 'b']
    """

    def __init__(self, table: Any) -> None:
        frame: Any = _columns_of_dicts(table) if isinstance(table, list | tuple) else table
        self._table: Any = _to_arrow(frame)
        if self._table is not None:
            names = tuple(str(name) for name in self._table.column_names)
            self._n_rows = int(self._table.num_rows)
        elif isinstance(frame, Mapping):
            frame = {str(name): _cells(values) for name, values in frame.items()}
            names, self._n_rows = tuple(frame), _same_length(frame)
        elif hasattr(frame, "to_csv") and hasattr(frame, "columns"):
            names, self._n_rows = tuple(str(name) for name in frame.columns), len(frame)
        else:
            raise InvalidInput(
                f"A {type(frame).__name__} is no table",
                fix="Give a data frame, an Arrow table, a mapping of columns or a list of dictionaries",
            )
        if not names:
            raise InvalidInput("The table has no columns")
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise InvalidInput(f"Column {doubled[0]!r} comes more than once", fix="Rename one of them")
        self._frame: Any = frame
        self._names = names

    def __repr__(self) -> str:
        return f"FrameRows({self._n_rows} rows, {len(self._names)} columns)"

    def __len__(self) -> int:
        return self._n_rows

    @property
    def columns(self) -> tuple[str, ...]:
        return self._names

    def slices(self) -> Iterator[bytes]:
        """Slices of whole records; see `kepler.ports.data.DataSource`."""
        begin, count = 0, _FIRST_ROWS
        while begin < self._n_rows:
            text = tidy(self._render(begin, begin + count), len(self._names))
            if len(text) > RECORD_BYTES_MAX:
                if count == 1:
                    raise InvalidInput(
                        f"Row {begin} is longer than {RECORD_BYTES_MAX:,} bytes", fix="Shorten it"
                    )
                count = max(count // 4, 1)
                continue
            yield text
            begin += count
            count = min(max(int(count * SLICE_BYTES / max(len(text), 1)), 1), 10 * count)

    def _render(self, begin: int, end: int) -> bytes:
        if self._table is not None:
            return _arrow_csv(self._table.slice(begin, end - begin))
        if isinstance(self._frame, Mapping):
            out = io.StringIO(newline="")
            parts = [values[begin:end] for values in self._frame.values()]
            csv.writer(out, lineterminator="\n").writerows(zip(*parts, strict=True))
            return out.getvalue().encode()
        text: str = self._frame.iloc[begin:end].to_csv(index=False, header=False, lineterminator="\n")
        return text.encode()


def _columns_of_dicts(rows: Sequence[Any]) -> dict[str, list[Any]]:
    if not all(isinstance(row, Mapping) for row in rows):
        raise InvalidInput("Each row must be a dictionary", fix="Give [{'a': 1, 'b': 2}, ...]")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def _cells(values: Any) -> list[Any]:
    """Values of a column as the csv module writes them; missing ones as empty text."""
    items: list[Any] = values.tolist() if hasattr(values, "tolist") else list(values)
    return ["" if item is None or item != item else item for item in items]  # only NaN differs from itself


def _same_length(columns: Mapping[str, Sequence[Any]]) -> int:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        short, long = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        raise InvalidInput(
            f"Column {short!r} has {lengths[short]} rows and {long!r} has {lengths[long]}",
            fix="Give columns of one length",
        )
    return next(iter(lengths.values()), 0)


def _to_arrow(frame: Any) -> Any:
    """``frame`` as an Arrow table; None where Arrow is missing or cannot hold it."""
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
    except ImportError:
        return None
    try:
        if isinstance(frame, pa.RecordBatch):
            table = pa.Table.from_batches([frame])
        elif isinstance(frame, pa.Table):
            table = frame
        elif isinstance(frame, Mapping):
            _same_length({name: values for name, values in frame.items() if hasattr(values, "__len__")})
            table = pa.table(
                {str(name): pa.array(values, from_pandas=True) for name, values in frame.items()}
            )
        elif type(frame).__module__.split(".")[0] == "pandas":
            table = pa.Table.from_pandas(frame, preserve_index=False)
        elif hasattr(frame, "__arrow_c_stream__"):
            table = pa.table(frame)
        else:
            return None
    except (pa.ArrowException, TypeError, ValueError):
        return None  # mixed values in one column and the like: written as they print
    for index, column in enumerate(table.columns):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_nested(column.type):
            raise InvalidInput(
                f"Column {table.column_names[index]!r} holds lists or structures", fix="Flatten it"
            )
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)  # type: ignore[attr-defined]
        table = table.set_column(index, table.column_names[index], column)
    return table


def _arrow_csv(table: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.csv as pacsv

    sink = pa.BufferOutputStream()
    pacsv.write_csv(table, sink, pacsv.WriteOptions(include_header=False))
    return sink.getvalue().to_pybytes()
