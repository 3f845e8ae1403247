"""Lookup tables: CSV files of the apps, of a folder given at start, and what `outputlookup` wrote."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from .apps import Apps
from .errors import OutsideTheStandIn, SearchFailed, SplSyntaxError
from .table import MV_PREFIX, Table, concat, to_csv

LookupSource = Path | str | Mapping[str, "Path | str | bytes"] | None


class Lookups:
    """Find, read and write lookup files. What is written goes into `folder`, never into an app's own folder."""

    def __init__(self, apps: Apps, folder: Path, given: LookupSource) -> None:
        self._apps = apps
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._given_folder: Path | None = None
        self._given: dict[str, Path] = {}
        if isinstance(given, (str, Path)):
            self._given_folder = Path(given)
        elif given is not None:
            for name, content in given.items():
                self.add(name, content)

    def add(self, name: str, content: Path | str | bytes) -> None:
        """A path is read in place; text or bytes are the file's content."""
        if isinstance(content, Path):
            self._given[name] = content
            return
        path = self._folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def find(self, name: str) -> Path:
        """By file name or by the name of a transforms.conf stanza."""
        if "/" in name or name.startswith("."):
            raise SplSyntaxError(f"Error in 'inputlookup' command: Invalid lookup table name '{name}'.")
        for app in self._apps:
            stanza = app.conf("transforms").get(name)
            if stanza is not None and "filename" in stanza:
                name = stanza["filename"]
            elif stanza is not None and stanza.get("external_type") == "kvstore":
                raise OutsideTheStandIn("KV store lookups")
        folders = [self._folder, *(a.path / "lookups" for a in self._apps)]
        if self._given_folder is not None:
            folders.append(self._given_folder)
        if name in self._given:
            return self._given[name]
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
        raise SearchFailed(
            f"Error in 'inputlookup' command: The lookup table '{name}' does not exist or is not available."
        )

    def read(
        self, name: str, chunk_rows: int, *, start: int = 0, max_rows: int | None = None
    ) -> Iterator[Table]:
        path = self.find(name)
        with (
            gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream,
        ):
            reader = csv.reader(stream)
            header = next(reader, [])
            rows = (row for row in reader if row)
            rows = islice(rows, start, None if max_rows is None else start + max_rows)
            width, n_read = len(header), 0
            while block := list(islice(rows, chunk_rows)):
                if any(len(row) != width for row in block):
                    block = [(row + [""] * width)[:width] for row in block]
                n_read += len(block)
                yield _as_table(header, [list(c) for c in zip(*block, strict=True)], len(block))
            if not n_read:
                yield _as_table(header, [[] for _ in header], 0)

    def write(self, name: str, table: Table, *, append: bool) -> None:
        path = self._folder / name
        if append:
            with contextlib.suppress(SearchFailed):
                table = concat([*self.read(name, 50_000), table])
        content = to_csv(table)
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def _as_table(header: list[str], columns: list[list[str]], n_rows: int) -> Table:
    """The first of duplicated columns wins; `__mv_` columns that outputlookup wrote are read back."""
    plain: dict[str, list[str]] = {}
    mv: dict[str, list[str]] = {}
    for name, values in zip(header, columns, strict=True):
        if name.startswith(MV_PREFIX):
            if any(values):
                mv[name[len(MV_PREFIX) :]] = values
        else:
            plain.setdefault(name, values)
    return Table(plain, n_rows, {k: v for k, v in mv.items() if k in plain})
