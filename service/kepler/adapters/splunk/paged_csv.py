"""Pages of results written to one CSV file, whose header may still grow."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

KEPT_INTERNAL = frozenset({"_time", "_raw"})
"""Of Splunk's internal fields (``_bkt``, ``_cd``, ``_si``, ...) these are data."""


class PagedCsv:
    """Writes pages as they come; a field that a later page brings is a further column, empty before.

    The file appears at ``path`` on leaving the ``with`` block without an error, at once and whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self.rows = 0
        self._widths: list[tuple[int, int]] = []  # offset of the first record with so many columns
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        self._part = Path(name)
        self._body = os.fdopen(handle, "w+", newline="", encoding="utf-8")

    def add(self, fields: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Append a page. Cells are texts, None, or lists of texts (multivalue, joined by line breaks)."""
        kept = [
            (place, name) for place, name in enumerate(fields) if name[:1] != "_" or name in KEPT_INTERNAL
        ]
        for _, name in kept:
            if name not in self.columns:
                self.columns.append(name)
        if rows and (not self._widths or self._widths[-1][1] != len(self.columns)):
            self._widths.append((self._body.tell(), len(self.columns)))
        target = {name: place for place, name in enumerate(self.columns)}
        places = [(place, target[name]) for place, name in kept]
        writer = csv.writer(self._body, lineterminator="\n")
        for row in rows:
            cells: list[Any] = [""] * len(self.columns)
            for source, place in places:
                cells[place] = _text(row[source]) if source < len(row) else ""
            writer.writerow(cells)
        self.rows += len(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._body.close()
            self._part.unlink(missing_ok=True)

    def _finish(self) -> None:
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".part")
        whole = Path(name)
        try:
            with os.fdopen(handle, "w", newline="", encoding="utf-8") as out:
                writer = csv.writer(out, lineterminator="\n")
                writer.writerow(self.columns)
                self._body.seek(0)
                if len(self._widths) <= 1:
                    while block := self._body.read(1 << 20):
                        out.write(block)
                else:
                    for row in csv.reader(self._body):
                        writer.writerow(row + [""] * (len(self.columns) - len(row)))
            whole.replace(self.path)
        finally:
            whole.unlink(missing_ok=True)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "\n".join(str(item) for item in value)
    return str(value)
