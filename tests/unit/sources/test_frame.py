"""Tables in memory become CSV, by Arrow, by pandas or by hand, always the same records."""

from __future__ import annotations

import csv
import io
import sys
from typing import Any

import numpy as np
import pytest

from kepler.client import slices as slices_module
from kepler.core.errors import InvalidInput
from kepler.ports.data import DataSource
from kepler.sources import frame as frame_module
from kepler.sources.frame import FrameRows

COLUMNS: dict[str, Any] = {
    "n": np.array([1.5, np.nan, -3e-9]),
    "i": [1, 2, 3],
    "s": ["plain", 'with "quotes", commas\nand lines', None],
}
EXPECTED = [["1.5", "1", "plain"], ["", "2", 'with "quotes", commas\nand lines'], ["-3e-09", "3", ""]]


@pytest.fixture(params=["arrow", "no arrow"])
def writer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "no arrow":
        monkeypatch.setattr(frame_module, "_to_arrow", lambda frame: None)
    else:
        pytest.importorskip("pyarrow")
    return str(request.param)


def cells(source: FrameRows) -> list[list[str]]:
    text = b"".join(source.slices()).decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    return [[value if value != "-3e-9" else "-3e-09" for value in row] for row in rows]


def test_a_mapping_of_columns(writer: str) -> None:
    source = FrameRows(COLUMNS)
    assert isinstance(source, DataSource)
    assert source.columns == ("n", "i", "s")
    assert len(source) == 3
    assert cells(source) == EXPECTED
    assert cells(source) == EXPECTED, "a source can be read again"


def test_a_data_frame_without_its_index(writer: str) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(COLUMNS, index=["x", "y", "z"])
    assert cells(FrameRows(frame)) == EXPECTED


def test_a_list_of_dictionaries(writer: str) -> None:
    assert cells(FrameRows([{"a": 1}, {"b": "x"}])) == [["1", ""], ["", "x"]]
    with pytest.raises(InvalidInput, match="must be a dictionary"):
        FrameRows([[1, 2]])


def test_columns_of_mixed_values_are_written_as_they_print() -> None:
    pandas = pytest.importorskip("pandas")
    assert cells(FrameRows(pandas.DataFrame({"a": [1, "x", None]}))) == [["1"], ["x"], [""]]


def test_arrow_tables_and_categories() -> None:
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"f": pa.array([1.0, float("nan")]), "c": pa.array(["u", "v"]).dictionary_encode()})
    assert cells(FrameRows(table)) == [["1", "u"], ["", "v"]]
    assert cells(FrameRows(table.to_batches()[0])) == [["1", "u"], ["", "v"]]
    with pytest.raises(InvalidInput, match="lists or structures"):
        FrameRows(pa.table({"l": [[1], [2]]}))


def test_anything_that_speaks_arrow() -> None:
    pa = pytest.importorskip("pyarrow")

    class Speaks:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return pa.table({"a": [1, 2]}).__arrow_c_stream__(requested_schema)

    assert cells(FrameRows(Speaks())) == [["1"], ["2"]]


def test_one_column_keeps_its_missing_values_as_records(writer: str) -> None:
    assert b"".join(FrameRows({"a": [1, None, 3]}).slices()).splitlines() in (
        [b"1", b'""', b"3"],
        [b"1.0", b'""', b"3.0"],
    )


def test_big_tables_come_in_slices_of_the_right_size(writer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_module, "SLICE_BYTES", 1_000)
    monkeypatch.setattr(frame_module, "RECORD_BYTES_MAX", 2_000)
    source = FrameRows({"a": list(range(10_000)), "b": ["x"] * 10_000})
    parts = list(source.slices())
    assert max(map(len, parts)) <= 2_000
    assert len(parts) > 10
    numbers = [record.split(b",")[0] for part in parts for record in slices_module.split_records(part)]
    assert numbers == [b"%d" % n for n in range(10_000)]
    with pytest.raises(InvalidInput, match="Row 0 is longer"):
        list(FrameRows({"a": ["x" * 3_000], "b": [1]}).slices())


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"a": [1], "b": [1, 2]}, "'a' has 1 rows and 'b' has 2"),
        ({}, "no columns"),
        (5, "A int is no table"),
        ("text", "A str is no table"),
    ],
)
def test_what_is_no_table_is_said(frame: Any, said: str, writer: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        FrameRows(frame)


def test_without_arrow_installed_the_csv_module_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert cells(FrameRows(COLUMNS)) == EXPECTED


def test_doubled_columns_are_said(writer: str) -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(InvalidInput, match="'a' comes more than once"):
        FrameRows(pandas.DataFrame([[1, 2]], columns=["a", "a"]))


def test_an_empty_table_has_columns_and_no_slices(writer: str) -> None:
    assert list(FrameRows({"a": [], "b": []}).slices()) == []
