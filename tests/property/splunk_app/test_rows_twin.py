"""Opaque records against the csv module, and whatever bytes against the loop."""

from __future__ import annotations

import csv
import io
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kepler_app.chunks import Command, Reply, read_message, serve, write_message
from kepler_app.errors import SearchError
from kepler_app.lexer import parse
from kepler_app.rows import Appender, cut, fragments, header_line, quote, read_header, table_body

QUICK = settings(max_examples=60)
CELL = st.text(st.sampled_from('ab1 ,"\n\r.;$é'), max_size=6)
NAME = st.text(st.sampled_from('abc_ ."(=)'), min_size=1, max_size=5)


def tables(max_width: int = 4) -> st.SearchStrategy[tuple[list[str], list[list[str]]]]:
    return st.lists(NAME, min_size=1, max_size=max_width, unique=True).flatmap(
        lambda names: st.tuples(
            st.just(names),
            st.lists(st.lists(CELL, min_size=len(names), max_size=len(names)), max_size=12),
        )
    )


def splunk_csv(names: list[str], rows: list[list[str]], end: str = "\n") -> bytes:
    """As Splunk writes it; a lone empty cell is quoted so that its record is no blank line."""
    lines = [",".join(map(quote, row)) or '""' for row in [names, *rows]]
    return (end.join(lines) + end).encode()


def read(body: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(body.decode(), newline="")))


@QUICK
@given(tables(), st.integers(8, 200), st.sampled_from(["\n", "\r\n"]))
def test_cutting_and_appending_equals_the_csv_module(
    table: tuple[list[str], list[list[str]]], size: int, end: str
) -> None:
    names, rows = table
    body = splunk_csv(names, rows, end)
    columns, start = read_header(body)
    assert columns == names
    appender = Appender(columns, ["new (1)"])
    out = [appender.header]
    number = 0
    for slice_ in cut(body, start, len(columns), size):
        new = [b"%d" % (number + offset) for offset in range(len(slice_.records))]
        out.append(appender.append(slice_, new))
        number += len(new)
    assert read(b"".join(out)) == [[*names, "new (1)"], *([*row, str(at)] for at, row in enumerate(rows))]


@QUICK
@given(tables(), st.integers(8, 200), st.data())
def test_replacing_a_column_equals_the_csv_module(
    table: tuple[list[str], list[list[str]]], size: int, data: st.DataObject
) -> None:
    names, rows = table
    old = data.draw(st.sampled_from(names))
    at = names.index(old)
    body = splunk_csv(names, rows)
    _, start = read_header(body)
    appender = Appender(names, [old])
    parts = (appender.append(s, [b"9"] * len(s.records)) for s in cut(body, start, len(names), size))
    out = [appender.header, *parts]
    kept = [[*row[:at], *row[at + 1 :], "9"] for row in rows]
    assert read(b"".join(out)) == [[*names[:at], *names[at + 1 :], old], *kept]


@given(st.lists(CELL, min_size=1, max_size=20))
def test_fragments_come_back_whole(values: list[str]) -> None:
    text = "".join((quote(value) or '""') + "\n" for value in values).encode()
    assert [read(part + b"\n")[0] for part in fragments(text, len(values), False)] == [
        [value] for value in values
    ]


@QUICK
@given(st.lists(NAME, min_size=1, max_size=6, unique=True), st.lists(st.lists(CELL, min_size=1), max_size=5))
def test_tables_are_read_back(names: list[str], rows: list[list[str]]) -> None:
    rows = [(row * len(names))[: len(names)] for row in rows]
    body = table_body(names, rows)
    assert read_header(body)[0] == names
    expected = [row for row in rows if row != [""]]
    assert [row for row in read(body)[1:] if row] == expected
    assert header_line(names) + b"" == body[: len(header_line(names))]


