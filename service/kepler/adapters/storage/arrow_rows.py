"""The rows of a training on disk, read as columns, and the columns it gives back.

``rows.arrow`` is an Arrow file of text columns (null or empty where a value is missing), one record batch
per slice of the upload. Every batch is read once, straight into the columns; a field that stops being
numeric half-way is read again from the start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kepler.adapters.storage import arrow_numpy
from kepler.adapters.storage.arrow_text import booleans, column_text, pc
from kepler.adapters.storage.csv_fragments import render_outputs, render_text
from kepler.core.datasets import MAX_TRACKED_DISTINCT, NumberBlock, TrainingTable, WideText
from kepler.core.errors import InvalidInput, NotFound
from kepler.core.groups import MAX_GROUPS
from kepler.core.outputs import Output
from kepler.core.records import Column, NumberColumn, TextColumn

ROWS_FILE = "rows.arrow"
PREDICTIONS_FILE = "predictions.arrow"
_BAD_NUMBER = re.compile(r"Failed to parse string: '(.*)' as a scalar", re.DOTALL)

__all__ = ["ArrowTrainingRows", "PredictionsFile", "PredictionsWriter", "render_outputs"]


class ArrowTrainingRows:
    """Implements `kepler.ports.training.TrainingRows` over ``rows.arrow``."""

    def __init__(self, path: Path, *, max_distinct: int = MAX_TRACKED_DISTINCT) -> None:
        self._path = path
        self._max_distinct = max_distinct
        try:
            # Mapped, only the batches' headers are touched; reading maps nothing, so memory stays bounded.
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
                self.columns: tuple[str, ...] = tuple(reader.schema.names)
                self._sizes = [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]
        except FileNotFoundError as error:
            raise NotFound("The rows of this training are gone", fix="Run the search again.") from error
        except pa.ArrowInvalid as error:
            raise InvalidInput("The rows of this training cannot be read", cause=str(error)[:200]) from error
        self.n_rows = sum(self._sizes)

    def read(
        self,
        fields: Sequence[str],
        *,
        as_text: frozenset[str] = frozenset(),
        keys: frozenset[str] = frozenset(),
    ) -> TrainingTable:
        """See the port."""
        names = list(dict.fromkeys(fields))
        block = self._block(names, as_text)
        numbers = {
            name: _Numbers(
                block.values[block.fields.index(name)] if block else np.empty(self.n_rows, dtype=np.float64)
            )
            for name in names
            if name not in as_text
        }
        texts = {
            name: _Texts(
                self.n_rows, max(MAX_GROUPS, self._max_distinct) if name in keys else self._max_distinct
            )
            for name in names
            if name in as_text
        }
        bad: dict[str, str] = {}
        again: set[str] = set()
        for index, (at, batch) in enumerate(self._batches()):
            for name in list(numbers):
                example = numbers[name].add(batch.column(name), at)
                if example is not None:
                    bad[name] = example
                    del numbers[name]
                    block = None
                    texts[name] = _Texts(self.n_rows, self._max_distinct)
                    if index:
                        again.add(name)
            for name, text in texts.items():
                if name not in again:
                    text.add(batch.column(name), at)
        if again:
            for at, batch in self._batches():
                for name in again:
                    texts[name].add(batch.column(name), at)
        done: dict[str, Column | WideText] = {name: part.column() for name, part in numbers.items()}
        done |= {name: part.column() for name, part in texts.items()}
        infinite = {name: part.infinite for name, part in numbers.items() if part.infinite}
        return TrainingTable({name: done[name] for name in names}, self.n_rows, infinite, bad, block)

    def _block(self, names: Sequence[str], as_text: frozenset[str]) -> NumberBlock | None:
        """One piece of memory for the numbers, where the first batch has no text but the target's.

        With text among the features the matrix is wider than the numbers; then columns on their own can be
        freed one by one.
        """
        fields = tuple(name for name in names if name not in as_text)
        first = next(self._batches(), None)
        if first is None or not fields or len(names) - len(fields) > 1:
            return None
        probe = {name: _Numbers(np.empty(len(first[1]), dtype=np.float64)) for name in fields}
        if any(numbers.add(first[1].column(name), 0) is not None for name, numbers in probe.items()):
            return None
        return NumberBlock(fields, np.empty((len(fields), self.n_rows), dtype=np.float64))

    def _batches(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        with pa.OSFile(str(self._path)) as source, pa.ipc.open_file(source) as reader:
            at = 0
            for index, size in enumerate(self._sizes):
                yield at, reader.get_batch(index)
                at += size


def _nulls_for_empty(array: pa.Array) -> pa.Array:
    """``array`` as text with null where it is empty; only the validity bits are new."""
    if not pa.types.is_string(array.type):
        array = pc.cast(array, pa.string())
    lengths = pc.binary_length(array)
    shortest = pc.min(lengths).as_py()
    if shortest != 0:
        return array
    sizes = arrow_numpy.values(pc.fill_null(lengths, 0), np.int32)
    if array.offset:
        array = pa.concat_arrays([array])
    _, offsets, data = array.buffers()
    return pa.StringArray.from_buffers(len(array), offsets, data, booleans(sizes > 0).buffers()[1])


class _Numbers:
    """One field while it is numeric."""

    def __init__(self, values: npt.NDArray[np.float64]) -> None:
        self._values = values
        self.infinite = 0

    def add(self, array: pa.Array, at: int) -> str | None:
        """Parse a batch; gives an example of what is no number, else None."""
        array = _nulls_for_empty(array)
        try:
            parsed = pc.cast(array, pa.float64())
        except pa.ArrowInvalid:
            try:  # as the CSV reader of predictions does: blanks around a number do not count
                parsed = pc.cast(pc.utf8_trim_whitespace(array), pa.float64())
            except pa.ArrowInvalid as error:
                found = _BAD_NUMBER.search(str(error))
                return found[1] if found else ""
        out = self._values[at : at + len(parsed)]
        out[:] = arrow_numpy.floats(parsed)
        infinite = np.isinf(out)
        if infinite.any():
            self.infinite += int(np.count_nonzero(infinite))
            out[infinite] = np.nan
        return None

    def column(self) -> NumberColumn:
        return NumberColumn(self._values)


class _Texts:
    """One field of text, as codes while its distinct values are few enough to keep."""

    def __init__(self, n_rows: int, max_distinct: int) -> None:
        self._codes: npt.NDArray[np.int32] = np.empty(n_rows, dtype=np.int32)
        self._index: dict[str, int] = {}
        self._max_distinct = max_distinct
        self._wide = False

    def add(self, array: pa.Array, at: int) -> None:
        array = _nulls_for_empty(array)
        out = self._codes[at : at + len(array)]
        if self._wide:
            valid = arrow_numpy.values(pc.cast(array.is_valid(), pa.int8()), np.int8)
            out[:] = valid.astype(np.int32) - 1
            return
        part = arrow_numpy.text(array)
        lookup = np.empty(len(part.categories) + 1, dtype=np.int32)
        lookup[-1] = -1
        lookup[:-1] = [self._index.setdefault(value, len(self._index)) for value in part.categories]
        out[:] = lookup[part.codes]
        if len(self._index) > self._max_distinct:
            self._wide = True
            self._index = {}

    def column(self) -> TextColumn | WideText:
        if self._wide:
            return WideText(self._codes < 0)
        return TextColumn(self._codes, tuple(self._index))


class PredictionsWriter:
    """Writes ``predictions.arrow``: text columns aligned with the sent rows, one batch per `write`."""

    def __init__(self, folder: Path, columns: tuple[str, ...]) -> None:
        self._schema = pa.schema([(name, pa.string()) for name in columns])
        self._part = folder / (PREDICTIONS_FILE + ".part")
        self._path = folder / PREDICTIONS_FILE
        self._file = pa.OSFile(str(self._part), "wb")
        self._writer = pa.ipc.new_file(self._file, self._schema)

    def write(self, outputs: Sequence[Output], n_rows: int) -> None:
        arrays = [column_text(output) for output in outputs]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))

    def close(self) -> None:
        """Make the file appear under its name, whole."""
        self._writer.close()
        self._file.close()
        self._part.replace(self._path)


class PredictionsFile:
    """Reads ``predictions.arrow`` as CSV fragments, slice by slice."""

    def __init__(self, path: Path) -> None:
        self._source = pa.OSFile(str(path))
        self._reader = pa.ipc.open_file(self._source)
        self.columns: tuple[str, ...] = tuple(self._reader.schema.names)
        self.slices: int = self._reader.num_record_batches

    @classmethod
    def open(cls, folder: Path) -> PredictionsFile:
        """Raises `NotFound` when the training left no predictions, or they were cleaned up."""
        path = folder / PREDICTIONS_FILE
        if not path.is_file():
            raise NotFound(
                "This job has no predictions to read",
                cause="It was not asked for them, or they were kept for as long as the service keeps them.",
                fix="Train with output=predictions, or use keplerpredict.",
            )
        return cls(path)

    def read(self, index: int) -> tuple[bytes, int, bool]:
        """CSV records of one slice, their number, and whether none spans lines."""
        batch = self._reader.get_batch(index)
        values, one_line = render_text(batch.columns, batch.num_rows)
        return values, batch.num_rows, one_line

    def close(self) -> None:
        self._source.close()
