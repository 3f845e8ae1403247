"""Rows on disk as columns, and predictions back."""

import numpy as np
import pyarrow as pa
import pytest

from kepler.adapters.storage.arrow_rows import ArrowTrainingRows, PredictionsFile, PredictionsWriter
from kepler.adapters.storage.csv_slices import ArrowRowSpools
from kepler.core.datasets import WideText
from kepler.core.errors import InvalidInput, NotFound
from kepler.core.outputs import NumberOutput, TextOutput
from kepler.core.records import NumberColumn, TextColumn


@pytest.fixture
def write(tmp_path):
    def write(*batches, columns=("a", "b")):
        path = tmp_path / "rows.arrow"
        schema = pa.schema([(name, pa.string()) for name in columns])
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for batch in batches:
                arrays = [pa.array(values, pa.string()) for values in batch]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
        return path

    return write


def test_numbers_across_batches(write):
    rows = ArrowTrainingRows(write([["1", None], ["x", "y"]], [["", "-2.5e3"], ["x", ""]]))
    assert (rows.columns, rows.n_rows) == (("a", "b"), 4)
    table = rows.read(["b", "a"])
    a, b = table.columns["a"], table.columns["b"]
    assert isinstance(a, NumberColumn)
    np.testing.assert_array_equal(a.values, [1, np.nan, np.nan, -2500])
    assert isinstance(b, TextColumn)
    assert [b.categories[code] if code >= 0 else None for code in b.codes] == ["x", "y", "x", None]
    assert list(table.columns) == ["b", "a"]


def test_a_field_that_stops_being_numeric_is_read_again_as_text(write):
    table = ArrowTrainingRows(write([["1", "2"], ["1", "1"]], [["n/a", "2"], ["1", "1"]])).read(["a", "b"])
    a = table.columns["a"]
    assert isinstance(a, TextColumn)
    assert [a.categories[code] for code in a.codes] == ["1", "2", "n/a", "2"]
    assert table.bad_numbers == {"a": "n/a"}
    assert isinstance(table.columns["b"], NumberColumn)


def test_what_counts_as_a_number(write):
    odd = ["nan", "NaN", " 7 ", "+5", "1e400", "-inf", "Infinity"]
    table = ArrowTrainingRows(write([odd, ["0"] * 7])).read(["a"])
    a = table.columns["a"]
    np.testing.assert_array_equal(a.values, [np.nan, np.nan, 7, 5, np.nan, np.nan, np.nan])
    assert table.infinite == {"a": 3}
    for text in ("0x10", "1_0", "１", "1,5", "  "):
        again = ArrowTrainingRows(write([[text], ["0"]])).read(["a"])
        assert isinstance(again.columns["a"], TextColumn), text


def test_numbers_alone_lie_in_one_block(write):
    rows = ArrowTrainingRows(write([["1", "2"], ["0", "inf"]], [["3"], ["7"]]))
    table = rows.read(["a", "b"])
    assert table.block.fields == ("a", "b")
    np.testing.assert_array_equal(table.block.values, [[1.0, 2.0, 3.0], [0.0, np.nan, 7.0]])
    assert all(np.shares_memory(table.columns[name].values, table.block.values) for name in "ab")
    assert rows.read(["a", "b"], as_text=frozenset("b")).block.fields == ("a",)
    assert rows.read(["a", "b"], as_text=frozenset("ab")).block is None


def test_there_is_no_block_beside_text(write):
    assert ArrowTrainingRows(write([["1"], ["x"]])).read(["a", "b"]).block is None
    assert ArrowTrainingRows(write([["1"], ["2"]], [["1"], ["x"]])).read(["a", "b"]).block is None


def test_text_stays_text_when_asked(write):
    table = ArrowTrainingRows(write([["1", "01"], ["0", "0"]])).read(["a"], as_text=frozenset(["a"]))
    assert table.columns["a"].categories == ("1", "01")
    assert table.bad_numbers == {}


def test_too_many_distinct_texts_keep_only_their_gaps(write):
    path = write([["a", "b", None], ["1"] * 3], [["c", "", "d"], ["1"] * 3], [["a", None, "e"], ["1"] * 3])
    table = ArrowTrainingRows(path, max_distinct=3).read(["a"])
    a = table.columns["a"]
    assert isinstance(a, WideText)
    assert a.missing.tolist() == [False, False, True, False, True, False, False, True, False]
    assert len(a) == 9


def test_no_batches_and_empty_ones(write):
    table = ArrowTrainingRows(write()).read(["a"])
    assert table.n_rows == 0
    assert len(table.columns["a"]) == 0
    assert ArrowTrainingRows(write([[], []], [["1"], ["x"]])).read(["a", "b"]).n_rows == 1


def test_other_text_types_and_offsets_are_read_too(tmp_path):
    path = tmp_path / "rows.arrow"
    array = pa.array(["", "1", "", "x"], pa.large_string())
    with (
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_file(file, pa.schema([("a", pa.large_string())])) as out,
    ):
        out.write_batch(pa.record_batch([array.slice(1)], names=["a"]))
    a = ArrowTrainingRows(path).read(["a"]).columns["a"]
    assert a.codes.tolist() == [0, -1, 1]


def test_what_the_upload_wrote(tmp_path):
    spool = ArrowRowSpools(0).open(tmp_path, ("a", "b", "c"), ("a", "c"))
    spool.write(b'1,x,"say ""hi"""\n2,y,\n')
    spool.write(b'3,z,"two\nlines"\n')
    spool.finish()
    rows = ArrowTrainingRows(tmp_path / "rows.arrow")
    assert rows.columns == ("a", "c")
    table = rows.read(["a", "c"])
    assert table.columns["a"].values.tolist() == [1, 2, 3]
    assert table.columns["c"].categories == ('say "hi"', "two\nlines")
    assert table.columns["c"].codes.tolist() == [0, -1, 1]


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(NotFound, match="rows of this training are gone"):
        ArrowTrainingRows(tmp_path / "rows.arrow")
    (tmp_path / "rows.arrow").write_bytes(b"nonsense")
    with pytest.raises(InvalidInput, match="cannot be read"):
        ArrowTrainingRows(tmp_path / "rows.arrow")


def test_predictions_appear_whole_and_come_back_as_csv(tmp_path):
    writer = PredictionsWriter(tmp_path, ("predicted(y)", "score"))
    labels = ("plain", 'q"uote', "two\nlines")
    writer.write(
        (
            TextOutput("predicted(y)", np.array([0, 1, -1], np.int32), labels),
            NumberOutput("score", np.array([1.0, 0.1, 2.0]), np.array([False, False, True])),
        ),
        3,
    )
    writer.write(
        (
            TextOutput("predicted(y)", np.array([2], np.int32), labels),
            NumberOutput("score", np.array([3], np.int64)),
        ),
        1,
    )
    with pytest.raises(NotFound, match="no predictions to read"):
        PredictionsFile.open(tmp_path)
    writer.close()
    file = PredictionsFile.open(tmp_path)
    assert file.columns == ("predicted(y)", "score")
    assert file.slices == 2
    assert file.read(0) == (b'plain,1.0\n"q""uote",0.1\n,\n', 3, True)
    assert file.read(1) == (b'"two\nlines",3\n', 1, False)
    file.close()
