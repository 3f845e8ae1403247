"""Durable jobs: implements `ports.jobs.JobRunner`.

DBOS remembers which step of a job is done, a table beside it what users see, and the job's folder the rows
and the result. docs/explanations/jobs.md walks through every point at which the service may die.
"""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa
import structlog
from sqlalchemy import exc

from kepler.adapters.jobs.durable import TRAIN, Durable, open_durable
from kepler.adapters.jobs.job_changes import JobChanges
from kepler.adapters.jobs.job_folders import JobFolders, write_text
from kepler.adapters.jobs.job_records import JobRecords, JobRow, database_error, open_engine, postgres_url
from kepler.adapters.jobs.job_settings import JobSettings
from kepler.adapters.jobs.job_steps import OnFinal, TrainSteps
from kepler.adapters.jobs.job_sweeper import JobSweeper
from kepler.adapters.jobs.work_steps import WorkSteps, encode_order
from kepler.core.errors import Conflict, InternalError, NotFound, NotReady, Overloaded, Unavailable
from kepler.core.jobs import Failure, JobRecord, JobState
from kepler.core.training import TrainSpec
from kepler.ports.clock import Clock
from kepler.ports.jobs import TrainWorker, Work, WorkOrder
from kepler.ports.models import ModelStore

__all__ = ["DbosJobRunner", "JobSettings", "OnFinal"]

log = structlog.get_logger(__name__)

_WATCH_LOOK_S = 1.0
_STOP_S = 10.0


@dataclass(slots=True)
class _Started:
    """What a started runner holds."""

    executor: str
    engine: sa.Engine
    records: JobRecords
    steps: TrainSteps
    works: WorkSteps
    durable: Durable


