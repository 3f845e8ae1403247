"""Rows kept on disk until a training gives their predictions back: memory stays bounded by one slice."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

from kepler_app.errors import SearchError
from kepler_app.rows import Appender, Slice, appended, cut, remapped

_BLOCK = 1024 * 1024


def _temporary(folder: str) -> IO[bytes]:
    """An unnamed file in ``folder`` (the search's own, where it exists), gone with the process."""
    return tempfile.TemporaryFile(dir=folder if folder and os.path.isdir(folder) else None)


def _disk_error(error: OSError) -> SearchError:
    return SearchError(
        f"The search head cannot keep the rows on its disk: {error.strerror or 'unknown error'}. "
        "Free space in its dispatch folder, or use output=summary.",
        "Overloaded",
    )


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    """The rest of ``file`` in blocks; closes it at the end."""
    with file:
        while True:
            block = file.read(_BLOCK)
            if not block:
                return
            yield block


class RowSpool:
    """Slices in order, each with the header it came under."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._file = _temporary(folder)
        self._slices: list[tuple[int, int]] = []  # bytes, index of the header
        self._headers: list[list[str]] = []
        self.columns: list[str] = []  # of all headers, in the order first seen
        self.rows = 0

    def add(self, slice_: Slice, columns: list[str]) -> None:
        """Keep ``slice_``, whose header is ``columns``."""
        if not self._headers or self._headers[-1] != columns:
            self._headers.append(columns)
            self.columns = list(dict.fromkeys([*self.columns, *columns]))
        try:
            self._file.write(slice_.raw)
        except OSError as error:
            raise _disk_error(error) from error
        self._slices.append((len(slice_.raw), len(self._headers) - 1))
        self.rows += len(slice_.records)

    def records(self, kept: list[str]) -> Iterator[list[bytes]]:
        """Records of each slice, brought to the columns ``kept``."""
        self._file.seek(0)
        for size, header in self._slices:
            raw = self._file.read(size)
            columns = self._headers[header]
            if columns != kept:
                yield remapped(raw, columns, kept)
                continue
            for slice_ in cut(raw, 0, len(columns), len(raw)):
                yield slice_.records

    def with_columns(self, new: list[str], parts: Iterable[list[bytes]]) -> tuple[Iterator[bytes], int]:
        """The CSV of all rows with columns ``new``, whose cells come in ``parts`` of any size; and its length."""
        appender = Appender(self.columns, new)
        out = _temporary(self._folder)
        try:
            out.write(appender.header)
            rows = self._join(out, appender.kept, parts) if new else self._copy(out)
            if rows != self.rows:
                raise SearchError(
                    f"The training gave predictions for {rows:,} of {self.rows:,} rows. "
                    "Run it again with output=summary.",
                    "InternalError",
                )
            size = out.tell()
            out.seek(0)
        except OSError as error:
            out.close()
            raise _disk_error(error) from error
        except SearchError:
            out.close()
            raise
        return _blocks(out), size

    def _copy(self, out: IO[bytes]) -> int:
        """Write the rows as they came; gives how many there were."""
        rows = 0
        for records in self.records(self.columns):
            out.write(b"\n".join(records) + b"\n")
            rows += len(records)
        return rows

    def _join(self, out: IO[bytes], kept: list[str], parts: Iterable[list[bytes]]) -> int:
        """Write rows with their new cells; gives how many there were, up to the shorter side."""
        source = self.records(kept)
        records: list[bytes] = []
        at = rows = 0
        for new in parts:
            done = 0
            while done < len(new):
                if at == len(records):
                    records, at = next(source, []), 0
                    if not records:
                        return rows + len(new) - done
                count = min(len(records) - at, len(new) - done)
                cells = new[done : done + count]
                lines = appended(records[at : at + count], cells) if kept else b"\n".join(cells) + b"\n"
                out.write(lines)
                at += count
                done += count
                rows += count
        return rows

    def close(self) -> None:
        self._file.close()
