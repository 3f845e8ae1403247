"""Durable training jobs: implements `ports.jobs.JobRunner`.

DBOS remembers which step of a job is done, a table beside it what users see, and the job's folder the rows
and the result. docs/explanations/jobs.md walks through every point at which the service may die.
"""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import sqlalchemy as sa
import structlog
from sqlalchemy import exc

from kepler.adapters.jobs.durable import Durable, Stopped, open_durable
from kepler.adapters.jobs.job_folders import JobFolders, write_text
from kepler.adapters.jobs.job_records import JobRecords, JobRow, database_error, open_engine, postgres_url
from kepler.adapters.jobs.job_sweeper import JobSweeper
from kepler.adapters.jobs.process_worker import read_outcome
from kepler.core.errors import (
    Conflict,
    InternalError,
    KeplerError,
    NotFound,
    NotReady,
    Overloaded,
    Unavailable,
)
from kepler.core.jobs import Failure, JobRecord, JobState
from kepler.core.training import TrainOutcome, TrainSpec
from kepler.ports.clock import Clock
from kepler.ports.jobs import TrainWorker
from kepler.ports.models import ModelStore

log = structlog.get_logger(__name__)

OnFinal = Callable[[JobRecord], None]

_PROGRESS_INTERVAL_S = 0.3
_CANCEL_LOOK_S = 1.0
_WATCH_LOOK_S = 1.0
_REGISTER_TRIES = 3
_TRAINING_SHARE = 0.95  # of the progress; the rest is registering
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class JobSettings:
    """How jobs are run and kept.

    ``concurrency`` jobs run at once, ``max_active`` may wait and run, the next is refused. After
    ``max_attempts`` starts that the service did not survive a job fails. Results (predictions, logs) are
    kept ``results_ttl_s`` and at most ``max_results_bytes`` in all; records ``records_ttl_s``.
    """

    concurrency: int = 2
    max_active: int = 1000
    max_attempts: int = 3
    results_ttl_s: float = _DAY_S
    max_results_bytes: int = 20 * 1024**3
    records_ttl_s: float = 90 * _DAY_S
    poll_s: float = 0.1
    sweep_s: float = 30.0


@dataclass(slots=True)
class _Running:
    record: JobRecord
    cancel: threading.Event = field(default_factory=threading.Event)
    written_at: float = 0.0
    looked_at: float = 0.0


