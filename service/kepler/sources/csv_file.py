"""CSV files, plain or gzip, read as bytes."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from kepler.client.slices import RECORD_BYTES_MAX, parse_header, read_slices, records_end
from kepler.core.errors import InvalidInput, NotFound


class CsvFile:
    """A CSV file with a header, UTF-8, comma-separated; gzip is recognised by its content.

    Raises `NotFound` when there is no such file, `InvalidInput` when it has no usable header.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._columns: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"CsvFile({str(self.path)!r})"

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, compressed where it is compressed."""
        return self.path.stat().st_size

    @property
    def columns(self) -> tuple[str, ...]:
        if not self._columns:
            with self._open() as stream:
                self._columns = self._header(stream)[0]
        return self._columns

    def slices(self) -> Iterator[bytes]:
        """Slices of whole records; see `kepler.ports.data.DataSource`."""
        with self._open() as stream:
            columns, rest = self._header(stream)
            self._columns = columns
            head = io.BytesIO(rest)

            def read(size: int) -> bytes:
                return head.read(size) or stream.read(size)

            try:
                yield from read_slices(read, len(columns))
            except (EOFError, gzip.BadGzipFile) as error:
                raise InvalidInput(f"{self.path} is a damaged gzip file", cause=str(error)) from error

    def _header(self, stream: BinaryIO) -> tuple[tuple[str, ...], bytes]:
        """The column names, and what was read behind them."""
        text = b""
        while b"\n" not in text or not _first_record(text):
            try:
                block = stream.read(65_536)
            except (EOFError, gzip.BadGzipFile) as error:
                raise InvalidInput(f"{self.path} is a damaged gzip file", cause=str(error)) from error
            text += block
            if not block or len(text) > RECORD_BYTES_MAX:
                break
        end = _first_record(text) or len(text)
        return parse_header(text[:end], str(self.path)), text[end:]

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        try:
            raw = self.path.open("rb")
        except FileNotFoundError as error:
            raise NotFound(f"There is no file {self.path}", fix="Check the path") from error
        except OSError as error:
            raise InvalidInput(f"{self.path} cannot be read", cause=error.strerror or str(error)) from error
        with raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not zipped:
                yield raw
                return
            with gzip.GzipFile(fileobj=raw) as unzipped:
                yield cast(BinaryIO, unzipped)


def _first_record(text: bytes) -> int:
    """Offset behind the first record; 0 when it isn't whole yet."""
    end = text.find(b"\n") + 1
    while end:
        if records_end(text[:end]):
            return end
        end = text.find(b"\n", end) + 1
    return 0
