"""Rows on their way from the wire to a training."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class RowSpool(Protocol):
    """Writes the CSV slices of one upload to disk as they come, in bounded memory."""

    rows: int

    def write(self, slice_: bytes) -> int:
        """Append whole CSV records without header; gives their number. Raises `InvalidInput` when ragged."""
        ...

    def finish(self) -> str:
        """Flush, fsync and close; gives the SHA-256 (hex) of the slices as they came."""
        ...

    def abort(self) -> None:
        """Drop what was written; can be repeated."""
        ...


class RowSpools(Protocol):
    """Opens spools in job folders."""

    def open(self, folder: Path, columns: tuple[str, ...], used: tuple[str, ...]) -> RowSpool:
        """``used`` are the columns that are kept; raises `InvalidInput` for a header that names one twice."""
        ...
