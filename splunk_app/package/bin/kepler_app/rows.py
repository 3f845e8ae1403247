"""CSV records as opaque bytes: cut into slices, given new columns at their ends, never parsed on the fast path.

Splunk quotes every value that is not purely alphanumeric and doubles quotes within, so a record ends at a
line feed unless its line holds an odd number of quotes. Only then a regular expression of CSV's grammar
looks for the records' ends. Cells are parsed only to replace a column or to bring a changed header in line.
"""

from __future__ import annotations

import csv
import io
import re

from kepler_app.errors import SearchError, full_stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SLICE_BYTES = 3 * 512 * 1024  # 1.5 MB: messages of 1 to 2 MB went fastest
MAX_SLICE_BYTES = 4 * 1024 * 1024 - 4096  # the service takes messages of 4 MiB
CHUNK_INDEX = "_chunked_idx"
MV_PREFIX = "__mv_"
_FIELD = rb'(?:"[^"]*(?:""[^"]*)*"[^,\n]*|[^,"\n][^,\n]*)?'
_RECORD = re.compile(_FIELD + rb"(?:," + _FIELD + rb")*(?:\n|\Z)")
_PLAIN = re.compile(r"[A-Za-z0-9]*")
_NOT_STRUCTURE = bytes(set(range(256)) - {0x0A, 0x22})
_BLANK = 4096  # looked at before the whole of a chunk, which is copied to be stripped
_CELL_LIMIT = 128 * 1024 * 1024


class Slice:
    """Whole records: ``records`` without line ends, ``raw`` the same as bytes to send (LF after each)."""

    __slots__ = ("raw", "records")

    def __init__(self, raw: bytes, records: list[bytes]) -> None:
        self.raw = raw
        self.records = records


def quote(text: str) -> str:
    """``text`` as Splunk writes it: quoted when a character is outside A-Z, a-z, 0-9."""
    return text if _PLAIN.fullmatch(text) else '"' + text.replace('"', '""') + '"'


def header_line(columns: Iterable[str]) -> bytes:
    """The header record with its line feed."""
    return ",".join(map(quote, columns)).encode("utf-8", "surrogateescape") + b"\n"


def table_body(columns: list[str], rows: Iterable[Iterable[str]]) -> bytes:
    """A small table as CSV."""
    lines = [",".join(map(quote, columns)), *(",".join(map(quote, row)) for row in rows)]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def read_header(body: bytes) -> tuple[list[str], int]:
    """Column names, and where the records start. No columns for an empty body.

    >>> read_header(b'age,"_time"\\r\\n1,2\\r\\n')
    (['age', '_time'], 13)
    """
    if not body[:_BLANK].strip() and not body.strip():
        return [], len(body)
    match = _RECORD.match(body)
    if match is None:
        raise SearchError("The header of the rows has a quote that is not closed.")
    line = match[0].decode("utf-8", "surrogateescape").rstrip("\r\n")
    return next(_parsed(line), []), match.end()


def sendable(columns: Iterable[str]) -> list[str]:
    """``columns`` as a message takes them: bytes that are not UTF-8 become U+FFFD.

    >>> sendable(read_header(b"age,x\\xff\\n")[0]) == ["age", "x\\ufffd"]
    True
    """
    return [name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in columns]


def _even(raw: bytes) -> bool:
    """Whether every line holds an even number of quotes, so that each line is one record.

    With all but quotes and line feeds gone, pairs of quotes vanish; what is left over stood alone on its line.
    """
    return b'"' not in raw.translate(None, _NOT_STRUCTURE).replace(b'""', b"")


def _unfold(lines: list[bytes]) -> list[bytes]:
    """Strip carriage returns from line ends."""
    return [line[:-1] if line.endswith(b"\r") else line for line in lines]


def _blank_free(lines: list[bytes], width: int) -> list[bytes]:
    """Make blank lines unambiguous: one empty cell when there is one column, else no record at all."""
    if b"" not in lines:
        return lines
    return [line or b'""' for line in lines] if width == 1 else [line for line in lines if line]


def cut(body: bytes, start: int, width: int, size: int = SLICE_BYTES) -> Iterator[Slice]:
    """Slices of about ``size`` bytes from ``start`` on, each of whole records with ``width`` columns.

    CRLF line ends become LF. Raises `SearchError` for a quote that is never closed and for a record that no
    message can hold.
    """
    at, total = start, len(body)
    carriage = body.find(b"\r", start) >= 0  # one byte is looked for several times quicker than two
    while at < total:
        end = total if total - at <= size else body.rfind(b"\n", at, at + size) + 1
        if end == 0:  # one line longer than a slice
            end = body.find(b"\n", at) + 1 or total
        raw = body[at:end]
        if not _even(raw):
            yield from _cut_quoted(body, at, width, size)
            return
        lines = raw.split(b"\n")
        if not lines[-1]:
            lines.pop()
        at = end
        clean = _blank_free(_unfold(lines) if carriage else lines, width)
        if clean is not lines or not raw.endswith(b"\n"):
            raw = b"\n".join(clean) + b"\n" if clean else b""
        if clean:
            yield _checked(raw, clean)


