"""Columns and their CSV."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.splunkd.table import (
    Table,
    concat,
    decode_mv,
    encode_mv,
    from_csv,
    join_chunks,
    number_text,
    rechunk,
    text,
    to_csv,
)

# Surrogates cannot travel as UTF-8; NUL is refused by older csv modules.
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)
NAME = st.text('abc_ .,"=é', min_size=1, max_size=6).filter(lambda n: not n.startswith("__mv_"))


@given(st.lists(NAME, min_size=1, max_size=4, unique=True), st.integers(0, 4), st.data())
def test_csv_there_and_back(names: list[str], n_rows: int, data: st.DataObject) -> None:
    columns = {n: data.draw(st.lists(TEXT, min_size=n_rows, max_size=n_rows)) for n in names}
    body = to_csv(Table(columns, n_rows))
    back = from_csv(body)
    assert (back.columns, back.n_rows) == (columns, n_rows)
    # The slow twin: Python's own reader sees plain columns, then as many empty ones.
    rows = list(csv.reader(io.StringIO(body.decode(), newline="")))
    assert rows[0] == [*names, *("__mv_" + n for n in names)]
    assert [row[: len(names)] for row in rows[1:]] == [
        [c[i] for c in columns.values()] for i in range(n_rows)
    ]


@given(st.lists(TEXT, min_size=2, max_size=4))
def test_multivalues_there_and_back(values: list[str]) -> None:
    assert decode_mv(encode_mv(values)) == values


def test_multivalue_columns_follow_the_plain_ones() -> None:
    table = Table.from_rows([{"a": ["x", "y$"], "b": None}, {"a": "z", "b": 2.0}])
    assert to_csv(table) == b'a,b,"__mv_a","__mv_b"\n"x\ny$",,"$x$;$y$$$",\nz,2,,\n'
    back = from_csv(to_csv(table))
    assert [back.value("a", 0), back.value("a", 1), back.value("b", 1)] == [["x", "y$"], "z", "2"]


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b"", []),
        (b"\r\n", []),
        (b"a,__mv_a,b\r\n1,,2\r\n", [{"a": "1", "b": "2"}]),
        (b"a\n1\n\n2\n", [{"a": "1"}, {"a": ""}, {"a": "2"}]),
        (b"a,b\n1\n1,2,3\n", [{"a": "1", "b": ""}, {"a": "1", "b": "2"}]),
        (b"a,a\n1,2\n", [{"a": "1"}]),
    ],
)
def test_replies_of_many_shapes_are_read(body: bytes, rows: list[dict[str, str]]) -> None:
    assert from_csv(body).rows() == rows


def test_chunks_are_cut_joined_and_concatenated() -> None:
    parts = [Table({"a": [str(i)] * i}, i) for i in (1, 5, 2)]
    assert [t.n_rows for t in rechunk(iter(parts), 3)] == [1, 3, 2, 2]
    assert [t.n_rows for t in join_chunks(iter(parts), 3)] == [3, 3, 2]
    assert [t.n_rows for t in join_chunks(iter([Table({"a": ["1"] * 3}, 3)]), 3)] == [3, 0]
    whole = concat([Table({"a": ["1"]}, 1), Table.from_rows([{"b": ["x", "y"]}])])
    assert whole.rows() == [{"a": "1", "b": ""}, {"a": "", "b": "x\ny"}]
    assert whole.value("b", 1) == ["x", "y"]
    assert concat([]).n_rows == 0


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (True, "1"),
        (False, "0"),
        (2.0, "2"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        ("x", "x"),
        (3, "3"),
    ],
)
def test_values_as_text(value: object, shown: str) -> None:
    assert text(value) == shown


def test_numbers_that_are_none() -> None:
    assert [number_text(float(x)) for x in ("nan", "inf", "-inf")] == ["nan", "inf", "-inf"]
