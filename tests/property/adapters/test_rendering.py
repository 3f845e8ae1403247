"""Text columns and new columns, whatever they hold."""

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from kepler.adapters.storage.arrow_rows import ArrowTrainingRows, PredictionsFile, PredictionsWriter
from kepler.adapters.storage.csv_fragments import render_outputs
from kepler.core.datasets import WideText
from kepler.core.outputs import NumberOutput, TextOutput
from kepler.core.records import NumberColumn
from kepler.ports.serving import Scoring

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=6)
CELL = st.one_of(st.just(""), st.none(), TEXT, st.floats().map(repr), st.integers().map(str))


def parsed(data):
    """Records of one or more fields; the csv module takes an empty line for no record."""
    text = data.decode()
    return [record or [""] for record in csv.reader(io.StringIO(text, newline=""), lineterminator="\n")]


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 4))
def test_rendered_values_read_back(data, n_rows):
    numbers = np.array(data.draw(st.lists(st.floats(), min_size=n_rows, max_size=n_rows)))
    labels = tuple(data.draw(st.lists(TEXT, min_size=1, max_size=4)))
    codes = data.draw(st.lists(st.integers(-1, len(labels) - 1), min_size=n_rows, max_size=n_rows))
    outputs = (
        NumberOutput("x", numbers),
        TextOutput("t", np.array(codes, np.int32), labels),
    )
    rendered, one_line = render_outputs(Scoring(outputs), n_rows)
    records = parsed(rendered)
    assert len(records) == n_rows
    for record, number, code in zip(records, numbers, codes, strict=True):
        assert record[0] == "" if np.isnan(number) else float(record[0]) == number
        assert record[1] == ("" if code < 0 else labels[code])
    if one_line:
        assert rendered.count(b"\n") == n_rows
    with TemporaryDirectory() as folder:
        writer = PredictionsWriter(Path(folder), ("x", "t"))
        writer.write(outputs, n_rows)
        writer.close()
        file = PredictionsFile.open(Path(folder))
        assert parsed(file.read(0)[0]) == records
        file.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(CELL, max_size=8), max_size=4))
def test_any_text_is_read_as_numbers_or_text_with_the_same_gaps(batches):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.arrow"
        schema = pa.schema([("a", pa.string())])
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for batch in batches:
                writer.write_batch(pa.record_batch([pa.array(batch, pa.string())], schema=schema))
        column = ArrowTrainingRows(path, max_distinct=5).read(["a"]).columns["a"]
    cells = [cell for batch in batches for cell in batch]
    assert len(column) == len(cells)
    if isinstance(column, NumberColumn):
        for cell, value in zip(cells, column.values, strict=True):
            if not cell:
                assert np.isnan(value)
            elif np.isfinite(value):
                assert value == float(cell)
        return
    assert column.missing.tolist() == [not cell for cell in cells]
    if not isinstance(column, WideText):
        assert [column.categories[code] for code in column.codes if code >= 0] == [
            cell for cell in cells if cell
        ]
