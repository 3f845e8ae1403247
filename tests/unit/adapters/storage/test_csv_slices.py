"""Slices of CSV become columns or an Arrow file, and every malformed one a sentence."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kepler.adapters.storage.csv_slices import ROWS_FILE, ArrowRowSpools, SliceReader, check_header
from kepler.core.errors import Cancelled, Conflict, InvalidInput, Overloaded
from kepler.core.records import NumberColumn, TextColumn


def reader(*columns: str, numbers: tuple[str, ...] = ()) -> SliceReader:
    return SliceReader(columns, columns, frozenset(numbers))


def test_numbers_and_text_with_missing_values_and_quoted_line_breaks():
    batch = reader("a", "b", numbers=("a",)).read(b'1,"x\ny"\r\n,\n"2.5","say ""hi"""\n')
    number, text = batch["a"], batch["b"]
    assert isinstance(number, NumberColumn)
    assert isinstance(text, TextColumn)
    np.testing.assert_array_equal(number.values, [1.0, np.nan, 2.5])
    assert [text.categories[code] if code >= 0 else None for code in text.codes] == ["x\ny", None, 'say "hi"']


def test_only_required_fields_that_the_header_has_are_read():
    batch = SliceReader(("a", "b", "c"), ("c", "absent"), frozenset({"c"})).read(b"1,2,3\n")
    assert list(batch) == ["c"]
    assert batch.n_rows == 1


def test_rows_are_counted_when_no_required_field_is_there():
    assert SliceReader(("a",), ("absent",), frozenset()).read(b"1\n2\n").n_rows == 2


def test_an_empty_slice_has_no_rows_and_the_right_kinds():
    batch = reader("a", "b", numbers=("a",)).read(b"")
    assert batch.n_rows == 0
    assert isinstance(batch["a"], NumberColumn)
    assert isinstance(batch["b"], TextColumn)


@pytest.mark.parametrize(
    ("slice_", "said"),
    [
        (b"1,2,3\n", "A row has 3 values where the header has 2 fields"),
        (b"abc,2\n", "Field 'a' holds the text 'abc' where the model reads numbers"),
        (b"1,\xff\xfe\n", "cannot be read as UTF-8 CSV in field 'b'"),
    ],
)
def test_malformed_slices_are_one_sentence(slice_, said):
    with pytest.raises(InvalidInput, match=said.replace("(", r"\(")):
        reader("a", "b", numbers=("a",)).read(slice_)


@pytest.mark.parametrize(("columns", "said"), [((), "no columns"), (("a", "b", "a"), "'a' comes 2 times")])
def test_a_header_must_name_each_field_once(columns, said):
    with pytest.raises(InvalidInput, match=said):
        check_header(columns)


def test_the_spool_keeps_used_columns_as_text_and_hashes_what_came(tmp_path: Path):
    spools = ArrowRowSpools(0)
    spool = spools.open(tmp_path, ("a", "b", "c"), ("c", "a"))
    assert spool.write(b"1,x,007\n2,y,\n") == 2
    assert spool.write(b"") == 0
    assert spool.write(b"3,z,5.10\n") == 1
    digest = spool.finish()
    table = pa.ipc.open_file(tmp_path / ROWS_FILE).read_all()
    assert table.to_pydict() == {"a": ["1", "2", "3"], "c": ["007", None, "5.10"]}
    other = spools.open(tmp_path, ("a", "b", "c"), ("a",))
    other.write(b"1,x,007\n2,y,\n3,z,5.10\n")
    assert other.finish() == digest  # how the rows were cut does not matter


def test_an_aborted_spool_leaves_nothing_and_may_be_aborted_again(tmp_path: Path):
    spool = ArrowRowSpools(0).open(tmp_path, ("a",), ("a",))
    spool.write(b"1\n")
    spool.abort()
    spool.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_nearly_full_disk_refuses_the_upload_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 5 * 2**20))
    with pytest.raises(Overloaded, match="5 MB left, below the reserve of 10 MB"):
        ArrowRowSpools(10 * 2**20).open(tmp_path, ("a",), ("a",))


def test_a_full_disk_at_the_end_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spool = ArrowRowSpools(0).open(tmp_path, ("a",), ("a",))
    spool.write(b"1\n")

    def no_space(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(Overloaded, match="No space left on device"):
        spool.finish()
    spool.abort()


def test_two_uploads_into_one_folder_do_not_mix(tmp_path: Path):
    first = ArrowRowSpools(0).open(tmp_path, ("a",), ("a",))
    first.write(b"1\n")
    with pytest.raises(Conflict, match="being uploaded already"):
        ArrowRowSpools(0).open(tmp_path, ("a",), ("a",))
    first.finish()
    assert pa.ipc.open_file(tmp_path / ROWS_FILE).read_all().to_pydict() == {"a": ["1"]}


def test_a_slice_after_the_end_is_refused(tmp_path: Path):
    spool = ArrowRowSpools(0).open(tmp_path, ("a",), ("a",))
    spool.abort()
    with pytest.raises(Cancelled, match="was dropped"):
        spool.write(b"1\n")


def test_leftovers_of_a_crashed_upload_are_overwritten(tmp_path: Path):
    (tmp_path / ROWS_FILE).write_bytes(b"half a file" * 100)
    spool = ArrowRowSpools(0).open(tmp_path, ("a",), ("a",))
    spool.write(b"7\n")
    spool.finish()
    assert pa.ipc.open_file(tmp_path / ROWS_FILE).read_all().to_pydict() == {"a": ["7"]}