class DbosJobRunner:
    """Runs trainings and other work as durable workflows.

    Parameters
    ----------
    home
        The service's home: ``jobs.sqlite`` (unless ``database_url`` names a PostgreSQL database) and
        ``jobs/``, with one folder per job.
    works
        What does the work of each kind that is not a training.
    on_final
        Called with each record once it is final: at least once, so it must bear a second call.
    """

    def __init__(
        self,
        home: Path,
        worker: TrainWorker,
        models: ModelStore,
        *,
        database_url: str = "",
        settings: JobSettings | None = None,
        clock: Clock | None = None,
        works: Mapping[str, Work] | None = None,
        on_final: OnFinal | None = None,
    ) -> None:
        self._home = home
        self._worker = worker
        self._models = models
        self._url = database_url
        self._settings = settings or JobSettings()
        self._now = clock.now if clock is not None else time.time
        self._works = dict(works or {})
        self._on_final = on_final
        self._folders = JobFolders(home / "jobs")
        self._changes = JobChanges()
        self._started: _Started | None = None
        self._sweeper: JobSweeper | None = None
        self._closing = contextlib.ExitStack()

    # Life

    def start(self) -> None:
        """See `ports.jobs.JobRunner`. Raises `Conflict` when another service runs on this home."""
        if self._started is not None:
            return
        with contextlib.ExitStack() as undo:
            try:
                started = self._open(undo)
            except exc.DBAPIError as error:
                raise database_error(error) from error
            self._started = started
            undo.callback(self._forget_start)
            for row in started.records.active(started.executor):
                self.take_up(row)
            self._closing = undo.pop_all()
        self._sweeper = JobSweeper(
            self, started.records, self._folders, started.executor, now=self._now, settings=self._settings
        )
        self._sweeper.start()

    def _open(self, undo: contextlib.ExitStack) -> _Started:
        self._changes = JobChanges()
        self._folders.make_root()
        undo.callback(os.close, _lock_home(self._folders.root / ".lock"))
        executor = _executor_id(self._folders.root / "executor_id")
        engine = open_engine(self._url, self._home / "jobs.sqlite")
        undo.callback(engine.dispose)
        records = JobRecords(engine)
        records.create_table()
        steps = TrainSteps(
            records, self._folders, self._worker, self._models, self._changes, self._settings,
            now=self._now, on_final=self._on_final,
        )  # fmt: skip
        works = WorkSteps(
            records, self._folders, self._works, self._changes, steps.settle, steps.draining, now=self._now
        )
        on_sqlite = engine.dialect.name == "sqlite"
        url = engine.url if on_sqlite else postgres_url(self._url).set(drivername="postgresql")
        durable = open_durable(
            steps,
            works.run,
            url=url.render_as_string(hide_password=False),
            engine=engine if on_sqlite else None,
            executor=executor,
            concurrency=self._settings.concurrency,
            poll_s=self._settings.poll_s,
        )
        undo.callback(durable.close)
        return _Started(executor, engine, records, steps, works, durable)

    def _forget_start(self) -> None:
        self._started = None

    def drain(self, grace_s: float) -> None:
        if self._started is not None:
            durable = self._started.durable
            self._started.steps.draining.set()
            idle = durable.wait_idle(grace_s)
            self._changes.stop()
            if not idle:
                durable.wait_idle(_STOP_S)  # workers look at the cancellation many times a second
            if self._sweeper is not None:
                self._sweeper.close()
                self._sweeper = None
            self._closing.close()
            log.info("jobs.drained", all_done=idle)
        self._worker.close()

    # What callers ask

    def submit_training(self, spec: TrainSpec) -> JobRecord:
        record = JobRecord(
            id=spec.job_id, kind=TRAIN, state=JobState.QUEUED, owner=spec.owner,
            subject=f"{spec.algorithm} into {spec.model}" if spec.model else spec.algorithm,
            created_at=self._now(), phase="queued", rows=spec.rows, sid=spec.search.sid,
        )  # fmt: skip
        queued = self._submit(record, spec.to_json)
        self._worker.prewarm()
        return queued

    def submit_work(self, order: WorkOrder) -> JobRecord:
        if order.kind not in self._works:
            raise InternalError(f"Nothing does work of the kind {order.kind!r}")
        record = JobRecord(
            id=order.job_id, kind=order.kind, state=JobState.QUEUED, owner=order.owner, subject=order.subject,
            created_at=self._now(), phase="queued", model=order.model, sid=order.sid,
        )  # fmt: skip
        return self._submit(record, lambda: encode_order(order))

    def _submit(self, record: JobRecord, spec: Callable[[], str]) -> JobRecord:
        own = self._own
        if own.steps.draining.is_set():
            raise Unavailable("The service is stopping", fix="Try again in a moment", retry_after_s=5.0)
        if (known := own.records.row(record.id)) is not None:
            return _same_owner(known.record, record)
        if own.records.count_active(own.executor) >= self._settings.max_active:
            raise Overloaded(
                "Too many jobs are waiting",
                cause=f"The service queues at most {self._settings.max_active}",
                fix="Try again when some have finished, or raise KEPLER_JOBS__QUEUE_LIMIT",
                retry_after_s=30.0,
            )
        self._write_spec(record.id, spec())
        if not own.records.insert(record, own.executor):  # somebody was faster with the same id
            return _same_owner(self.get(record.id), record)
        try:
            own.durable.enqueue(record.id, record.kind)
        except exc.DBAPIError as error:
            own.records.withdraw(record.id)  # it was never acknowledged
            raise database_error(error) from error
        return record

    def get(self, job_id: str) -> JobRecord:
        row = self._own.records.row(job_id)
        if row is None:
            raise NotFound(f"There is no job {job_id[:120]!r}", fix="List the jobs to see their ids")
        return row.record

    def list(
        self, *, owner: str | None = None, state: JobState | None = None, limit: int = 100, offset: int = 0
    ) -> builtins.list[JobRecord]:
        return self._own.records.list(owner, state, limit, offset)

    def counts(self) -> dict[str, int]:
        """Number of jobs by state, for metrics."""
        return self._own.records.counts()

    def cancel(self, job_id: str) -> JobRecord:
        """The record as it is right after: a running job is final a moment later."""
        own = self._own
        record = self.get(job_id)
        if record.state.final:
            return record
        if record.state is JobState.QUEUED:
            ended = replace(
                record, state=JobState.CANCELLED, phase=JobState.CANCELLED.value, finished_at=self._now(),
                failure=Failure("Cancelled", "The job was cancelled before it started"),
            )  # fmt: skip
            if own.records.change(ended, JobState.QUEUED):
                with contextlib.suppress(exc.SQLAlchemyError):  # it ends by itself when its turn comes
                    own.durable.withdraw(job_id)
                self._changes.tell(job_id)
                own.steps.settle(ended)
                return ended
        own.records.request_cancel(job_id)
        own.steps.cancel_running(job_id)
        own.works.cancel_running(job_id)
        return self.get(job_id)

    def folder(self, job_id: str) -> Path:
        return self._folders.make(job_id)

    def watch(self, job_id: str, timeout_s: float) -> Iterator[JobRecord]:
        until = time.monotonic() + timeout_s
        seen: JobRecord | None = None
        while True:
            count = self._changes.count(job_id)
            record = self.get(job_id)
            if record != seen:
                seen = record
                yield record
            left_s = until - time.monotonic()
            if record.state.final or left_s <= 0 or self._changes.stopped:
                return
            # The bound is for changes made by another service on the same database.
            self._changes.wait(job_id, count, min(left_s, _WATCH_LOOK_S))

    def on_change(self, job_id: str, listener: Callable[[], None]) -> Callable[[], None]:
        return self._changes.listen(job_id, listener)

    # What the sweeper asks (`job_sweeper.Keeper`)

    def settle(self, record: JobRecord) -> None:
        self._own.steps.settle(record)

    def is_underway(self, job_id: str) -> bool:
        own = self._own
        return own.steps.is_running(job_id) or own.works.is_running(job_id) or own.durable.is_underway(job_id)

    def take_up(self, row: JobRow) -> None:
        """Make sure that somebody works on a job that is not final."""
        durable = self._own.durable
        if not durable.is_underway(row.record.id):
            # The service died when only one of the two stores had heard of it.
            durable.forget(row.record.id)
            durable.enqueue(row.record.id, row.record.kind)

    def forget(self, job_id: str) -> None:
        self._own.durable.forget(job_id)
        self._changes.forget(job_id)

    @property
    def _own(self) -> _Started:
        if self._started is None:
            raise NotReady(
                "Jobs are not running", cause="The service is starting or stopping", fix="Try again"
            )
        return self._started

    def _write_spec(self, job_id: str, spec: str) -> None:
        try:
            write_text(self.folder(job_id) / "spec.json", spec)
        except OSError as error:
            raise Overloaded(
                "The job could not be written to disk",
                cause=f"The operating system answered: {error.strerror or error}",
                fix="Free space on the disk of the service's home and try again",
                retry_after_s=30.0,
            ) from error


def _same_owner(record: JobRecord, wanted: JobRecord) -> JobRecord:
    if (record.owner, record.kind) != (wanted.owner, wanted.kind):
        raise Conflict(f"Job id {wanted.id!r} is taken", fix="Submit the training under another id")
    return record


def _lock_home(path: Path) -> int:
    """Hold the home for this process alone; the kernel lets go of it however the process ends."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise Conflict(
            f"Another service runs on {path.parent.parent}",
            fix="Stop it first, or start this one with another home",
        ) from error
    return handle


def _executor_id(path: Path) -> str:
    """Who works on this home's jobs: made once, so that it finds its own after a restart."""
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        write_text(path, secrets.token_hex(8))
        return path.read_text("ascii").strip()
