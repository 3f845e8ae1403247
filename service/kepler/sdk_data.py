"""``kp.data``: where rows come from.

Whatever takes data in the SDK takes a path, a table in memory or the result of one of these functions.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from kepler.client.slices import split_records
from kepler.core.errors import InvalidInput
from kepler.ports.data import DataSource
from kepler.sources.csv_file import CsvFile
from kepler.sources.frame import FrameRows

Data: TypeAlias = (
    "DataSource | str | os.PathLike[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]] | Any"
)
"""A data source, the path of a CSV file, or a table in memory."""

PEEK_ROWS = 5_000
CLASSES_MAX = 20
"""Whole numbers with at most this many distinct values are taken for classes."""

__all__ = ["Data", "from_csv", "from_frame", "from_splunk"]


def from_csv(path: str | os.PathLike[str]) -> CsvFile:
    """Rows of a CSV file: header in the first line, commas, UTF-8; gzip is recognised.

    The file is read when it is used, in bounded memory.

    Raises
    ------
    NotFound
        There is no such file.
    InvalidInput
        The header is unusable: empty, not UTF-8, separated by semicolons or tabs.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "pumps.csv"
    >>> _ = path.write_text("pressure,failed\\n2.5,0\\n")
    >>> from_csv(path).columns
    ('pressure', 'failed')
    """
    source = CsvFile(path)
    _ = source.columns
    return source


def from_frame(frame: Any) -> FrameRows:
    """Rows of a table in memory.

    Parameters
    ----------
    frame
        pandas or polars data frame, Arrow table, ``{"a": [...], ...}`` or ``[{"a": 1}, ...]``. None and
        NaN are missing; the index of a data frame is left out.

    Raises
    ------
    InvalidInput
        Columns differ in length, come twice, or hold lists.

    Examples
    --------
    >>> rows = from_frame({"pressure": [2.5, None], "failed": [0, 1]})
    >>> b"".join(rows.slices())
    b'2.5,0\\n,1\\n'
    """
    return FrameRows(frame)


def from_splunk(
    search: str,
    *,
    earliest: str = "-24h",
    latest: str = "now",
    host: str = "",
    port: int = 0,
    username: str = "",
    password: str = "",
    token: str = "",
    app: str = "",
    ca_file: str = "",
    verify: bool = True,
    session: Any = None,
    metrics: bool = False,
    index: str = "*",
    span: str = "1m",
    by: Iterable[str] = (),
    page_rows: int = 50_000,
) -> CsvFile:
    """Results of a search, fetched page by page into a temporary file that goes with the object.

    Parameters
    ----------
    search
        SPL. With ``metrics=True`` the name of a metric, ``*`` allowed, read with ``mstats``.
    earliest, latest
        Time range, in Splunk's words (``-7d@d``, ``now``) or ISO time.
    host, port, username, password, token, app, ca_file, verify
        How to log in; each defaults to ``KEPLER_SPLUNK_HOST`` and so on. A token goes before a password.
    session
        A connected ``splunklib.client.Service`` instead of all these.
    index, span, by
        For metrics: index, width of a time step, dimensions to split by.
    page_rows
        Results per request; Splunk's own limit is 50,000 unless raised.

    Raises
    ------
    MissingExtra
        splunk-sdk is not installed: ``pip install 'kepler-for-splunk[splunk]'``.
    Unauthenticated, Unavailable, InvalidInput
        Splunk refused the login, does not answer, or refused the search.
    """
    from kepler.adapters.splunk.connection import SplunkAccess, connect
    from kepler.adapters.splunk.extract import extract, metrics_search

    service = session
    if service is None:
        access = SplunkAccess.resolve(
            host=host,
            port=port,
            username=username,
            password=password,
            token=token,
            app=app,
            ca_file=ca_file,
            verify=verify,
        )
        service = connect(access)
    if metrics:
        search = metrics_search(search, index=index, span=span, by=tuple(by))
    handle, name = tempfile.mkstemp(prefix="kepler-", suffix=".csv")
    os.close(handle)
    path = Path(name)
    try:
        extract(service, search, path, earliest=earliest, latest=latest, page_rows=page_rows)
    except BaseException:
        path.unlink()
        raise
    source = CsvFile(path)
    weakref.finalize(source, path.unlink, missing_ok=True)
    return source


def as_source(data: Data) -> DataSource:
    """The data source that ``data`` is or names.

    >>> as_source({"a": [1]}).columns
    ('a',)
    """
    if isinstance(data, str | os.PathLike):
        return from_csv(data)
    return data if isinstance(data, DataSource) else from_frame(data)


def guess_task(source: DataSource, target: str) -> tuple[str, str]:
    """``classification`` or ``regression``, and why, from the first rows of ``target``.

    Text and few whole numbers are classes; other numbers are values.
    """
    if target not in source.columns:
        raise InvalidInput(f"There is no column {target!r}", fix=f"Choose from {', '.join(source.columns)}")
    place = source.columns.index(target)
    seen: set[str] = set()
    for text in source.slices():
        head = b"\n".join(split_records(text)[:PEEK_ROWS]).decode("utf-8", "replace")
        rows = csv.reader(io.StringIO(head, newline=""))
        seen = {row[place].strip() for row in rows if len(row) > place} - {""}
        break
    try:
        numbers = [float(value) for value in seen]
    except ValueError:
        return "classification", f"{target} holds text"
    if len(seen) <= CLASSES_MAX and all(number.is_integer() for number in numbers):
        return "classification", f"{target} has {len(seen)} distinct whole numbers"
    return "regression", f"{target} has {len(seen)} distinct numbers"
