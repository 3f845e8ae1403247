"""Doubles of the ports that the use cases drive: jobs, spools, worker, audit. They hold state and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kepler.core.errors import InvalidInput, NotFound
from kepler.core.jobs import JobRecord, JobState
from kepler.core.training import TrainOutcome, TrainSpec
from kepler.ports.jobs import OnProgress, WorkOrder


@dataclass
class MemoryJobs:
    """Implements `ports.jobs.JobRunner`; jobs stay queued until a test changes them."""

    root: Path
    specs: dict[str, TrainSpec] = field(default_factory=dict)
    records: dict[str, JobRecord] = field(default_factory=dict)
    orders: dict[str, WorkOrder] = field(default_factory=dict)
    listeners: dict[str, list[Callable[[], None]]] = field(default_factory=dict)

    def start(self) -> None:
        return None

    def submit_training(self, spec: TrainSpec) -> JobRecord:
        self.specs[spec.job_id] = spec
        record = JobRecord(
            id=spec.job_id, kind="train", state=JobState.QUEUED, owner=spec.owner, subject=spec.algorithm,
            created_at=float(len(self.records) + 1), rows=spec.rows,
        )  # fmt: skip
        return self.records.setdefault(spec.job_id, record)

    def submit_work(self, order: WorkOrder) -> JobRecord:
        self.orders[order.job_id] = order
        record = JobRecord(
            id=order.job_id, kind=order.kind, state=JobState.QUEUED, owner=order.owner, subject=order.subject,
            created_at=float(len(self.records) + 1), model=order.model,
        )  # fmt: skip
        return self.records.setdefault(order.job_id, record)

    def get(self, job_id: str) -> JobRecord:
        if job_id not in self.records:
            raise NotFound(f"There is no job {job_id!r}")
        return self.records[job_id]

    def list(
        self, *, owner: str | None = None, state: JobState | None = None, limit: int = 100, offset: int = 0
    ) -> list[JobRecord]:
        found = [
            record
            for record in reversed(self.records.values())
            if (owner is None or record.owner == owner) and (state is None or record.state is state)
        ]
        return found[offset : offset + limit]

    def cancel(self, job_id: str) -> JobRecord:
        self.records[job_id] = replace(self.get(job_id), state=JobState.CANCELLED)
        return self.records[job_id]

    def folder(self, job_id: str) -> Path:
        return self.root / job_id

    def watch(self, job_id: str, timeout_s: float) -> Iterator[JobRecord]:
        yield self.get(job_id)

    def on_change(self, job_id: str, listener: Callable[[], None]) -> Callable[[], None]:
        self.listeners.setdefault(job_id, []).append(listener)
        return lambda: self.listeners[job_id].remove(listener)

    def change(self, job_id: str, *, tell: bool = True, **changes: Any) -> None:
        """Change a job as its runner would (``tell`` False: as a runner in another service would)."""
        self.records[job_id] = replace(self.records[job_id], **changes)
        if tell:
            for listener in tuple(self.listeners.get(job_id, ())):
                listener()

    def drain(self, grace_s: float) -> None:
        return None


@dataclass
class MemorySpool:
    """Implements `ports.rows.RowSpool`."""

    path: Path
    rows: int = 0
    state: str = "open"

    def write(self, slice_: bytes) -> int:
        if b"bad" in slice_:
            raise InvalidInput("A row is bad")
        count = slice_.count(b"\n")
        self.rows += count
        return count

    def finish(self) -> str:
        self.state = "finished"
        return "ab" * 32

    def abort(self) -> None:
        self.path.unlink(missing_ok=True)
        self.state = "aborted"


@dataclass
class MemorySpools:
    """Implements `ports.rows.RowSpools` and remembers what it opened."""

    opened: list[tuple[tuple[str, ...], tuple[str, ...], MemorySpool]] = field(default_factory=list)

    def open(self, folder: Path, columns: tuple[str, ...], used: tuple[str, ...]) -> MemorySpool:
        spool = MemorySpool(folder / "rows")
        spool.path.touch()
        self.opened.append((columns, used, spool))
        return spool


@dataclass
class IdleWorker:
    """Implements `ports.jobs.TrainWorker`; counts the hints."""

    prewarmed: int = 0

    def run(self, folder: Path, on_progress: OnProgress, cancelled: object) -> TrainOutcome:
        return TrainOutcome()

    def prewarm(self) -> None:
        self.prewarmed += 1

    def close(self) -> None:
        return None


@dataclass
class MemoryAudit:
    """Implements `ports.security.AuditLog`."""

    records: list[tuple[str, str, str, str]] = field(default_factory=list)

    def append(
        self, *, who: str, action: str, what: str, outcome: str, detail: dict[str, str] | None = None
    ) -> None:
        self.records.append((who, action, what, outcome))

    def verify(self) -> int:
        return len(self.records)
