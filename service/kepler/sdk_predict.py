"""``kp.predict``: score rows and take the answers as a file, a data frame or dictionaries."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from kepler.client import KeplerClient
from kepler.client.records import Opened, PredictChoice
from kepler.client.slices import header_bytes, join_records
from kepler.client.streams import ScoredStream
from kepler.core.errors import Conflict, MissingExtra
from kepler.core.jobs import Notice
from kepler.ports.data import DataSource
from kepler.sdk_data import Data, as_source
from kepler.sdk_progress import Progress, Silent, counted

if TYPE_CHECKING:
    import pandas


class Predictions:
    """Answers for every row of some data, in its order.

    Only the new columns are held in memory, as text. The data is read again when rows are put together,
    so a file must stay as it is until then.

    Attributes
    ----------
    model
        Full name with version that answered, ``app.search/failure@3``.
    columns
        The new columns.
    notices
        What the service had to say, such as a field that is missing.
    """

    def __init__(self, source: DataSource, opened: Opened, parts: list[bytes], n_rows: int) -> None:
        self._source, self._parts, self._n_rows = source, parts, n_rows
        self.model = opened.model
        self.columns = opened.output_columns
        self.notices: list[Notice] = list(opened.notices)

    def __len__(self) -> int:
        return self._n_rows

    def __repr__(self) -> str:
        return f"<{self._n_rows} predictions of {self.model}: {', '.join(self.columns)}>"

    def column(self, name: str = "") -> list[str]:
        """Texts of one new column; the first one when ``name`` is left out."""
        place = self.columns.index(name) if name else 0
        return [row[place] for part in self._parts for row in csv_rows(part)]

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write the data with the new columns appended; gives the path back."""
        path = Path(path)
        with path.open("wb") as out:
            out.write(header_bytes((*self._source.columns, *self.columns)))
            out.writelines(self._joined())
        return path

    def to_dicts(self) -> list[dict[str, str]]:
        """One dictionary of texts a row: the data's columns, then the new ones."""
        names = (*self._source.columns, *self.columns)
        return [dict(zip(names, row, strict=False)) for part in self._joined() for row in csv_rows(part)]

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame of the data with the new columns, types as pandas reads them from CSV."""
        try:
            import pandas
        except ImportError as error:
            raise MissingExtra("pandas is not installed", fix="Run `pip install pandas`") from error
        text = b"".join((header_bytes((*self._source.columns, *self.columns)), *self._joined()))
        return pandas.read_csv(io.BytesIO(text))

    def _joined(self) -> Iterator[bytes]:
        parts = iter(self._parts)
        for text in self._source.slices():
            part = next(parts, None)
            if part is None:
                raise self._changed()
            yield join_records(text, part)
        if next(parts, None) is not None:
            raise self._changed()

    def _changed(self) -> Conflict:
        return Conflict("The data changed since it was scored", fix="Predict again")


def csv_rows(text: bytes) -> Iterator[list[str]]:
    """Cells of CSV records."""
    return csv.reader(io.StringIO(text.decode(), newline=""))


class Predict:
    """Scores rows with a model; calling it is all there is to do."""

    def __init__(self, client: Callable[[], KeplerClient]) -> None:
        self._client = client

    def __call__(
        self,
        model: str,
        data: Data,
        *,
        probabilities: bool = False,
        as_name: str = "",
        on_missing: str = "warn",
        overrides: Mapping[str, Any] | None = None,
    ) -> Predictions:
        """Score every row of ``data``.

        Parameters
        ----------
        model
            ``failure``, ``app:failure@prod``, ``app.search/failure@3``: newest version unless one is named.
        data
            A data source, the path of a CSV file, or a table in memory.
        probabilities
            Add a column per class where the model has probabilities.
        as_name
            Name of the prediction column instead of ``predicted(<target>)``.
        on_missing
            When a column of the model is absent: ``warn``, ``error`` or ``null``.
        overrides
            What this algorithm lets one change when predicting, by name.

        Raises
        ------
        NotFound
            There is no such model or version, or the caller may not see it.
        InvalidInput
            A value does not fit, for example text where the model reads numbers.
        """
        source = as_source(data)
        choice = PredictChoice(
            probabilities, as_name, on_missing, {key: str(value) for key, value in (overrides or {}).items()}
        )
        with open_prediction(self._client(), model, source, choice) as stream:
            parts, n_rows, notices = [], 0, []
            for _, scored in stream:
                parts.append(scored.values)
                n_rows += scored.rows
                notices += scored.notices
        found = Predictions(source, stream.opened, parts, n_rows)
        found.notices += notices
        return found


def open_prediction(
    client: KeplerClient,
    model: str,
    source: DataSource,
    choice: PredictChoice,
    progress: Progress | None = None,
) -> ScoredStream:
    """A stream that scores ``source``; nothing is kept, so any amount of rows passes through."""
    total = int(getattr(source, "size_bytes", 0))
    slices = counted(source.slices(), progress or Silent(), total)
    return client.predict(model, source.columns, slices, choice)


def write_scored(stream: ScoredStream, source: DataSource, out: BinaryIO) -> tuple[int, list[Notice]]:
    """Write rows with their answers as they come; gives their number and the notices."""
    out.write(header_bytes((*source.columns, *stream.opened.output_columns)))
    n_rows, notices = 0, list(stream.opened.notices)
    for text, scored in stream:
        out.write(join_records(text, scored.values))
        n_rows += scored.rows
        notices += scored.notices
    return n_rows, notices
