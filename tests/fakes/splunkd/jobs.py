"""Search jobs: created, run in a thread, read, cancelled, finalized (REST API Reference, "search/jobs")."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .engine import Outcome, run_search
from .search_context import SearchContext
from .table import Table, concat

if TYPE_CHECKING:
    from .splunkd import Splunkd


@dataclass
class Job:
    context: SearchContext
    request: dict[str, str]
    max_count: int = 500_000
    """At most so many results are kept (recordings of 6.3, args.txt: --maxout=500000)."""
    outcome: Outcome = field(default_factory=Outcome)
    began: float = field(default_factory=time.time)
    parts: list[Table] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    is_paused: bool = False
    ttl_s: int = 600

    @property
    def sid(self) -> str:
        return self.context.sid

    @property
    def is_done(self) -> bool:
        return self.done.is_set()

    @property
    def state(self) -> str:
        return self.outcome.state if self.is_done else "RUNNING"

    def run(self) -> None:
        try:
            run_search(self.context, self.outcome, self.parts.append)
            self.outcome.table = self.outcome.table.cut(0, self.max_count)
        finally:
            self.done.set()

    def preview_table(self) -> Table:
        """What is there so far."""
        if self.is_done:
            return self.outcome.table
        return self.outcome.preview if self.outcome.preview.n_rows else concat(list(self.parts))

    def events_table(self) -> Table:
        """Events of a search of an index that no transforming command turned into results."""
        is_events = self.context.reads_index and not self.outcome.is_transforming
        return self.outcome.table if is_events else Table()

    def messages_by_level(self) -> dict[str, list[str]]:
        grouped: dict[str, list[str]] = {}
        for level, text in self.context.log.messages:
            grouped.setdefault(level.lower(), []).append(text)
        return grouped

    def content(self, *, as_json: bool) -> dict[str, Any]:
        context, table = self.context, self.outcome.table
        listed = [{"type": level, "text": text} for level, text in context.log.messages]
        return {
            "sid": self.sid,
            "search": context.search,
            "dispatchState": self.state,
            "doneProgress": 1.0 if self.is_done else 0.5,
            "isDone": self.is_done,
            "isFailed": self.outcome.is_failed,
            "isFinalized": context.finalized.is_set(),
            "isPaused": self.is_paused,
            "isPreviewEnabled": bool(context.config.preview),
            "isSaved": False,
            "isSavedSearch": False,
            "isZombie": False,
            "eventCount": self.events_table().n_rows,
            "resultCount": table.n_rows,
            "resultPreviewCount": self.preview_table().n_rows,
            "scanCount": self.events_table().n_rows,
            "earliestTime": context.earliest,
            "latestTime": context.latest,
            "runDuration": round(self.outcome.run_s if self.is_done else time.time() - self.began, 3),
            "ttl": self.ttl_s,
            "priority": 5,
            "label": "",
            "delegate": "",
            "searchProviders": ["standin"],
            "request": self.request,
            "messages": listed if as_json else self.messages_by_level(),
            "custom": {},
        }


class Jobs:
    def __init__(self, splunkd: Splunkd) -> None:
        self._splunkd = splunkd
        self._jobs: dict[str, Job] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def add(self, job: Job, run: Callable[[], None] | None = None) -> None:
        """Register the job and run it in a thread of its own."""
        thread = threading.Thread(target=run or job.run, name=f"search-{job.sid}", daemon=True)
        with self._lock:
            self._jobs[job.sid] = job
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
            thread.start()

    def get(self, sid: str) -> Job | None:
        with self._lock:
            return self._jobs.get(sid)

    def all(self) -> list[Job]:
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: -job.began)

    def remove(self, job: Job) -> None:
        job.context.cancel()
        with self._lock:
            self._jobs.pop(job.sid, None)

    def stop(self) -> None:
        for job in self.all():
            self.remove(job)
        for thread in self._threads:
            thread.join(20)
