"""What happens in a job, step by step. Each step may run again after a crash and bears it."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath

import structlog

from kepler.adapters.jobs.durable import Stopped
from kepler.adapters.jobs.job_changes import JobChanges
from kepler.adapters.jobs.job_folders import JobFolders
from kepler.adapters.jobs.job_records import JobRecords, JobRow
from kepler.adapters.jobs.job_settings import JobSettings
from kepler.adapters.jobs.process_worker import read_outcome
from kepler.core.errors import Cancelled, KeplerError, NotReady
from kepler.core.jobs import Failure, JobRecord, JobState
from kepler.core.training import TrainOutcome, TrainSpec
from kepler.ports.jobs import TrainWorker
from kepler.ports.models import ModelStore

log = structlog.get_logger(__name__)

OnFinal = Callable[[JobRecord], None]

_PROGRESS_INTERVAL_S = 0.3
_CANCEL_LOOK_S = 1.0
_REGISTER_TRIES = 3
_PREPARING_S = 900.0
_TRAINING_SHARE = 0.95  # of the progress; the rest is registering


@dataclass(slots=True)
class _Running:
    record: JobRecord
    cancel: threading.Event = field(default_factory=threading.Event)
    written_at: float = 0.0
    looked_at: float = 0.0


class TrainSteps:
    """The steps of a training job (`durable.Steps`), over the stores of one started runner."""

    def __init__(
        self,
        records: JobRecords,
        folders: JobFolders,
        worker: TrainWorker,
        models: ModelStore,
        changes: JobChanges,
        settings: JobSettings,
        *,
        now: Callable[[], float],
        on_final: OnFinal | None,
    ) -> None:
        self._records = records
        self._folders = folders
        self._worker = worker
        self._models = models
        self._changes = changes
        self._settings = settings
        self._now = now
        self._on_final = on_final
        self._running: dict[str, _Running] = {}
        self.draining = threading.Event()  # begins nothing more

    def run_worker(self, job_id: str) -> str:
        if self.draining.is_set():
            raise Stopped
        row = self._records.row(job_id)
        if row is None or row.record.state.final:
            return TrainOutcome().to_json()
        folder = self._folders.make(job_id)
        if (finished := read_outcome(folder)) is not None:  # trained before the service died
            return finished.to_json()
        begun = self._records.begin(job_id, self._now())
        if begun is None:
            return TrainOutcome().to_json()
        if begun.starts - begun.drains > self._settings.max_attempts:
            return TrainOutcome(failure=_crash_loop(self._settings.max_attempts)).to_json()
        return self._train(begun, folder).to_json()

    def register(self, job_id: str, outcome: str) -> str:
        trained = TrainOutcome.from_json(outcome)
        row = self._records.row(job_id)
        if row is None or row.record.state.final or trained.failure is not None or not trained.model_dir:
            return _registered()
        if row.cancel_requested:
            return _registered(failure=Failure("Cancelled", "The job was cancelled"))
        try:
            folder = self._folders.path(job_id)
            spec = TrainSpec.from_json((folder / "spec.json").read_text("utf-8"))
            if not spec.model:
                return _registered()
            draft = folder / _inside(trained.model_dir)
            self._write(replace(row.record, phase="registering", progress=_TRAINING_SHARE))
            return _registered(self._register(spec, trained, draft))
        except KeplerError as error:
            return _registered(failure=Failure.of(error))
        except Exception as error:
            return _registered(failure=unexpected("The trained model could not be registered", job_id, error))

    def finish(self, job_id: str, outcome: str, registered: str) -> str:
        trained = TrainOutcome.from_json(outcome)
        found = json.loads(registered)
        row = self._records.row(job_id)
        if row is None:
            return ""
        if row.record.state.final:
            return row.record.state.value
        failure = trained.failure or (Failure(**found["failure"]) if found["failure"] else None)
        state = JobState.SUCCEEDED
        if failure is not None:
            state = JobState.CANCELLED if failure.code == "Cancelled" else JobState.FAILED
        record = replace(
            row.record, state=state, phase=state.value, finished_at=self._now(), model=found["model"],
            progress=1.0 if failure is None else row.record.progress,
            metrics=trained.metrics, notices=trained.notices, failure=failure,
        )  # fmt: skip
        if self._records.change(record, row.record.state):
            log.info("job.ended", job=job_id, state=state.value, attempt=record.attempt,
                     seconds=round(record.finished_at - record.created_at, 3))  # fmt: skip
            self._changes.tell(job_id)
            self.settle(record)
        return state.value

    def settle(self, record: JobRecord) -> None:
        """Drop what a final job needs no more and tell of it; done again until it was done once."""
        keep: tuple[str, ...] = ()
        if record.state is JobState.SUCCEEDED:
            trained = read_outcome(self._folders.path(record.id))
            keep = (trained.predictions,) if trained is not None else ()
        self._folders.trim(record.id, keep)
        if self._on_final is not None:
            try:
                self._on_final(record)
            except Exception as error:
                log.error("job.announce_failed", job=record.id, error=repr(error))
                return  # the sweeper tries again
        self._records.set_announced(record.id)

    def cancel_running(self, job_id: str) -> None:
        if (running := self._running.get(job_id)) is not None:
            running.cancel.set()

    def is_running(self, job_id: str) -> bool:
        return job_id in self._running

    def _train(self, begun: JobRow, folder: Path) -> TrainOutcome:
        job_id = begun.record.id
        running = _Running(begun.record)
        if begun.cancel_requested:
            running.cancel.set()
        self._running[job_id] = running
        self._changes.tell(job_id)
        try:
            outcome = self._worker.run(
                folder,
                lambda fraction, phase: self._progress(running, fraction, phase),
                lambda: self._must_end(running),
            )
            cancelled = outcome.failure is not None and outcome.failure.code == "Cancelled"
            if cancelled and self._changes.stopped and not running.cancel.is_set():
                self._records.count_drain(job_id)
                raise Stopped
            return outcome
        finally:
            self._running.pop(job_id, None)

    def _must_end(self, running: _Running) -> bool:
        now = time.monotonic()
        if not running.cancel.is_set() and now - running.looked_at >= _CANCEL_LOOK_S:
            running.looked_at = now
            with contextlib.suppress(KeplerError):  # another service may have been asked to cancel it
                if self._records.cancel_requested(running.record.id):
                    running.cancel.set()
        return running.cancel.is_set() or self._changes.stopped

    def _progress(self, running: _Running, fraction: float, phase: str) -> None:
        now = time.monotonic()
        before = running.record
        if phase == before.phase and now - running.written_at < _PROGRESS_INTERVAL_S:
            return
        running.written_at = now
        progress = max(before.progress, fraction * _TRAINING_SHARE)
        running.record = replace(before, progress=progress, phase=phase)
        with contextlib.suppress(KeplerError):  # progress is a courtesy; the job goes on without
            self._write(running.record)

    def _write(self, record: JobRecord) -> None:
        self._records.change(record, record.state)
        self._changes.tell(record.id)

    def _register(self, spec: TrainSpec, trained: TrainOutcome, draft: Path) -> str:
        tries = 0
        preparing_until = time.monotonic() + _PREPARING_S
        while True:
            try:
                return self._models.register(spec, trained, draft).full_name
            except KeplerError as error:
                # A registry that is being made or migrated takes its time; the trained model can wait.
                preparing = isinstance(error, NotReady) and error.retry_after_s > 0
                if preparing and time.monotonic() < preparing_until:
                    row = self._records.row(spec.job_id)
                    if row is None or row.cancel_requested:
                        raise Cancelled("The job was cancelled") from error
                else:
                    tries += 1
                    if not error.retryable or tries == _REGISTER_TRIES:
                        raise
                if self._changes.wait_stopped(min(error.retry_after_s or 0.5 * tries, 30.0)):
                    raise Stopped from error


def _registered(model: str = "", *, failure: Failure | None = None) -> str:
    return json.dumps({"model": model, "failure": asdict(failure) if failure else None})


def _inside(name: str) -> PurePosixPath:
    """A path the worker named, which must not lead out of the job's folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"the worker named {name!r} as a path in its folder")
    return path


def _crash_loop(attempts: int) -> Failure:
    return Failure(
        "InternalError",
        f"The service stopped {attempts} times while this job was running, so it is not tried again",
        "A job that takes the service down with it must not do so for ever",
        "Look at the service's log for why it stopped, then submit the training again",
    )


def unexpected(message: str, job_id: str, error: Exception) -> Failure:
    number = secrets.token_hex(6)
    log.error("job.failed", job=job_id, error_id=number, exc_info=error)
    return Failure(
        "InternalError",
        message,
        f"The service's log has the details under error id {number}",
        "Report the error id to the administrator",
    )
