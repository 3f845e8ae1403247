"""CSV slices from the wire, read by Arrow: to a file for training, to columns for predicting.

A slice is whole CSV records without a header, as splunkd wrote them: LF or CRLF, quoted where a value is
not purely alphanumeric, possibly with line breaks inside quotes. No cell is touched by Python.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import shutil
import threading
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from kepler.adapters.storage import arrow_numpy
from kepler.adapters.storage.small_slices import read_small
from kepler.core.errors import Cancelled, Conflict, InvalidInput, Overloaded
from kepler.core.records import Column, NumberColumn, RecordBatch, TextColumn

ROWS_FILE = "rows.arrow"
_RAGGED = re.compile(r"Expected (\d+) columns, got (\d+)")
_NOT_A_NUMBER = re.compile(r"In CSV column #(\d+):.*invalid value '(.*)'", re.DOTALL)
_COLUMN = re.compile(r"In CSV column #(\d+)")


def check_header(columns: tuple[str, ...]) -> None:
    """Raise `InvalidInput` when the header is empty or names a column twice."""
    if not columns:
        raise InvalidInput(
            "The rows have no columns", fix="Pipe results with at least one field into the command."
        )
    if len(set(columns)) < len(columns):
        twice = sorted({name for name in columns if columns.count(name) > 1})
        raise InvalidInput(
            f"The field {twice[0]!r} comes {columns.count(twice[0])} times",
            fix="Rename or remove the duplicate.",
        )


def _read(slice_: bytes, columns: tuple[str, ...], types: dict[str, pa.DataType]) -> pa.Table:
    """Arrow table of the columns in ``types``; foreign errors become one sentence."""
    wanted = list(types) or [columns[0]]
    try:
        return pacsv.read_csv(
            io.BytesIO(slice_),
            # One block per slice: a record never straddles blocks, so quoted line breaks cost nothing.
            read_options=pacsv.ReadOptions(
                column_names=list(columns), use_threads=False, block_size=max(len(slice_), 1) + 1
            ),
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                include_columns=wanted,
                column_types=types or {columns[0]: pa.string()},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        raise _explain(str(error), columns) from error


def _explain(text: str, columns: tuple[str, ...]) -> InvalidInput:
    ragged = _RAGGED.search(text)
    if ragged:
        return InvalidInput(
            f"A row has {ragged[2]} values where the header has {ragged[1]} fields",
            fix="Send every row with all fields, quoted where they hold commas or line breaks.",
        )
    bad = _NOT_A_NUMBER.search(text)
    if bad and int(bad[1]) < len(columns):
        return InvalidInput(
            f"Field {columns[int(bad[1])]!r} holds the text {bad[2][:60]!r} where the model reads numbers",
            fix="Convert or remove such rows first, for example with eval and tonumber().",
        )
    column = _COLUMN.search(text)
    where = f" in field {columns[int(column[1])]!r}" if column and int(column[1]) < len(columns) else ""
    return InvalidInput(
        f"The rows cannot be read as UTF-8 CSV{where}",
        fix="Check for bytes that are not text or quotes left open.",
    )


class SliceReader:
    """Reads slices of one stream into record batches of the fields a model needs.

    Parameters
    ----------
    columns
        Header of every slice.
    required, numbers
        Fields to read where the header has them, and which of those are numbers.
    """

    def __init__(self, columns: tuple[str, ...], required: tuple[str, ...], numbers: frozenset[str]) -> None:
        check_header(columns)
        self._columns = columns
        given = set(columns)
        present = [name for name in required if name in given]
        self._types = {
            name: pa.float64() if name in numbers else pa.dictionary(pa.int32(), pa.string())
            for name in present
        }
        self._numbers = {name: name in numbers for name in present}

    def read(self, slice_: bytes) -> RecordBatch:
        """Columns of one slice. Raises `InvalidInput` for ragged rows or text where numbers are read."""
        if not slice_:
            return RecordBatch({name: _empty(kind) for name, kind in self._types.items()}, 0)
        small = read_small(slice_, self._columns, self._numbers)
        return small if small is not None else self.read_many(slice_)

    def read_many(self, slice_: bytes) -> RecordBatch:
        """`read` by Arrow, whatever the size."""
        table = _read(slice_, self._columns, self._types)
        columns = {name: arrow_numpy.column(table.column(name)) for name in self._types}
        return RecordBatch(columns, table.num_rows)


def _empty(kind: pa.DataType) -> Column:
    if pa.types.is_floating(kind):
        return NumberColumn(np.empty(0, np.float64))
    return TextColumn(np.empty(0, np.int32), ())


def _open_alone(path: Path) -> BinaryIO:
    """Open ``path`` for writing from its start, as the only upload that does."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise Conflict(
            "These rows are being uploaded already",
            fix="Wait for the other upload, or use another request id.",
        ) from error
    file.truncate(0)
    return file