@given(st.lists(st.text(st.sampled_from('ab ,="\\()*'), min_size=1, max_size=6), max_size=5))
def test_quoted_words_come_back(texts: list[str]) -> None:
    raw = ['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts]
    if any(left.isidentifier() for left in texts):
        raw = [f"{word}," for word in raw]
    assert [word.text for word in parse(raw).words] == texts


@given(st.lists(st.text(st.sampled_from('ab ,="\\()*\n'), max_size=8), max_size=6))
@QUICK
def test_any_arguments_parse_or_are_refused_in_one_sentence(raw: list[str]) -> None:
    sentence = "."
    try:
        parse(raw)
    except SearchError as error:
        sentence = error.sentence
    assert sentence.endswith(".")


class Echo(Command):
    name = "echo"

    def getinfo(self, metadata: dict[str, Any]) -> dict[str, Any]:
        return {"type": "stateful"}

    def execute(self, body: bytes, finished: bool) -> Reply:
        columns, start = read_header(body)
        appender = Appender(columns, ["p"])
        parts = [appender.append(s, [b"1"] * len(s.records)) for s in cut(body, start, len(columns), 64)]
        return Reply([appender.header, *parts])


def check_output(output: bytes, requests: int) -> None:
    """Only whole replies, never more than requests, at most one error and nothing after it."""
    stream, count = io.BytesIO(output), 0
    while True:
        at = stream.tell()
        message = read_message(stream)
        if message is None:
            assert at == len(output)
            break
        count += 1
        if "error" in message[0]:
            assert stream.tell() == len(output)
            assert "Traceback" not in message[0]["error"]
            assert "failed inside" not in message[0]["error"]
    assert count <= requests


@given(st.binary(max_size=300))
@QUICK
def test_any_body_is_answered_once(body: bytes) -> None:
    stdin = io.BytesIO()
    write_message(stdin, {"action": "execute", "finished": True}, [body], len(body))
    stdout = io.BytesIO()
    serve(Echo(), io.BytesIO(stdin.getvalue()), stdout)
    check_output(stdout.getvalue(), 1)
    assert stdout.getvalue()


@given(st.lists(st.tuples(tables(), st.booleans()), min_size=1, max_size=3), st.data())
@QUICK
def test_damaged_input_never_breaks_the_loop(chunks: list[Any], data: st.DataObject) -> None:
    stdin = io.BytesIO()
    for (names, rows), finished in chunks:
        body = splunk_csv(names, rows)
        write_message(stdin, {"action": "execute", "finished": finished}, [body], len(body))
    damaged = bytearray(stdin.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    stdout = io.BytesIO()
    assert serve(Echo(), io.BytesIO(bytes(damaged)), stdout) in (0, 1)
    check_output(stdout.getvalue(), len(chunks) + 1)


@given(st.dictionaries(st.text(max_size=4), st.text(max_size=8), max_size=4), st.binary(max_size=50))
def test_messages_come_back(metadata: dict[str, str], body: bytes) -> None:
    stream = io.BytesIO()
    write_message(stream, metadata, [body], len(body))
    stream.seek(0)
    again = read_message(stream)
    assert again is not None
    assert again[1] == body
    safe = json.dumps(metadata, ensure_ascii=False).encode("utf-8", "replace").decode()
    assert json.dumps(again[0], ensure_ascii=False) == safe


@pytest.mark.full
@pytest.mark.timeout(600)
def test_ten_thousand_fuzzed_chunks() -> None:
    seed = random.Random(7)
    letters = b'ab1 ,"\n\r.;$\xc3\xa9\x00'
    for _ in range(10_000):
        body = bytes(seed.choices(letters, k=seed.randrange(200)))
        stdin, stdout = io.BytesIO(), io.BytesIO()
        write_message(stdin, {"action": "execute", "finished": True}, [body], len(body))
        assert serve(Echo(), io.BytesIO(stdin.getvalue()), stdout) in (0, 1)
        check_output(stdout.getvalue(), 1)
