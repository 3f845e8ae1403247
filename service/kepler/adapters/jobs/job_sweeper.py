"""Housekeeping of jobs: late announcements, jobs nobody works on, results and records past their time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import structlog
from sqlalchemy import exc

from kepler.adapters.jobs.job_folders import JobFolders
from kepler.adapters.jobs.job_records import JobRecords, JobRow
from kepler.adapters.jobs.job_settings import DAY_S, JobSettings
from kepler.core.errors import KeplerError
from kepler.core.jobs import JobRecord

log = structlog.get_logger(__name__)


class Keeper(Protocol):
    """What the sweeper asks of the job runner."""

    def settle(self, record: JobRecord) -> None: ...

    def is_underway(self, job_id: str) -> bool: ...

    def take_up(self, row: JobRow) -> None: ...

    def forget(self, job_id: str) -> None: ...


class JobSweeper:
    """Sweeps now and then in a thread of its own, once `start` was called."""

    def __init__(
        self,
        keeper: Keeper,
        records: JobRecords,
        folders: JobFolders,
        executor: str,
        *,
        now: Callable[[], float],
        settings: JobSettings,
    ) -> None:
        self._keeper = keeper
        self._records = records
        self._folders = folders
        self._executor = executor
        self._now = now
        self._settings = settings
        self._idle: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sweep_until_stopped, name="job-sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def sweep(self) -> None:
        for record in self._records.unannounced(self._executor):
            self._keeper.settle(record)
        self._take_up_idle()
        self._expire()
        self._bound_results()

    def _sweep_until_stopped(self) -> None:
        while not self._stop.is_set():
            try:
                self.sweep()
            except (KeplerError, exc.SQLAlchemyError, OSError) as error:
                log.warning("jobs.sweep_failed", error=str(error))
            self._stop.wait(self._settings.sweep_s)

    def _take_up_idle(self) -> None:
        """A failing database may end a workflow and leave its job; seen so twice in a row, it is taken up."""
        rows = self._records.active(self._executor)
        idle = {row.record.id for row in rows if not self._keeper.is_underway(row.record.id)}
        for row in rows:
            if row.record.id in idle & self._idle:
                log.warning("job.taken_up", job=row.record.id)
                self._keeper.take_up(row)
        self._idle = idle

    def _expire(self) -> None:
        now = self._now()
        folders = self._folders.known()
        for job_id in self._records.finished(self._executor, now - self._settings.results_ttl_s):
            if job_id in folders:
                self._folders.remove(job_id)
                del folders[job_id]
        for job_id in self._records.finished(self._executor, now - self._settings.records_ttl_s):
            self._keeper.forget(job_id)
            self._records.delete(job_id)
        for job_id, changed_at in folders.items():  # uploads that never became a job
            if now - changed_at > DAY_S and self._records.row(job_id) is None:
                self._folders.remove(job_id)

    def _bound_results(self) -> None:
        """Longest finished go first when all results together are too large."""
        folders = self._folders.known()
        finished = [
            job_id
            for job_id in self._records.finished(self._executor, self._now() + DAY_S)
            if job_id in folders
        ]
        sizes = {job_id: self._folders.size_bytes(job_id) for job_id in finished}
        total = sum(sizes.values())
        for job_id in finished:
            if total <= self._settings.max_results_bytes:
                return
            self._folders.remove(job_id)
            total -= sizes[job_id]
