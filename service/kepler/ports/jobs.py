"""Work that outlives a call, and the processes it runs in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from kepler.core.jobs import JobRecord, JobState
from kepler.core.training import TrainOutcome, TrainSpec

OnProgress = Callable[[float, str], None]


class JobRunner(Protocol):
    """Durable jobs: what `submit_training` returned survives kill -9 of the service and completes once."""

    def start(self) -> None:
        """Open the stores, recover what was running, begin to work."""
        ...

    def submit_training(self, spec: TrainSpec) -> JobRecord:
        """Queue a training whose rows lie in its job folder. Idempotent by ``spec.job_id``."""
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