def _checked(raw: bytes, records: list[bytes]) -> Slice:
    if len(raw) > MAX_SLICE_BYTES:
        raise SearchError(
            f"A row of {len(raw) // 1024:,} kB is too long to send; the limit is {MAX_SLICE_BYTES // 1024:,} kB. "
            "Leave out long fields first, for example with '| fields - _raw'."
        )
    return Slice(raw, records)


def records_of(body: bytes, start: int = 0) -> list[bytes]:
    """Records from ``start`` on, without line ends, found by CSV's grammar: quoted line breaks are kept."""
    records: list[bytes] = []
    at, total = start, len(body)
    match_at = _RECORD.match
    while at < total:
        match = match_at(body, at)
        if match is None or match.end() == at:
            raise SearchError(
                "A row has a quote that is not closed, so the rows after it cannot be told apart."
            )
        end = match.end()
        record = body[at : end - 1] if body[end - 1 : end] == b"\n" else body[at:end]
        records.append(record[:-1] if record.endswith(b"\r") else record)
        at = end
    return records


def _cut_quoted(body: bytes, start: int, width: int, size: int) -> Iterator[Slice]:
    """`cut` for bodies with line breaks inside quotes."""
    batch: list[bytes] = []
    length = 0
    for record in _blank_free(records_of(body, start), width):
        if batch and length + len(record) + 1 > size:
            yield _checked(b"\n".join(batch) + b"\n", batch)
            batch, length = [], 0
        batch.append(record)
        length += len(record) + 1
    if batch:
        yield _checked(b"\n".join(batch) + b"\n", batch)


def fragments(values: bytes, rows: int, one_line_per_row: bool) -> list[bytes]:
    """The service's new cells, one fragment per row. Raises `SearchError` when they are not ``rows`` many."""
    if one_line_per_row:
        parts = (values[:-1] if values.endswith(b"\n") else values).split(b"\n") if rows or values else []
    else:
        parts = records_of(values)
    if len(parts) != rows:
        raise SearchError(
            f"The service answered {len(parts):,} rows for {rows:,} sent; a row may hold a stray quote or line break.",
            "InternalError",
        )
    return parts


def appended(records: Iterable[bytes], new: Iterable[bytes]) -> bytes:
    """Records with new cells at their ends, LF after each."""
    joined = b"\n".join(map(b",".join, zip(records, new)))  # noqa: B905 - 3.9 has no strict; callers check
    return joined + b"\n" if joined else joined


def _parsed(text: str) -> Iterator[list[str]]:
    """Rows of ``text``, cell by cell."""
    csv.field_size_limit(_CELL_LIMIT)  # the module's 128 kB is shorter than real events
    try:
        yield from csv.reader(io.StringIO(text, newline=""))
    except csv.Error as error:
        raise SearchError(f"The rows are not the CSV that Splunk writes: {full_stop(str(error))}") from error


def remapped(raw: bytes, columns: list[str], wanted: list[str]) -> list[bytes]:
    """Records of ``raw`` with the cells of ``wanted``, in that order; empty where ``columns`` lacks one.

    The slow path: each cell is parsed. Quotes are written as Splunk writes them.
    """
    where = {name: at for at, name in enumerate(columns)}
    picks = [where.get(name, -1) for name in wanted]
    out: list[bytes] = []
    for row in _parsed(raw.decode("utf-8", "surrogateescape")):
        if not row:
            continue
        count = len(row)
        cells = (quote(row[at]) if 0 <= at < count else "" for at in picks)
        out.append(",".join(cells).encode("utf-8", "surrogateescape"))
    if len(wanted) == 1:
        out = [record or b'""' for record in out]
    return out


class Appender:
    """Adds the output columns of a model to records of one header.

    A column of that name which the rows have already (from an earlier prediction) is replaced: it and its
    multivalue twin are taken out, the new one stands at the end.
    """

    def __init__(self, columns: list[str], new: Iterable[str]) -> None:
        self.new = list(new)
        gone = set(self.new) | {MV_PREFIX + name for name in self.new}
        self._columns = columns
        self.kept = [name for name in columns if name not in gone]
        self._replaces = len(self.kept) < len(columns)

    @property
    def header(self) -> bytes:
        return header_line([*self.kept, *self.new])

    def append(self, slice_: Slice, new: list[bytes]) -> bytes:
        """The slice's records with ``new`` cells."""
        if not self.new:
            return slice_.raw
        records = slice_.records
        if self._replaces:
            records = remapped(slice_.raw, self._columns, self.kept) if self.kept else []
            if not self.kept:
                return b"\n".join(new) + b"\n" if new else b""
            if len(records) != len(new):
                raise SearchError(
                    "A row has a stray quote, so its old prediction cannot be told from its other fields."
                )
        return appended(records, new)
