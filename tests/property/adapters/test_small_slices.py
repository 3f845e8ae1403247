"""The way of a few rows without Arrow reads and writes exactly what Arrow does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kepler.adapters.storage.csv_fragments import quoted, render_many
from kepler.adapters.storage.csv_slices import SliceReader
from kepler.adapters.storage.small_slices import ROWS, SLICE_BYTES, read_small, render_small
from kepler.core.errors import InvalidInput
from kepler.core.outputs import NumberOutput, Output, TextOutput
from kepler.core.records import NumberColumn, RecordBatch

COLUMNS = ("n", "t", "other")
NUMBERS = {"n": True, "t": False}
number_like = st.one_of(
    st.integers(-(10**17), 10**17).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=4).map(str),
    st.sampled_from(
        ["", "007", "-0", "+1", "1e5", "1e400", "-1E-3", "nan", "inf", " 1", "1_0", "x", "1.", ".5"]
    ),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
cells = st.one_of(number_like, texts, st.sampled_from(["a b", 'a"b', "1,2", "\n", "\r\n", "\ufeff"]))
always = st.booleans()


def splunk(value: str, quote: bool) -> str:
    return '"' + value.replace('"', '""') + '"' if quote or any(c in value for c in ',"\n\r') else value


@st.composite
def slices(draw: st.DrawFn) -> bytes:
    rows = draw(st.lists(st.tuples(number_like, cells, cells, always), min_size=1, max_size=5))
    lines = [",".join(splunk(value, quote) for value in values) for *values, quote in rows]
    return ("\n".join(lines) + "\n").encode()


def same(one: RecordBatch, other: RecordBatch) -> bool:
    if one.n_rows != other.n_rows or list(one) != list(other):
        return False
    for name in one:
        left, right = one[name], other[name]
        if isinstance(left, NumberColumn):
            assert isinstance(right, NumberColumn)
            if left.values.tobytes() != right.values.tobytes() and not np.array_equal(
                left.values, right.values, equal_nan=True
            ):
                return False
        elif [left.categories[c] if c >= 0 else None for c in left.codes] != [
            right.categories[c] if c >= 0 else None
            for c in right.codes  # type: ignore[union-attr]
        ]:
            return False
    return True


def check(slice_: bytes) -> None:
    small = read_small(slice_, COLUMNS, NUMBERS)
    if small is not None:
        many = SliceReader(COLUMNS, ("n", "t"), frozenset({"n"})).read_many(slice_)
        assert same(small, many)


@settings(max_examples=400, deadline=None)
@given(slices())
def test_plain_slices_read_the_same(slice_: bytes) -> None:
    check(slice_)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(list(b'1a.,"\n\x00 -\xc3\xa9')), max_size=24).map(bytes))
@example(b'1,"a"b,c\n')
@example(b'1,a"b,c\n')
@example(b'1,"a,c\n')
@example(b"1,a,b\n\n2,a,b\n")
def test_odd_slices_are_read_the_same_or_left_to_arrow(slice_: bytes) -> None:
    check(slice_)


@pytest.mark.parametrize(
    "slice_",
    [b"", b"\n", b"1,a\n", b"1,a,b,c\n", b"x,a,b\n", b'1,"a,b\n', b"1,\xff,b\n", b"1,a,b\r\n", b"nan,a,b\n",
     b"1" * 16 + b",a,b\n", b"\xef\xbb\xbf1,a,b\n", b"1,a,b\n" * (SLICE_BYTES // 6 + 1)],
)  # fmt: skip
def test_what_is_not_plain_or_not_small_is_left_to_arrow(slice_: bytes) -> None:
    assert read_small(slice_, COLUMNS, NUMBERS) is None


@pytest.mark.parametrize("slice_", [b"\n", b"1\n\n2\n", b"\n1\n", b"1\n\n"])
def test_an_empty_line_of_a_single_column_is_left_to_arrow(slice_: bytes) -> None:
    assert read_small(slice_, ("n",), {"n": True}) is None
    assert read_small(slice_, ("t",), {"t": False}) is None


def test_the_reader_takes_the_short_way_and_falls_back() -> None:
    reader = SliceReader(COLUMNS, ("n", "t", "absent"), frozenset({"n", "absent"}))
    batch = reader.read(b'"1.5",a b,x\n,,x\n')
    assert isinstance(batch["n"], NumberColumn)
    assert batch["n"].values[0] == 1.5
    assert np.isnan(batch["n"].values[1])
    assert batch["t"].missing.tolist() == [False, True]
    assert reader.read(b" 1,a,b\r\n").n_rows == 1
    with pytest.raises(InvalidInput, match="holds the text 'x'"):
        reader.read(b"x,a,b\n")


@st.composite
def outputs(draw: st.DrawFn) -> tuple[list[Output], int]:
    n_rows = draw(st.integers(1, 6))
    found: list[Output] = []
    for at in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["float", "int", "text"]))
        blank = draw(st.none() | st.lists(always, min_size=n_rows, max_size=n_rows).map(np.array))
        if kind == "float":
            one = st.floats() | st.floats(-1e11, 1e11) | st.integers(-(10**11), 10**11).map(float)
            values = np.array(draw(st.lists(one, min_size=n_rows, max_size=n_rows)), np.float64)
            found.append(NumberOutput(f"c{at}", values, blank))
        elif kind == "int":
            whole = st.integers(-(2**63), 2**63 - 1)
            integers = np.array(draw(st.lists(whole, min_size=n_rows, max_size=n_rows)), np.int64)
            found.append(NumberOutput(f"c{at}", integers, blank))
        else:
            labels = tuple(draw(st.lists(texts, min_size=1, max_size=4)))
            codes = draw(st.lists(st.integers(-1, len(labels) - 1), min_size=n_rows, max_size=n_rows))
            found.append(TextOutput(f"c{at}", np.array(codes, np.int32), labels))
    return found, n_rows


@settings(max_examples=500, deadline=None)
@given(outputs())
@example(([NumberOutput("x", np.array([-0.0, 0.0, 1e-4, 9999999999.0, 0.1 + 0.2]))], 5))
def test_small_renderings_are_the_same(made: tuple[list[Output], int]) -> None:
    columns, n_rows = made
    small = render_small(columns, n_rows)
    if small is not None:
        assert small == render_many(columns, n_rows)


def test_numbers_with_exponents_and_many_rows_are_left_to_arrow() -> None:
    assert render_small([NumberOutput("x", np.array([1e10]))], 1) is None
    assert render_small([NumberOutput("x", np.array([1e-5]))], 1) is None
    assert render_small([NumberOutput("x", np.array([np.inf]))], 1) is None
    assert render_small([], ROWS + 1) is None
    assert render_small([NumberOutput("x", np.array([2.5, np.nan]))], 2) == b"2.5\n\n"
    assert quoted('say "hi"') == '"say ""hi"""'
