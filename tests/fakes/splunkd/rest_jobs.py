"""search/jobs and search/v2/jobs (REST API Reference, "Search endpoint descriptions"; splunklib.client.Job)."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .atom import Entry, feed, plain, single
from .engine import check_search, run_search
from .errors import SearchFailed, SplSyntaxError
from .jobs import Job
from .render import CONTENT_TYPES, export_parts, render
from .table import Table
from .web import Refused, Request, Response, not_permitted

if TYPE_CHECKING:
    from .splunkd import Splunkd

# limits.conf [restapi] maxresultrows: most rows of one answer of results or events.
MAX_RESULT_ROWS = 50_000
MODES = tuple(CONTENT_TYPES)


def handle(splunkd: Splunkd, request: Request, rest: list[str]) -> Response:
    if not rest:
        return _create(splunkd, request) if request.method == "POST" else _list(splunkd, request)
    if rest == ["export"]:
        return _export(splunkd, request)
    job = splunkd.jobs.get(rest[0])
    if job is None:
        raise Refused(404, "Unknown sid.", "FATAL")
    if request.user != job.context.owner and not splunkd.accounts.may(
        request.user or "", "admin_all_objects"
    ):
        raise not_permitted()
    if len(rest) == 1:
        if request.method == "DELETE":
            splunkd.jobs.remove(job)
            return plain(request, {"messages": "Search job cancelled."})
        return single(request, _entry(job, request))
    part = rest[1]
    if part == "control" and request.method == "POST":
        return _control(splunkd, job, request)
    if part == "results":
        if not job.is_done:
            return Response(204)
        return _page(job, request, job.outcome.table, preview=False)
    if part == "results_preview":
        return _page(job, request, job.preview_table(), preview=not job.is_done)
    if part == "events":
        if not job.is_done:
            return Response(204)
        return _page(job, request, job.events_table(), preview=False)
    if part == "search.log":
        return Response(200, job.context.log.text().encode(), "text/plain; charset=UTF-8")
    if part == "summary":
        return Response(200, b"<results preview='0'/>")
    raise Refused(404, "Not Found")


def _new_job(splunkd: Splunkd, request: Request) -> Job:
    search = request.get("search")
    if not search.strip():
        raise Refused(400, "Empty search.", "FATAL")
    if not splunkd.accounts.may(request.user or "", "search"):
        raise not_permitted()
    try:
        context = splunkd.context(
            search,
            user=request.user or "admin",
            app=request.app if request.app not in (None, "-") else "search",
            session_key=request.session_key,
            earliest=request.get("earliest_time"),
            latest=request.get("latest_time"),
            sid=request.get("id") or None,
        )
        check_search(context)
    except SplSyntaxError as error:
        raise Refused(400, error.text, "FATAL") from error
    except SearchFailed:
        # It parses; what is wrong with it shows when it runs.
        pass
    return Job(context, request.arguments, max_count=request.number("max_count", 500_000))


def _create(splunkd: Splunkd, request: Request) -> Response:
    mode = request.get("exec_mode", "normal")
    if mode not in ("normal", "blocking", "oneshot"):
        raise Refused(400, f"Invalid exec_mode: {mode}")
    job = _new_job(splunkd, request)
    if mode == "oneshot":
        job.run()
        return _page(job, request, job.outcome.table, preview=False)
    splunkd.jobs.add(job)
    if mode == "blocking":
        job.done.wait()
    return plain(request, {"sid": job.sid}, 201)


def _entry(job: Job, request: Request) -> Entry:
    return Entry(
        job.context.search,
        f"search/jobs/{job.sid}",
        job.content(as_json=request.wants_json),
        app=job.context.app,
        owner=job.context.owner,
        sharing="global",
        acl={"ttl": str(job.ttl_s)},
    )


def _list(splunkd: Splunkd, request: Request) -> Response:
    sees_all = splunkd.accounts.may(request.user or "", "admin_all_objects")
    jobs = [j for j in splunkd.jobs.all() if sees_all or j.context.owner == request.user]
    return feed(request, "jobs", [_entry(j, request) for j in jobs])


def _control(splunkd: Splunkd, job: Job, request: Request) -> Response:
    action = request.get("action")
    if action == "cancel":
        splunkd.jobs.remove(job)
    elif action == "finalize":
        job.context.finalized.set()
        job.done.wait(60)
    elif action in ("pause", "unpause"):
        job.is_paused = action == "pause"
    elif action == "setttl":
        job.ttl_s = request.number("ttl", job.ttl_s)
    elif action not in ("touch", "enablepreview", "disablepreview", "save", "unsave", "setpriority"):
        raise Refused(400, f"Invalid action: {action}", "FATAL")
    return plain(request, {"messages": f"Search job {action}."})


def _mode(request: Request, default: str) -> str:
    mode = request.get("output_mode", default)
    if mode not in MODES:
        raise Refused(400, f"Invalid output_mode '{mode}'. The splunkd stand-in gives {', '.join(MODES)}.")
    return mode


def _page(job: Job, request: Request, table: Table, *, preview: bool) -> Response:
    """One page: `count` rows (100 by default, 0 is as many as maxresultrows) from `offset` on."""
    mode = _mode(request, "xml")
    if request.get("exec_mode") != "oneshot" and request.get("search"):
        raise Refused(400, "The splunkd stand-in does not post-process results with search=.")
    offset = request.number("offset", 0)
    if offset < 0:
        offset = max(0, table.n_rows + offset)
    count = request.number("count", 100)
    count = MAX_RESULT_ROWS if count <= 0 else min(count, MAX_RESULT_ROWS)
    names = request.all("f") or [n for n in request.get("field_list").split(",") if n]
    page = table.cut(offset, offset + count)
    if names:
        page = page.pick(n for n in names if n in table.columns)
    body = render(page, mode, list(job.context.log.messages), offset=offset, preview=preview)
    return Response(200, body, CONTENT_TYPES[mode])


def _export(splunkd: Splunkd, request: Request) -> Response:
    """Rows go out as they come; a client that hangs up cancels the search."""
    mode = _mode(request, "xml")
    job = _new_job(splunkd, request)
    # A bound, so that a slow reader slows the search down instead of filling memory.
    chunks: queue.Queue[Table | None] = queue.Queue(maxsize=4)
    gone = threading.Event()

    def put(table: Table) -> None:
        while not gone.is_set():
            with contextlib.suppress(queue.Full):
                chunks.put(table, timeout=0.5)
                return

    def run() -> None:
        try:
            run_search(job.context, job.outcome, put)
        finally:
            job.done.set()
            put_end()

    def put_end() -> None:
        while not gone.is_set():
            with contextlib.suppress(queue.Full):
                chunks.put(None, timeout=0.5)
                return

    splunkd.jobs.add(job, run)

    def tables() -> Iterator[Table]:
        while (table := chunks.get()) is not None:
            yield table

    def parts() -> Iterator[bytes]:
        try:
            yield from export_parts(tables(), mode, job.context.log.messages)
        finally:
            gone.set()
            splunkd.jobs.remove(job)

    return Response(200, content_type=CONTENT_TYPES[mode], stream=parts())
