"""Jobs that are not trainings: they run here in a thread, and mostly wait.

The work's own function runs again from its beginning after a restart; what it did in steps is not done again.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import structlog

from kepler.adapters.jobs.durable import OneStep, Stopped
from kepler.adapters.jobs.job_changes import JobChanges
from kepler.adapters.jobs.job_folders import JobFolders
from kepler.adapters.jobs.job_records import JobRecords, JobRow
from kepler.adapters.jobs.job_steps import unexpected
from kepler.core.errors import Cancelled, KeplerError
from kepler.core.jobs import Failure, JobRecord, JobState
from kepler.ports.jobs import Work, WorkOrder, WorkOutcome

log = structlog.get_logger(__name__)

# Work may wait for weeks, and a service may well be killed more than three times in that time.
MAX_STARTS = 100
_LOOK_S = 1.0
_PROGRESS_INTERVAL_S = 0.3


@dataclass(slots=True)
class _Running:
    record: JobRecord
    cancel: threading.Event = field(default_factory=threading.Event)
    written_at: float = 0.0


class WorkSteps:
    """Runs the work of jobs over the stores of one started runner."""

    def __init__(
        self,
        records: JobRecords,
        folders: JobFolders,
        works: Mapping[str, Work],
        changes: JobChanges,
        settle: Callable[[JobRecord], None],
        draining: threading.Event,
        *,
        now: Callable[[], float],
    ) -> None:
        self._records = records
        self._folders = folders
        self._works = works
        self._changes = changes
        self._settle = settle
        self._draining = draining
        self._now = now
        self._running: dict[str, _Running] = {}

    def run(self, job_id: str, one_step: OneStep) -> str:
        """Bring the job to its end; gives the state it ended in."""
        if self._draining.is_set():
            raise Stopped
        row = self._records.begin(job_id, self._now())
        if row is None:
            return ""
        running = _Running(row.record)
        if row.cancel_requested:
            running.cancel.set()
        self._running[job_id] = running
        self._changes.tell(job_id)
        try:
            return self._finish(running, self._outcome(row, running, one_step))
        except Stopped:
            with contextlib.suppress(KeplerError):
                self._records.count_drain(job_id)
            raise
        finally:
            self._running.pop(job_id, None)

    def cancel_running(self, job_id: str) -> None:
        if (running := self._running.get(job_id)) is not None:
            running.cancel.set()

    def is_running(self, job_id: str) -> bool:
        return job_id in self._running

    def _outcome(self, row: JobRow, running: _Running, one_step: OneStep) -> WorkOutcome | Failure:
        job_id = row.record.id
        if row.starts - row.drains > MAX_STARTS:
            return Failure(
                "InternalError",
                f"The service stopped {MAX_STARTS} times while this job was running, so it is not tried again",
                fix="Look at the service's log for why it stopped, then begin the work again",
            )
        try:
            text = (self._folders.path(job_id) / "spec.json").read_text("utf-8")
            order = WorkOrder(**json.loads(text))
            return self._works[order.kind].run(order, _Run(self, running, one_step))
        except KeplerError as error:
            return Failure.of(error)
        except Exception as error:
            return unexpected("The job failed unexpectedly", job_id, error)

    def _finish(self, running: _Running, outcome: WorkOutcome | Failure) -> str:
        failure = outcome if isinstance(outcome, Failure) else None
        state = JobState.SUCCEEDED
        if failure is not None:
            state = JobState.CANCELLED if failure.code == "Cancelled" else JobState.FAILED
        metrics, notices = ((), ()) if isinstance(outcome, Failure) else (outcome.metrics, outcome.notices)
        record = replace(
            running.record, state=state, phase=state.value, finished_at=self._now(), failure=failure,
            progress=running.record.progress if failure else 1.0, metrics=metrics, notices=notices,
        )  # fmt: skip
        if self._records.change(record, JobState.RUNNING):
            log.info("job.ended", job=record.id, state=state.value, attempt=record.attempt,
                     seconds=round(record.finished_at - record.created_at, 3))  # fmt: skip
            self._changes.tell(record.id)
            self._settle(record)
        return state.value

    # What `_Run` asks

    def check(self, running: _Running) -> None:
        """Raise when the job must not go on."""
        if self._draining.is_set() or self._changes.stopped:
            raise Stopped
        if not running.cancel.is_set():
            with contextlib.suppress(KeplerError):  # another service may have been asked to cancel it
                if self._records.cancel_requested(running.record.id):
                    running.cancel.set()
        if running.cancel.is_set():
            raise Cancelled("The job was cancelled")

    def tell(self, running: _Running, fraction: float, phase: str) -> None:
        now = time.monotonic()
        before = running.record
        if phase == before.phase and now - running.written_at < _PROGRESS_INTERVAL_S:
            return
        running.record = replace(before, progress=max(before.progress, min(fraction, 0.99)), phase=phase)
        if running.record == before:
            return
        running.written_at = now
        with contextlib.suppress(KeplerError):  # progress is a courtesy; the job goes on without
            self._records.change(running.record, JobState.RUNNING)
            self._changes.tell(before.id)

    def sleep(self, running: _Running, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            self.check(running)
            left_s = until - time.monotonic()
            if left_s <= 0:
                return
            # The drain is not announced by the cancellation's event: look at both often enough.
            running.cancel.wait(min(left_s, _LOOK_S / 4))


class _Run:
    """Implements `ports.jobs.WorkRun`."""

    def __init__(self, steps: WorkSteps, running: _Running, one_step: OneStep) -> None:
        self.job_id = running.record.id
        self._steps = steps
        self._running = running
        self._one_step = one_step
        self._names: set[str] = set()

    def step(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name in self._names:
            raise ValueError(f"the step {name!r} comes twice in one job")
        self._names.add(name)
        self._steps.check(self._running)
        self._steps.tell(self._running, self._running.record.progress, name)
        found = json.loads(self._one_step(name, lambda: _recorded(work)))
        if "failure" in found:
            raise Failure(**found["failure"]).to_error()
        return dict(found["value"])

    def progress(self, fraction: float, phase: str) -> None:
        self._steps.tell(self._running, fraction, phase)

    def wait(self, seconds: float) -> None:
        self._steps.sleep(self._running, seconds)


def _recorded(work: Callable[[], dict[str, Any]]) -> str:
    """What the step gave, or how it failed, as JSON."""
    try:
        return json.dumps({"value": work()})
    except KeplerError as error:
        return json.dumps({"failure": asdict(Failure.of(error))})


def encode_order(order: WorkOrder) -> str:
    return json.dumps(asdict(order), ensure_ascii=False)
