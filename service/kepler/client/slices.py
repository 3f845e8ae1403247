"""CSV text as opaque bytes: cut between records, joined at their ends, never parsed cell by cell.

Quotes mean something at the start of a field only, as in Arrow's reader and Python's csv module. Text
whose every line holds an even number of quotes has one record a line; only other text is scanned.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator

import numpy as np

from kepler.client.constants import MESSAGE_BYTES_MAX, SLICE_BYTES
from kepler.core.errors import InvalidInput

RECORD_BYTES_MAX = MESSAGE_BYTES_MAX - 64 * 1024
"""Longest record; the rest of a message is left to its frame."""

# One whole record with its LF. Possessive throughout, so hostile text costs one pass.
_FIELD = rb'(?:"(?:[^"]++|"")*+"[^,\n]*+|(?!")[^,\n]*+)'
_RECORD = re.compile(rb"(?>(?:" + _FIELD + rb",)*+" + _FIELD + rb")\n")
_BLANK = re.compile(rb"(?m)^\r?\n")


def one_record_per_line(text: bytes) -> bool:
    """Whether no record of ``text`` spans lines: every line has an even number of quotes."""
    if b'"' not in text:
        return True
    raw = np.frombuffer(text, dtype=np.uint8)
    quotes = np.flatnonzero(raw == 34)
    before_line_end = np.searchsorted(quotes, np.flatnonzero(raw == 10))
    return not len(quotes) % 2 and not np.any(before_line_end % 2)


def records_end(text: bytes) -> int:
    """Offset behind the last whole record of ``text``; 0 when there is none.

    >>> records_end(b'1,a\\n2,"b\\nc"\\n3,')
    12
    """
    if one_record_per_line(text[: text.rfind(b"\n") + 1]):
        return text.rfind(b"\n") + 1
    end = 0
    while found := _RECORD.match(text, end):
        end = found.end()
    return end


def split_records(text: bytes) -> list[bytes]:
    """Records of ``text``, whole records only, without their line ends.

    >>> split_records(b'1,a\\r\\n2,"b\\nc"\\n')
    [b'1,a', b'2,"b\\nc"']
    """
    if one_record_per_line(text):
        lines = text.split(b"\n")
        if not lines[-1]:
            lines.pop()
    else:
        lines, end = [], 0
        while found := _RECORD.match(text, end):
            lines.append(found.group()[:-1])
            end = found.end()
        if end < len(text):
            lines.append(text[end:])
    if b"\r" in text:
        lines = [line[:-1] if line.endswith(b"\r") else line for line in lines]
    return lines


def join_records(left: bytes, right: bytes) -> bytes:
    """Each record of ``left`` with the one of ``right`` appended; both must have as many.

    >>> join_records(b"1,a\\n2,b\\n", b"x\\ny\\n")
    b'1,a,x\\n2,b,y\\n'
    """
    ours, theirs = split_records(left), split_records(right)
    if len(ours) != len(theirs):
        raise InvalidInput(
            f"{len(theirs)} results came back for {len(ours)} records",
            cause="A record is not what CSV readers agree on, for example a quote inside an unquoted value",
            fix="Quote every value that holds a comma, a quote or a line break, and double quotes inside",
        )
    return b"".join([b"%b,%b\n" % pair for pair in zip(ours, theirs, strict=True)])


def tidy(text: bytes, n_columns: int) -> bytes:
    """``text`` without blank lines; in one column a blank line is a missing value and is kept as ``""``."""
    if n_columns == 1:
        return _BLANK.sub(b'""\n', text) if one_record_per_line(text) else text
    if (text.startswith((b"\n", b"\r\n")) or b"\n\n" in text or b"\n\r\n" in text) and one_record_per_line(
        text
    ):
        return _BLANK.sub(b"", text)
    return text


def read_slices(
    read: Callable[[int], bytes], n_columns: int, *, slice_bytes: int = SLICE_BYTES
) -> Iterator[bytes]:
    """Slices of whole records from ``read(size)``, which gives ``b""`` at the end.

    Raises `InvalidInput` for a record too long to send: mostly a quote that is never closed.
    """
    rest = b""
    while True:
        block = read(max(slice_bytes - len(rest), slice_bytes // 4))
        if not block:
            break
        rest += block
        end = records_end(rest)
        if end and len(rest) >= slice_bytes:
            yield from _nonempty(tidy(rest[:end], n_columns))
            rest = rest[end:]
        elif len(rest) > RECORD_BYTES_MAX:
            raise _too_long()
    if rest and not rest.endswith(b"\n"):
        rest += b"\n"
    if rest and records_end(rest) != len(rest):
        raise InvalidInput(
            "The data ends inside a quoted value",
            fix="Close the quote; quotes inside a quoted value are written twice",
        )
    yield from _nonempty(tidy(rest, n_columns))


def _nonempty(text: bytes) -> Iterator[bytes]:
    if len(text) > RECORD_BYTES_MAX:
        raise _too_long()
    if text:
        yield text


def _too_long() -> InvalidInput:
    return InvalidInput(
        f"A record is longer than {RECORD_BYTES_MAX:,} bytes",
        cause="It is too long to send, or a quote is never closed",
        fix="Shorten the value or repair the quotes",
    )


def parse_header(record: bytes, name: str) -> tuple[str, ...]:
    """Column names of a header record; ``name`` says whose, for the error."""
    if record.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InvalidInput(f"{name} is UTF-16 text", fix="Save it as UTF-8")
    try:
        text = record.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"The header of {name} is not UTF-8", fix="Save the data as UTF-8") from error
    header = next(csv.reader(io.StringIO(text.rstrip("\r\n"), newline="")), [])
    if not header or all(not column.strip() for column in header):
        raise InvalidInput(f"{name} has no header", fix="Write the column names into its first line")
    for separator, spoken in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            raise InvalidInput(f"{name} is separated by {spoken}", fix="Separate the columns by commas")
    return tuple(header)


def header_bytes(columns: tuple[str, ...]) -> bytes:
    """The header record of a CSV file with these columns.

    >>> header_bytes(("a", "b,c"))
    b'a,"b,c"\\n'
    """
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerow(columns)
    return out.getvalue().encode()
