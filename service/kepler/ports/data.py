"""Where rows come from on the caller's side: files, frames, searches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable


@runtime_checkable
class DataSource(Protocol):
    """Rows as slices of CSV text.

    ``slices`` may be called more than once and gives the same records in the same order each time.
    A slice is UTF-8, holds whole records without header, each ended by LF, and stays below 4 MiB.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """Header of every slice, in order."""
        ...

    def slices(self) -> Iterator[bytes]: ...
