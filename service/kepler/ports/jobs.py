"""Work that outlives a call, and the processes it runs in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kepler.core.jobs import JobRecord, JobState, Notice
from kepler.core.training import TrainOutcome, TrainSpec

OnProgress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """Work that is not a training. ``body`` is JSON that its `Work` reads; it must hold no secret."""

    job_id: str
    kind: str
    owner: str
    subject: str
    body: str
    model: str = ""
    sid: str = ""


@dataclass(frozen=True, slots=True)
class WorkOutcome:
    """How work ended that did not fail."""

    metrics: tuple[tuple[str, float], ...] = ()
    notices: tuple[Notice, ...] = ()


class WorkRun(Protocol):
    """What `Work` is given to be durable."""

    job_id: str

    def step(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do a piece of work that is recorded when it returns; later runs of the job get what it gave.

        Names are unique within a job. ``work`` gives JSON and must bear to be run twice: the service may die between
        its effect and the record. A `KeplerError` that it raises is recorded too.
        """
        ...

    def progress(self, fraction: float, phase: str) -> None: ...

    def wait(self, seconds: float) -> None:
        """Sleep. Raises `Cancelled` when the job was cancelled; does not return when the service stops."""
        ...


class Work(Protocol):
    """Does one kind of work."""

    def run(self, order: WorkOrder, run: WorkRun) -> WorkOutcome:
        """Begins anew after a restart of the service: everything that has an effect belongs into a step."""
        ...


class JobRunner(Protocol):
    """Durable jobs: what `submit_training` returned survives kill -9 of the service and completes once."""

    def start(self) -> None:
        """Open the stores, recover what was running, begin to work."""
        ...

    def submit_training(self, spec: TrainSpec) -> JobRecord:
        """Queue a training whose rows lie in its job folder. Idempotent by ``spec.job_id``."""
        ...

    def submit_work(self, order: WorkOrder) -> JobRecord:
        """Queue other work, of a kind the runner knows. Idempotent by ``order.job_id``."""
        ...

    def get(self, job_id: str) -> JobRecord:
        """Raises `NotFound`."""
        ...

    def list(
        self, *, owner: str | None = None, state: JobState | None = None, limit: int = 100, offset: int = 0
    ) -> list[JobRecord]:
        """Newest first."""
        ...

    def cancel(self, job_id: str) -> JobRecord: ...

    def folder(self, job_id: str) -> Path:
        """Folder of the job: spec.json, rows.arrow, result.json, predictions.arrow."""
        ...

    def watch(self, job_id: str, timeout_s: float) -> Iterator[JobRecord]:
        """The record now and after each change, until final or ``timeout_s`` passed."""
        ...

    def on_change(self, job_id: str, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` after each change that this process makes to the job; gives what ends that.

        It is called in any thread, must be quick and raise nothing. Changes by another service on the same
        database are not told.
        """
        ...

    def drain(self, grace_s: float) -> None:
        """Stop taking work, let running jobs finish within ``grace_s``; the rest resume at next start."""
        ...


class TrainWorker(Protocol):
    """Runs one training outside the service's process, within limits."""

    def run(self, folder: Path, on_progress: OnProgress, cancelled: Callable[[], bool]) -> TrainOutcome:
        """Blocks until ``folder/result.json`` is there or the worker died.

        The worker's death, a limit or a cancellation is an outcome with ``failure`` set, never an exception.
        """
        ...

    def prewarm(self) -> None:
        """Hint that a training will come soon; an idle worker may be started ahead."""
        ...

    def close(self) -> None: ...