class DbosJobRunner:
    """Runs trainings as durable workflows.

    Parameters
    ----------
    home
        The service's home: ``jobs.sqlite`` (unless ``database_url`` names a PostgreSQL database) and
        ``jobs/``, with one folder per job.
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
        on_final: OnFinal | None = None,
    ) -> None:
        self._home = home
        self._worker = worker
        self._models = models
        self._url = database_url
        self._settings = settings or JobSettings()
        self._now = clock.now if clock is not None else time.time
        self._on_final = on_final
        self._folders = JobFolders(home / "jobs")
        self._executor = ""
        self._lock_fd = -1
        self._engine: sa.Engine | None = None
        self._records_or_none: JobRecords | None = None
        self._durable_or_none: Durable | None = None
        self._running: dict[str, _Running] = {}
        self._changed = threading.Condition()
        self._ticks: dict[str, int] = {}
        self._draining = threading.Event()  # takes no more work
        self._stopping = threading.Event()  # ends what runs
        self._sweeper: JobSweeper | None = None

    # Life

    def start(self) -> None:
        if self._durable_or_none is not None:
            return
        try:
            self._open()
        except exc.DBAPIError as error:
            self._close_stores()
            raise database_error(error) from error
        except BaseException:
            self._close_stores()
            raise
        self._sweeper = JobSweeper(
            self, self._records, self._folders, self._executor, now=self._now,
            results_ttl_s=self._settings.results_ttl_s, max_results_bytes=self._settings.max_results_bytes,
            records_ttl_s=self._settings.records_ttl_s, sweep_s=self._settings.sweep_s,
        )  # fmt: skip
        self._sweeper.start()

    def _open(self) -> None:
        self._draining.clear()
        self._stopping.clear()
        self._folders.make_root()
        self._lock_fd = _lock_home(self._folders.root / ".lock")
        self._executor = _executor_id(self._folders.root / "executor_id")
        self._engine = open_engine(self._url, self._home / "jobs.sqlite")
        self._records_or_none = JobRecords(self._engine)
        self._records.create_table()
        on_sqlite = self._engine.dialect.name == "sqlite"
        url = self._engine.url if on_sqlite else postgres_url(self._url).set(drivername="postgresql")
        self._durable_or_none = open_durable(
            self,
            url=url.render_as_string(hide_password=False),
            engine=self._engine if on_sqlite else None,
            executor=self._executor,
            concurrency=self._settings.concurrency,
            poll_s=self._settings.poll_s,
        )
        for row in self._records.active(self._executor):
            self.take_up(row)

    def drain(self, grace_s: float) -> None:
        self._draining.set()
        if self._durable_or_none is None:
            return
        if not self._durable.wait_idle(grace_s):
            self._stop()
            self._durable.wait_idle(10.0)  # workers look at the cancellation many times a second
        self._stop()
        if self._sweeper is not None:
            self._sweeper.close()
            self._sweeper = None
        self._durable.close()
        self._durable_or_none = None
        self._worker.close()
        self._close_stores()

        log.info("jobs.drained")

    def _stop(self) -> None:
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()

    def _close_stores(self) -> None:
        if self._durable_or_none is not None:
            self._durable_or_none.close()
            self._durable_or_none = None
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
        self._records_or_none = None
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    # What callers ask

    def submit_training(self, spec: TrainSpec) -> JobRecord:
        if self._draining.is_set():
            raise Unavailable("The service is stopping", fix="Try again in a moment", retry_after_s=5.0)
        if (known := self._records.row(spec.job_id)) is not None:
            return self._same_owner(known.record, spec)
        if self._records.count_active(self._executor) >= self._settings.max_active:
            raise Overloaded(
                "Too many jobs are waiting",
                cause=f"The service queues at most {self._settings.max_active}",
                fix="Try again when some have finished, or raise KEPLER_JOBS_MAX_ACTIVE",
                retry_after_s=30.0,
            )
        self._write_spec(spec)
        record = JobRecord(
            id=spec.job_id, kind="train", state=JobState.QUEUED, owner=spec.owner,
            subject=f"{spec.algorithm} into {spec.model}" if spec.model else spec.algorithm,
            created_at=self._now(), phase="queued", rows=spec.rows, sid=spec.search.sid,
        )  # fmt: skip
        if not self._records.insert(record, self._executor):  # somebody was faster with the same id
            return self._same_owner(self.get(spec.job_id), spec)
        self._enqueue(spec.job_id)
        self._worker.prewarm()
        return record

    def get(self, job_id: str) -> JobRecord:
        row = self._records.row(job_id)
        if row is None:
            raise NotFound(f"There is no job {job_id[:120]!r}", fix="List the jobs to see their ids")
        return row.record

    def list(
        self, *, owner: str | None = None, state: JobState | None = None, limit: int = 100, offset: int = 0
    ) -> builtins.list[JobRecord]:
        return self._records.list(owner, state, limit, offset)

    def cancel(self, job_id: str) -> JobRecord:
        record = self.get(job_id)
        if record.state.final:
            return record
        if record.state is JobState.QUEUED:
            ended = replace(
                record, state=JobState.CANCELLED, phase="cancelled", finished_at=self._now(),
                failure=Failure("Cancelled", "The job was cancelled before it started"),
            )  # fmt: skip
            if self._records.change(ended, JobState.QUEUED):
                with contextlib.suppress(exc.SQLAlchemyError):  # it ends by itself when its turn comes
                    self._durable.withdraw(job_id)
                self._ended(ended, keep=())
                return ended
        self._records.request_cancel(job_id)
        if (running := self._running.get(job_id)) is not None:
            running.cancel.set()
        return self.get(job_id)

    def folder(self, job_id: str) -> Path:
        return self._folders.make(job_id)

    def watch(self, job_id: str, timeout_s: float) -> Iterator[JobRecord]:
        until = time.monotonic() + timeout_s
        seen: JobRecord | None = None
        while True:
            tick = self._ticks.get(job_id, 0)
            record = self.get(job_id)
            if record != seen:
                seen = record
                yield record
            left_s = until - time.monotonic()
            if record.state.final or left_s <= 0 or self._stopping.is_set():
                return
            with self._changed:
                # The bound is for changes made by another service on the same database.
                self._changed.wait_for(
                    lambda: self._ticks.get(job_id, 0) != tick or self._stopping.is_set(),  # noqa: B023
                    timeout=min(left_s, _WATCH_LOOK_S),
                )

    # The steps of a job (`durable.Steps`), each safe to run again

    def run_worker(self, job_id: str) -> str:
        if self._draining.is_set():
            raise Stopped
        row = self._records.row(job_id)
        if row is None or row.record.state.final:
            return TrainOutcome().to_json()
        folder = self.folder(job_id)
        if (finished := read_outcome(folder)) is not None:  # trained before the service died
            return finished.to_json()
        begun = self._records.begin(job_id, self._now())
        if begun is None:
            return TrainOutcome().to_json()
        if begun.starts - begun.drains > self._settings.max_attempts:
            return TrainOutcome(failure=_crash_loop(self._settings.max_attempts)).to_json()
        running = _Running(begun.record)
        if begun.cancel_requested:
            running.cancel.set()
        self._running[job_id] = running
        self._tick(job_id)
        try:
            outcome = self._worker.run(
                folder,
                lambda fraction, phase: self._progress(running, fraction, phase),
                lambda: self._must_end(running),
            )
            if _cancelled(outcome) and self._stopping.is_set() and not running.cancel.is_set():
                self._records.count_drain(job_id)
                raise Stopped
            return outcome.to_json()
        finally:
            self._running.pop(job_id, None)

    def register(self, job_id: str, outcome: str) -> str:
        trained = TrainOutcome.from_json(outcome)
        row = self._records.row(job_id)
        if row is None or row.record.state.final or trained.failure is not None or not trained.model_dir:
            return json.dumps({"model": ""})
        folder = self._folders.path(job_id)
        spec = TrainSpec.from_json((folder / "spec.json").read_text("utf-8"))
        if not spec.model:
            return json.dumps({"model": ""})
        if row.cancel_requested:
            return json.dumps({"model": "", "failure": ["Cancelled", "The job was cancelled", "", ""]})
        self._write(replace(row.record, phase="registering", progress=_TRAINING_SHARE))
        try:
            return json.dumps({"model": self._register(spec, trained, folder)})
        except KeplerError as error:
            failure = Failure.of(error)
        except Exception as error:
            failure = _unexpected("The trained model could not be registered", job_id, error)
        return json.dumps(
            {"failure": [failure.code, failure.message, failure.cause, failure.fix], "model": ""}
        )

    def finish(self, job_id: str, outcome: str, registered: str) -> str:
        trained = TrainOutcome.from_json(outcome)
        found = json.loads(registered)
        row = self._records.row(job_id)
        if row is None or row.record.state.final:
            return ""
        failure = trained.failure or (Failure(*found["failure"]) if found.get("failure") else None)
        state = JobState.SUCCEEDED
        if failure is not None:
            state = JobState.CANCELLED if failure.code == "Cancelled" else JobState.FAILED
        record = replace(
            row.record, state=state, phase=state.value, finished_at=self._now(), model=found["model"],
            progress=1.0 if failure is None else row.record.progress,
            metrics=trained.metrics, notices=trained.notices, failure=failure,
        )  # fmt: skip
        if self._records.change(record, row.record.state):
            self._ended(record, keep=(trained.predictions,) if failure is None else ())
        return state.value

    # What the sweeper asks (`job_sweeper.Keeper`)

    def announce(self, record: JobRecord) -> None:
        if self._on_final is not None:
            try:
                self._on_final(record)
            except Exception as error:
                log.error("job.announce_failed", job=record.id, error=repr(error))
                return  # the sweeper tries again
        self._records.set_announced(record.id)

    def is_underway(self, job_id: str) -> bool:
        return job_id in self._running or self._durable.is_underway(job_id)

    def take_up(self, row: JobRow) -> None:
        """Make sure that somebody works on a job that is not final."""
        if not self._durable.is_underway(row.record.id):
            # Submitted or changed in one of the two stores only when the service died.
            self._durable.forget(row.record.id)
            self._enqueue(row.record.id)

    def forget(self, job_id: str) -> None:
        self._durable.forget(job_id)
        self._ticks.pop(job_id, None)

    # Within

    @property
    def _records(self) -> JobRecords:
        if self._records_or_none is None:
            raise NotReady("The job runner is not started")
        return self._records_or_none

    @property
    def _durable(self) -> Durable:
        if self._durable_or_none is None:
            raise NotReady("The job runner is not started")
        return self._durable_or_none

    def _same_owner(self, record: JobRecord, spec: TrainSpec) -> JobRecord:
        if record.owner != spec.owner:
            raise Conflict(f"Job id {spec.job_id!r} is taken", fix="Submit the training under another id")
        return record

    def _write_spec(self, spec: TrainSpec) -> None:
        try:
            write_text(self.folder(spec.job_id) / "spec.json", spec.to_json())
        except OSError as error:
            raise Overloaded(
                "The job could not be written to disk",
                cause=f"The operating system answered: {error.strerror or error}",
                fix="Free space on the disk of the service's home and try again",
                retry_after_s=30.0,
            ) from error

    def _enqueue(self, job_id: str) -> None:
        try:
            self._durable.enqueue(job_id)
        except exc.DBAPIError as error:
            raise database_error(error) from error

    def _must_end(self, running: _Running) -> bool:
        now = time.monotonic()
        if not running.cancel.is_set() and now - running.looked_at >= _CANCEL_LOOK_S:
            running.looked_at = now
            with contextlib.suppress(KeplerError):
                if self._records.cancel_requested(running.record.id):
                    running.cancel.set()
        return running.cancel.is_set() or self._stopping.is_set()

    def _progress(self, running: _Running, fraction: float, phase: str) -> None:
        now = time.monotonic()
        before = running.record
        if phase == before.phase and now - running.written_at < _PROGRESS_INTERVAL_S:
            return
        running.written_at = now
        running.record = replace(
            before, progress=max(before.progress, fraction * _TRAINING_SHARE), phase=phase
        )
        with contextlib.suppress(KeplerError):  # progress is a courtesy; the job goes on without
            self._write(running.record)

    def _write(self, record: JobRecord) -> None:
        self._records.change(record, record.state)
        self._tick(record.id)

    def _register(self, spec: TrainSpec, trained: TrainOutcome, folder: Path) -> str:
        for attempt in range(1, _REGISTER_TRIES + 1):
            try:
                return self._models.register(spec, trained, folder / trained.model_dir).full_name
            except KeplerError as error:
                if not error.retryable or attempt == _REGISTER_TRIES:
                    raise
                if self._stopping.wait(error.retry_after_s or 0.5 * attempt):
                    raise Stopped from error
        raise AssertionError("unreachable")

    def _ended(self, record: JobRecord, keep: tuple[str, ...]) -> None:
        self._folders.trim(record.id, keep)
        log.info("job.ended", job=record.id, state=record.state.value, attempt=record.attempt,
                 seconds=round(record.finished_at - record.created_at, 3))  # fmt: skip
        self._tick(record.id)
        self.announce(record)

    def _tick(self, job_id: str) -> None:
        with self._changed:
            self._ticks[job_id] = self._ticks.get(job_id, 0) + 1
            self._changed.notify_all()


def _cancelled(outcome: TrainOutcome) -> bool:
    return outcome.failure is not None and outcome.failure.code == "Cancelled"


def _crash_loop(attempts: int) -> Failure:
    return Failure(
        "InternalError",
        f"The service stopped {attempts} times while this job was running, so it is not tried again",
        "A job that takes the service down with it must not do so for ever",
        "Look at the service's log for why it stopped, then submit the training again",
    )


def _unexpected(message: str, job_id: str, error: Exception) -> Failure:
    number = secrets.token_hex(6)
    log.error("job.failed", job=job_id, error_id=number, exc_info=error)
    failure = InternalError(
        message,
        cause=f"The service's log has the details under error id {number}",
        fix="Report the error id to the administrator",
    )
    return Failure.of(failure)


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
