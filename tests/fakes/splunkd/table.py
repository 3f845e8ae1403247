"""Search results as columns of strings, and their CSV as splunkd writes it.

Columns keep large searches cheap: dropping or renaming a field touches no cell, and one list per field is
far smaller than one dict per row. An empty string stands for null, as in the chunked protocol's CSV.

Sources: facts/splunk_app.md 1.5 (quoting rule, column order, `__mv_` columns), recordings of Splunk 6.3, 8.0.3
and 8.2.1.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

MV_PREFIX = "__mv_"
# splunklib and MLTK raise the csv module's limit to 10 MB (facts/splunk_app.md 1.5); splunkd has none of ours.
csv.field_size_limit(1 << 30)


class Table:
    """A chunk of results: `columns` maps field to its values, `mv` field to its encoded multivalues."""

    __slots__ = ("columns", "mv", "n_rows")

    def __init__(
        self,
        columns: dict[str, list[str]] | None = None,
        n_rows: int | None = None,
        mv: dict[str, list[str]] | None = None,
    ) -> None:
        self.columns = columns if columns is not None else {}
        self.mv = mv if mv is not None else {}
        if n_rows is None:
            n_rows = len(next(iter(self.columns.values()))) if self.columns else 0
        self.n_rows = n_rows

    @property
    def fields(self) -> list[str]:
        return list(self.columns)

    @classmethod
    def from_rows(cls, rows: Iterable[dict[str, object]], fields: Sequence[str] | None = None) -> Table:
        """Build from dicts; a missing or None value is null, a list is a multivalue."""
        rows = list(rows)
        names = list(fields) if fields is not None else list(dict.fromkeys(k for row in rows for k in row))
        columns: dict[str, list[str]] = {}
        mv: dict[str, list[str]] = {}
        for name in names:
            values = [row.get(name) for row in rows]
            columns[name] = ["\n".join(map(text, v)) if isinstance(v, list) else text(v) for v in values]
            if any(isinstance(v, list) and len(v) > 1 for v in values):
                mv[name] = [encode_mv([text(x) for x in v]) if isinstance(v, list) else "" for v in values]
        return cls(columns, len(rows), mv)

    def column(self, name: str) -> list[str]:
        """The values of a field; all null when no row has it."""
        values = self.columns.get(name)
        return values if values is not None else [""] * self.n_rows

    def pick(self, names: Iterable[str]) -> Table:
        """Only these fields, in this order; one that no row has is all null."""
        names = list(dict.fromkeys(names))
        return Table(
            {n: self.column(n) for n in names}, self.n_rows, {n: self.mv[n] for n in names if n in self.mv}
        )

    def take(self, rows: Sequence[int]) -> Table:
        return Table(
            {k: [v[i] for i in rows] for k, v in self.columns.items()},
            len(rows),
            {k: [v[i] for i in rows] for k, v in self.mv.items()},
        )

    def cut(self, start: int, stop: int) -> Table:
        if start == 0 and stop >= self.n_rows:
            return self
        n = max(0, min(stop, self.n_rows) - start)
        return Table(
            {k: v[start:stop] for k, v in self.columns.items()},
            n,
            {k: v[start:stop] for k, v in self.mv.items()},
        )

    def with_column(self, name: str, values: list[str], mv: list[str] | None = None) -> Table:
        columns = dict(self.columns)
        columns[name] = values
        multi = {k: v for k, v in self.mv.items() if k != name}
        if mv is not None and any(mv):
            multi[name] = mv
        return Table(columns, self.n_rows, multi)

    def rows(self) -> list[dict[str, str]]:
        names = list(self.columns)
        if not names:
            return [{} for _ in range(self.n_rows)]
        return [dict(zip(names, values, strict=True)) for values in zip(*self.columns.values(), strict=True)]

    def value(self, name: str, row: int) -> str | list[str]:
        """One cell: a list where it holds several values."""
        encoded = self.mv.get(name)
        if encoded is not None and encoded[row]:
            return decode_mv(encoded[row])
        return self.columns[name][row]


def text(value: object) -> str:
    """A cell's text: None is null, a whole float loses its point, a truth value is 1 or 0."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        return number_text(value)
    return str(value)


def number_text(value: float) -> str:
    """A number as `eval` shows it: whole numbers without a point."""
    if value != value:
        return "nan"
    if value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def concat(tables: Iterable[Table]) -> Table:
    """All rows of all tables under the union of their fields, in order of first appearance."""
    parts = [t for t in tables if t.n_rows or t.columns]
    if len(parts) == 1:
        return parts[0]
    names = list(dict.fromkeys(n for t in parts for n in t.columns))
    multi = [n for n in names if any(n in t.mv for t in parts)]
    columns: dict[str, list[str]] = {n: [] for n in names}
    mv: dict[str, list[str]] = {n: [] for n in multi}
    for part in parts:
        for name in names:
            columns[name].extend(part.column(name))
        for name in multi:
            mv[name].extend(part.mv.get(name) or [""] * part.n_rows)
    return Table(columns, sum(t.n_rows for t in parts), mv)


