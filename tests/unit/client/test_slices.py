"""Records are cut and joined without being parsed, exactly where the csv module would."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler.client import slices
from kepler.core.errors import InvalidInput

CELLS = st.text(alphabet='ab",\n\r é', max_size=6)
ROWS = st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=30)


def text_of(rows: list[list[str]]) -> bytes:
    # By hand: the csv module leaves a lone carriage return unquoted.
    def cell(value: str) -> str:
        special = any(character in value for character in '",\n\r')
        return '"' + value.replace('"', '""') + '"' if special or not value else value

    return "".join(",".join(map(cell, row)) + "\n" for row in rows).encode()


def rows_of(text: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode(), newline="")))


def sliced(text: bytes, n_columns: int, size: int) -> list[bytes]:
    return list(slices.read_slices(io.BytesIO(text).read, n_columns, slice_bytes=size))


@given(ROWS, st.integers(4, 40))
def test_slices_hold_whole_records_and_lose_nothing(rows: list[list[str]], size: int) -> None:
    text = text_of(rows)
    parts = sliced(text, 2, size)
    assert b"".join(parts) == text
    assert [row for part in parts for row in rows_of(part)] == rows


@given(ROWS)
def test_splitting_agrees_with_the_csv_module(rows: list[list[str]]) -> None:
    records = slices.split_records(text_of(rows))
    assert [rows_of(record)[0] for record in records] == [rows_of(text_of([row]))[0] for row in rows]


@given(
    ROWS.flatmap(
        lambda rows: st.tuples(st.just(rows), st.lists(CELLS, min_size=len(rows), max_size=len(rows)))
    )
)
def test_joining_appends_each_result_to_its_record(pair: tuple[list[list[str]], list[str]]) -> None:
    rows, results = pair
    # A lone empty value is written with quotes, as every CSV writer does, so that the line isn't blank.
    joined = slices.join_records(text_of(rows), text_of([[value] for value in results]))
    assert rows_of(joined) == [[*row, value] for row, value in zip(rows, results, strict=True)]


def test_a_stray_quote_inside_a_value_does_not_swallow_the_lines_behind_it() -> None:
    text = b'1,5" pipe\n2,6" pipe\n3,x\n'
    assert slices.split_records(text) == [b'1,5" pipe', b'2,6" pipe', b"3,x"]
    assert b"".join(sliced(text, 2, 8)) == text


def test_line_ends_of_windows_are_no_part_of_a_value() -> None:
    assert slices.join_records(b"1,a\r\n2,b\r\n", b"x\ny\n") == b"1,a,x\n2,b,y\n"


def test_a_missing_last_line_end_is_added() -> None:
    assert sliced(b"1,a\n2,b", 2, 100) == [b"1,a\n2,b\n"]


def test_blank_lines_are_no_records_of_several_columns() -> None:
    assert sliced(b"\n1,a\n\r\n\n2,b\n\n", 2, 100) == [b"1,a\n2,b\n"]
    assert sliced(b"\n\n", 2, 100) == []


def test_blank_lines_are_missing_values_of_one_column() -> None:
    assert sliced(b"1\n\n2\n", 1, 100) == [b'1\n""\n2\n']
    assert sliced(b'1\n\n"a\nb"\n', 1, 100) == [b'1\n\n"a\nb"\n']


def test_blank_lines_inside_a_quoted_value_are_kept() -> None:
    text = b'1,"a\n\nb"\n2,c\n'
    assert sliced(text, 2, 100) == [text]


def test_a_quote_that_never_closes_is_said() -> None:
    with pytest.raises(InvalidInput, match="ends inside a quoted value"):
        sliced(b'1,"abc\n2,d\n', 2, 100)


def test_a_record_too_long_to_send_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "RECORD_BYTES_MAX", 50)
    with pytest.raises(InvalidInput, match="longer than 50 bytes"):
        sliced(b'1,"' + b"x" * 500, 2, 20)
    with pytest.raises(InvalidInput, match="longer than 50 bytes"):
        sliced(b'1,"' + b"x" * 44 + b'yyyyyyyy"\n', 2, 60)


def test_a_different_number_of_results_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="1 results came back for 2 records"):
        slices.join_records(b"1\n2\n", b"x\n")


def test_an_unfinished_record_at_the_end_is_still_a_record() -> None:
    assert slices.split_records(b'1,"a\nb"\n2,"c') == [b'1,"a\nb"', b'2,"c']


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (b"a,b\n", ("a", "b")),
        (b'\xef\xbb\xbfa,"b ""c"", d"\r\n', ("a", 'b "c", d')),
        ('größe,"zwei\nzeilen"\n'.encode(), ("größe", "zwei\nzeilen")),
    ],
)
def test_headers(header: bytes, columns: tuple[str, ...]) -> None:
    assert slices.parse_header(header, "x.csv") == columns
    if not header.startswith(b"\xef"):
        assert slices.parse_header(slices.header_bytes(columns), "x.csv") == columns


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"", "no header"),
        (b",,\n", "no header"),
        (b"\xff\xfea\x00", "UTF-16"),
        (b"gr\xf6sse,b\n", "not UTF-8"),
        (b"a;b;c\n", "semicolons"),
        (b"a\tb\n", "tabs"),
    ],
)
def test_unusable_headers_are_said(header: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        slices.parse_header(header, "x.csv")
