"""Bytes that are no UTF-8 and halves of surrogate pairs reach messages as text that UTF-8 can hold."""

from __future__ import annotations

from kepler_app.rows import header_line, read_header, sendable
from kepler_app.searchinfo import SearchInfo


def test_column_names_are_sent_as_text_and_given_back_as_bytes() -> None:
    header = b'age,"x\xff",y\n'
    columns, _ = read_header(header)
    assert sendable(columns) == ["age", "x\ufffd", "y"]
    assert header_line(columns) == header


def test_names_in_utf_8_stay() -> None:
    assert sendable(["ทt", "a b"]) == ["ทt", "a b"]


def test_arguments_hold_no_half_pairs() -> None:
    info = SearchInfo(
        {"searchinfo": {"raw_args": ["a\ud800", "b"], "args": ["a\udcff"], "username": "u\ud83d"}}
    )
    assert info.raw_args == ["a?", "b"]
    assert info.args == ["a?"]
    assert info.user == "u?"
