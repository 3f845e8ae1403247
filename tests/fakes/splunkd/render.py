"""Results as JSON, XML and CSV (REST API Reference, "search/v2/jobs/{sid}/results"; splunklib 2.1.1, results.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from .atom import _valid_xml
from .table import Table, quote

Messages = list[tuple[str, str]]
CONTENT_TYPES = {
    "json": "application/json; charset=UTF-8",
    "json_rows": "application/json; charset=UTF-8",
    "json_cols": "application/json; charset=UTF-8",
    "csv": "text/csv; charset=UTF-8",
    "xml": "text/xml; charset=UTF-8",
}


def row_values(table: Table, row: int) -> dict[str, Any]:
    """The non-null fields of a row; several values are a list."""
    found: dict[str, Any] = {}
    for name in table.columns:
        value = table.value(name, row)
        if value != "":
            found[name] = value
    return found


def as_json(table: Table, messages: Messages, *, offset: int = 0, preview: bool = False) -> bytes:
    value = {
        "preview": preview,
        "init_offset": offset,
        "messages": [{"type": level, "text": text} for level, text in messages],
        "fields": [{"name": n} for n in table.fields],
        "results": [row_values(table, i) for i in range(table.n_rows)],
        "highlighted": {},
    }
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def as_json_rows(table: Table, *, offset: int = 0, preview: bool = False) -> bytes:
    rows = [[table.value(n, i) or None for n in table.fields] for i in range(table.n_rows)]
    value = {"preview": preview, "init_offset": offset, "messages": [], "fields": table.fields, "rows": rows}
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def as_json_cols(table: Table, *, offset: int = 0, preview: bool = False) -> bytes:
    columns = [[table.value(n, i) or None for i in range(table.n_rows)] for n in table.fields]
    value = {
        "preview": preview,
        "init_offset": offset,
        "messages": [],
        "fields": table.fields,
        "columns": columns,
    }
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def as_csv(table: Table) -> bytes:
    """Plain columns only, several values on lines of one cell."""
    names = table.fields
    lines = [",".join(quote(n) for n in names)]
    lines += [",".join(quote(v) for v in row) for row in zip(*table.columns.values(), strict=True)]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace") if names else b""


def as_xml(table: Table, messages: Messages, *, offset: int = 0, preview: bool = False) -> bytes:
    parts = [
        f"<?xml version='1.0' encoding='UTF-8'?>\n<results preview='{int(preview)}'>\n<meta>\n<fieldOrder>\n"
    ]
    parts += [f"<field>{escape(n)}</field>\n" for n in table.fields]
    parts.append("</fieldOrder>\n</meta>\n")
    if messages:
        told = "".join(f'<msg type="{level}">{escape(_valid_xml(text))}</msg>\n' for level, text in messages)
        parts.append(f"<messages>\n{told}</messages>\n")
    for i in range(table.n_rows):
        parts.append(f"\t<result offset='{offset + i}'>\n")
        for name, value in row_values(table, i).items():
            texts = value if isinstance(value, list) else [value]
            if name == "_raw":
                inner = "".join(
                    f"<v xml:space='preserve' trunc='0'>{escape(_valid_xml(t))}</v>" for t in texts
                )
            else:
                inner = "".join(f"<value><text>{escape(_valid_xml(t))}</text></value>" for t in texts)
            parts.append(f"\t\t<field k={quoteattr(name)}>{inner}</field>\n")
        parts.append("\t</result>\n")
    parts.append("</results>\n")
    return "".join(parts).encode("utf-8", "replace")


def render(table: Table, mode: str, messages: Messages, *, offset: int = 0, preview: bool = False) -> bytes:
    if mode == "json":
        return as_json(table, messages, offset=offset, preview=preview)
    if mode == "json_rows":
        return as_json_rows(table, offset=offset, preview=preview)
    if mode == "json_cols":
        return as_json_cols(table, offset=offset, preview=preview)
    if mode == "csv":
        return as_csv(table)
    return as_xml(table, messages, offset=offset, preview=preview)


def export_parts(tables: Iterator[Table], mode: str, messages: Messages) -> Iterator[bytes]:
    """What search/jobs/export streams: JSON one object a line, CSV with one header, XML one document a part."""
    offset, header = 0, None
    for table in tables:
        if mode == "json":
            lines = [
                json.dumps(
                    {"preview": False, "offset": offset + i, "result": row_values(table, i)},
                    ensure_ascii=False,
                )
                for i in range(table.n_rows)
            ]
            if lines:
                yield ("\n".join(lines) + "\n").encode("utf-8", "replace")
        elif mode == "csv":
            content = as_csv(table if header is None else table.pick(header))
            if header is None and table.fields:
                header = table.fields
                yield content
            elif header is not None:
                yield content.partition(b"\n")[2]
        elif table.n_rows:
            yield as_xml(table, [], offset=offset)
        offset += table.n_rows
    if mode == "json":
        value = {
            "preview": False,
            "lastrow": True,
            "messages": [{"type": le, "text": t} for le, t in messages],
        }
        yield (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "replace")
    elif mode == "xml" and (messages or not offset):
        yield as_xml(Table(), messages)
