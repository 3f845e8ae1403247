"""Results of a search, page by page, into a CSV file.

A job's results are read in pages, because one request gives at most ``maxresultrows`` of them (50,000).
A job keeps a bounded number of results; what it dropped is said, and ``export=True`` reads a stream
without that bound instead.
"""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kepler.adapters.splunk.connection import explained
from kepler.adapters.splunk.paged_csv import PagedCsv
from kepler.core.errors import InternalError, InvalidInput, TimedOut
from kepler.core.jobs import Notice

PAGE_ROWS = 50_000
MAX_RESULTS = 10_000_000
_POLL_S = 0.2
_FUNCTION = re.compile(r"[a-z_]+\d*")
_METRIC = re.compile(r"[A-Za-z0-9_.:*/-]+")


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was written."""

    rows: int
    columns: tuple[str, ...]
    notices: tuple[Notice, ...] = ()


def spl(search: str) -> str:
    """``search`` as splunkd takes it: with a leading command.

    >>> spl("index=main error"), spl("| makeresults")
    ('search index=main error', '| makeresults')
    """
    search = search.strip()
    if not search:
        raise InvalidInput("The search is empty", fix="Write SPL, for example 'index=main | head 100'")
    return search if search.startswith("|") or re.match(r"search\b", search) else f"search {search}"


def metrics_search(
    metric: str, *, index: str = "*", span: str = "1m", by: tuple[str, ...] = (), function: str = "avg"
) -> str:
    """SPL that reads a metric, or the list of metrics when ``metric`` is empty.

    A text that already is a search (it begins with ``|``) stays as it is.

    >>> metrics_search("cpu.*", index="os", span="30s", by=("host",))
    '| mstats avg("cpu.*") WHERE index="os" span=30s BY "host"'
    >>> metrics_search("", index="os")
    '| mcatalog values(metric_name) AS metric_name WHERE index="os" | mvexpand metric_name'
    """
    metric = metric.strip()
    if metric.startswith("|"):
        return metric
    for text, what in ((index, "index"), *((name, "dimension") for name in by)):
        if not _METRIC.fullmatch(text):
            raise InvalidInput(f"{text[:120]!r} is no {what}")
    if not metric:
        values = "| mcatalog values(metric_name) AS metric_name"
        return f'{values} WHERE index="{index}" | mvexpand metric_name'
    if not _METRIC.fullmatch(metric):
        raise InvalidInput(
            f"{metric[:120]!r} is no metric name", fix="Write a name such as cpu.* or '| mstats ...'"
        )
    if not _FUNCTION.fullmatch(function):
        raise InvalidInput(
            f"{function[:40]!r} is no function of mstats", fix="Use avg, max, min, sum, p95, ..."
        )
    if not re.fullmatch(r"\d+[a-z]+", span):
        raise InvalidInput(f"{span[:40]!r} is no time span", fix="Write 30s, 5m or 1h")
    split = " BY " + " ".join(f'"{name}"' for name in by) if by else ""
    return f'| mstats {function}("{metric}") WHERE index="{index}" span={span}{split}'


def extract(
    service: Any,
    search: str,
    path: Path,
    *,
    earliest: str = "-24h",
    latest: str = "now",
    page_rows: int = PAGE_ROWS,
    export: bool = False,
    timeout_s: float = 3600.0,
    on_progress: Callable[[float, int], None] = lambda share, rows: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Extracted:
    """Run ``search`` on ``service`` (a ``splunklib.client.Service``) and write its results to ``path``.

    ``on_progress`` is told the share done (0..1) and the rows written. The file is whole or not there.
    """
    query = spl(search)
    if page_rows < 1:
        raise InvalidInput("A page has at least one row", fix="Set page_rows to 1 or more")
    span = {"earliest_time": earliest, "latest_time": latest}
    url = str(getattr(service, "authority", "Splunk"))
    with explained(url), PagedCsv(path) as out:
        if export:
            notices = _export(service, query, span, out, page_rows, on_progress)
        else:
            notices = _paged(service, query, span, out, page_rows, timeout_s, on_progress, sleep)
        if not out.columns:
            raise InvalidInput("The search found nothing", fix="Widen the time range or correct the search")
    return Extracted(out.rows, tuple(out.columns), tuple(notices))


def _paged(
    service: Any,
    query: str,
    span: dict[str, str],
    out: PagedCsv,
    page_rows: int,
    timeout_s: float,
    on_progress: Callable[[float, int], None],
    sleep: Callable[[float], None],
) -> list[Notice]:
    job = service.jobs.create(query, exec_mode="normal", max_count=MAX_RESULTS, **span)
    try:
        _wait(job, timeout_s, on_progress, sleep)
        total = int(job["resultCount"])
        while out.rows < total:
            with job.results(output_mode="json_rows", count=page_rows, offset=out.rows) as stream:
                page = json.load(stream)
            rows = page.get("rows", [])
            if not rows:
                raise InternalError(
                    f"Splunk gave {out.rows:,} of {total:,} results and then none", fix="Extract again"
                )
            out.add([_field_name(item) for item in page["fields"]], rows)
            on_progress(out.rows / total, out.rows)
        return _said(job, total)
    finally:
        with suppress(Exception):  # the job expires by itself; what it gave stays
            job.cancel()


def _wait(
    job: Any, timeout_s: float, on_progress: Callable[[float, int], None], sleep: Callable[[float], None]
) -> None:
    deadline = time.monotonic() + timeout_s
    pause = _POLL_S / 4
    while not job.is_done():
        if time.monotonic() > deadline:
            raise TimedOut(
                f"The search took longer than {timeout_s:g} s", fix="Narrow it, or allow more time"
            )
        if job.is_ready():
            on_progress(float(job.content.get("doneProgress", 0.0)), 0)
        sleep(pause)
        pause = min(pause * 1.5, _POLL_S * 5)
    if job["isFailed"] == "1":
        messages = job.content.get("messages") or {}
        texts = [str(text) for level in ("fatal", "error") for text in messages.get(level, ())]
        raise InvalidInput("The search failed", cause=" ".join(texts)[:400], fix="Correct the search")


def _said(job: Any, total: int) -> list[Notice]:
    messages = job.content.get("messages") or {}
    notices = [Notice("warn", str(text)) for text in messages.get("warn", ())]
    events = int(job.content.get("eventCount", 0) or 0)
    if not job.content.get("reportSearch") and events > total:
        text = f"Splunk kept {total:,} of {events:,} events; export=True (--export) reads them all."
        notices.append(Notice("warn", text))
    return notices


def _field_name(item: Any) -> str:
    return str(item["name"] if isinstance(item, dict) else item)


def _export(
    service: Any,
    query: str,
    span: dict[str, str],
    out: PagedCsv,
    page_rows: int,
    on_progress: Callable[[float, int], None],
) -> list[Notice]:
    notices: list[Notice] = []
    waiting: list[dict[str, Any]] = []

    def flush() -> None:
        fields = list(dict.fromkeys(name for row in waiting for name in row))
        out.add(fields, [[row.get(name) for name in fields] for row in waiting])
        waiting.clear()
        on_progress(0.0, out.rows)

    with service.jobs.export(query, output_mode="json", preview="false", **span) as stream:
        for item in _lines(stream):
            for message in item.get("messages", ()):
                level, text = str(message.get("type", "")).upper(), str(message.get("text", ""))
                if level in ("FATAL", "ERROR"):
                    raise InvalidInput("The search failed", cause=text[:400], fix="Correct the search")
                if level == "WARN":
                    notices.append(Notice("warn", text))
            if item.get("preview"):
                continue
            waiting += [item["result"]] if "result" in item else item.get("results", [])
            if len(waiting) >= page_rows:
                flush()
    if waiting:
        flush()
    return notices


def _lines(stream: Any) -> Iterator[dict[str, Any]]:
    """Objects of a stream of JSON lines, read as they come (the SDK's own reader takes all at once)."""
    with io.BufferedReader(stream) as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)