class ArrowRowSpool:
    """Slices of one upload as an Arrow file of text columns, one record batch per slice (ports.rows.RowSpool)."""

    def __init__(
        self, folder: Path, columns: tuple[str, ...], used: tuple[str, ...], min_free_bytes: int
    ) -> None:
        check_header(columns)
        self.rows = 0
        self._columns = columns
        self._path = folder / ROWS_FILE
        self._min_free_bytes = min_free_bytes
        self._hash = hashlib.sha256(repr(columns).encode())
        keep = [name for name in columns if name in set(used)]
        self._types = {name: pa.string() for name in keep}
        schema = pa.schema([(name, pa.string()) for name in keep])
        self._check_disk()
        self._lock = threading.Lock()  # a caller that goes away aborts while a slice may still be written
        self._file = _open_alone(self._path)
        self._writer = pa.ipc.new_file(self._file, schema)
        self._since_check = 0

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self._path.parent).free
        if free < self._min_free_bytes:
            raise Overloaded(
                f"The service's disk has {free // 2**20} MB left, below the reserve of {self._min_free_bytes // 2**20} MB",
                fix="Free space under the service's home, then run the search again.",
                retry_after_s=60,
            )

    def write(self, slice_: bytes) -> int:
        """Append whole CSV records without header; gives their number."""
        if not slice_:
            return 0
        self._since_check += len(slice_)
        if self._since_check > 64 * 2**20:
            self._since_check = 0
            self._check_disk()
        table = _read(slice_, self._columns, self._types)
        self._hash.update(slice_)
        try:
            with self._lock:
                if self._file.closed:
                    raise Cancelled("The upload was dropped", fix="Run the search again.")
                for batch in table.combine_chunks().to_batches():
                    self._writer.write_batch(batch)
        except OSError as error:
            raise _disk_error(error) from error
        self.rows += table.num_rows
        return table.num_rows

    def finish(self) -> str:
        """Flush, fsync and close; gives the SHA-256 (hex) of header and slices as they came."""
        try:
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise _disk_error(error) from error
        return self._hash.hexdigest()

    def abort(self) -> None:
        """Drop what was written; can be repeated."""
        with self._lock:
            if not self._file.closed:
                try:
                    self._writer.close()
                finally:
                    self._file.close()
            self._path.unlink(missing_ok=True)


def _disk_error(error: OSError) -> Overloaded:
    return Overloaded(
        "The service cannot write the rows to its disk",
        cause=os.strerror(error.errno) if error.errno else str(error),
        fix="Free space under the service's home, then run the search again.",
        retry_after_s=60,
    )


class ArrowRowSpools:
    """Opens `ArrowRowSpool` (ports.rows.RowSpools)."""

    def __init__(self, min_free_bytes: int) -> None:
        self._min_free_bytes = min_free_bytes

    def open(self, folder: Path, columns: tuple[str, ...], used: tuple[str, ...]) -> ArrowRowSpool:
        return ArrowRowSpool(folder, columns, used, self._min_free_bytes)
