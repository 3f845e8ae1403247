"""The FILE of a command: a path, or ``-`` for stdin."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kepler.sources.csv_file import CsvFile


@contextmanager
def input_rows(file: str) -> Iterator[CsvFile]:
    """Rows of ``file``. Stdin goes through a temporary file, for rows may be read more than once."""
    from kepler.sdk_data import from_csv

    if file != "-":
        yield from_csv(file)
        return
    with tempfile.TemporaryDirectory(prefix="kepler-") as folder:
        path = Path(folder) / "stdin.csv"
        with path.open("wb") as out:
            shutil.copyfileobj(sys.stdin.buffer, out)
        yield from_csv(path)