def rechunk(chunks: Iterable[Table], size: int) -> Iterator[Table]:
    """Chunks of at most `size` rows. Small ones are not joined: splunkd passes on what it has."""
    for chunk in chunks:
        if chunk.n_rows <= size:
            yield chunk
        else:
            for start in range(0, chunk.n_rows, size):
                yield chunk.cut(start, start + size)


def join_chunks(chunks: Iterable[Table], size: int) -> Iterator[Table]:
    """Chunks of exactly `size` rows but the last: what a command that wants the whole set is handed."""
    held: list[Table] = []
    n_held = 0
    for chunk in chunks:
        held.append(chunk)
        n_held += chunk.n_rows
        if n_held >= size:
            whole = concat(held)
            start = 0
            while whole.n_rows - start >= size:
                yield whole.cut(start, start + size)
                start += size
            rest = whole.cut(start, whole.n_rows)
            held, n_held = [rest], rest.n_rows
    if held:
        rest = concat(held)
        if rest.n_rows or rest.columns:
            yield rest


def quote(value: str) -> str:
    """Quoted iff it holds a character outside [A-Za-z0-9]; `"` doubled.

    0 exceptions in 606,000 recorded tokens (facts/splunk_app.md 1.5).
    """
    if not value or (value.isalnum() and value.isascii()):
        return value
    return '"' + value.replace('"', '""') + '"'


def _quoted_column(values: list[str]) -> list[str]:
    return [
        v if not v or (v.isalnum() and v.isascii()) else '"' + (v.replace('"', '""') if '"' in v else v) + '"'
        for v in values
    ]


def encode_mv(values: Sequence[str]) -> str:
    """Encode as `$v1$;$v2$` with `$` doubled; a single value needs no encoding (facts/splunk_app.md 1.5)."""
    if len(values) < 2:
        return ""
    return ";".join("$" + v.replace("$", "$$") + "$" for v in values)


def decode_mv(encoded: str) -> list[str]:
    values: list[str] = []
    i, n = 0, len(encoded)
    while i < n:
        if encoded[i] != "$":
            i += 1
            continue
        i += 1
        out: list[str] = []
        while i < n:
            if encoded[i] != "$":
                out.append(encoded[i])
                i += 1
            elif encoded[i + 1 : i + 2] == "$":
                out.append("$")
                i += 2
            else:
                break
        i += 1
        values.append("".join(out))
    return values


def to_csv(table: Table) -> bytes:
    """A chunk's body: all plain columns, then all `__mv_` columns in the same order, LF line ends."""
    names = table.fields
    if not names:
        return b""
    header = ",".join([quote(n) for n in names] + [quote(MV_PREFIX + n) for n in names])
    if not table.n_rows:
        return (header + "\n").encode()
    columns = [_quoted_column(table.columns[n]) for n in names]
    if table.mv:
        columns += [_quoted_column(table.mv[n]) if n in table.mv else [""] * table.n_rows for n in names]
        tail = ""
    else:
        tail = "," * len(names)
    lines = [",".join(row) + tail for row in zip(*columns, strict=True)]
    return (header + "\n" + "\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def from_csv(body: bytes) -> Table:
    """Parse a reply's body: CRLF or LF, `__mv_` columns anywhere or missing, first of duplicated names wins."""
    content = body.decode("utf-8", "surrogateescape")
    if not content.strip("\r\n"):
        return Table({}, 0)
    reader = csv.reader(io.StringIO(content, newline=""), strict=False)
    header = next(reader)
    width = len(header)
    # The csv module gives [] for an empty line; with one column that is a row whose only value is null.
    rows = [row if row else [""] for row in reader if row or width == 1]
    if any(len(row) != width for row in rows):
        rows = [(row + [""] * width)[:width] for row in rows]
    by_column = [list(c) for c in zip(*rows, strict=True)] if rows else [[] for _ in header]
    columns: dict[str, list[str]] = {}
    mv: dict[str, list[str]] = {}
    for name, values in zip(header, by_column, strict=True):
        if name.startswith(MV_PREFIX):
            if any(values):
                mv.setdefault(name[len(MV_PREFIX) :], values)
        else:
            columns.setdefault(name, values)
    return Table(columns, len(rows), {k: v for k, v in mv.items() if k in columns})
