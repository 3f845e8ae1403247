"""What the job tests share: the fake training as command, a runner on a folder, waiting for ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fakes.jobs.fake_training as fake_training
from fakes.jobs.once_models import OnceModels
from kepler.adapters.jobs.dbos_jobs import DbosJobRunner, JobSettings
from kepler.adapters.jobs.limits import MIB, WorkerLimits
from kepler.adapters.jobs.process_worker import ProcessTrainWorker
from kepler.core.jobs import JobRecord
from kepler.core.training import TrainSpec

COMMAND = (sys.executable, "-P", "-s", fake_training.__file__)
# Bounds that a fake training stays well below unless it is asked to pass one.
LIMITS = WorkerLimits(memory_bytes=400 * MIB, time_s=60, processes=8, scratch_bytes=64 * MIB, free_bytes=MIB)


def spec(job_id: str, action: str = "succeed", *, owner: str = "ada", **params: Any) -> TrainSpec:
    params["action"] = action
    return TrainSpec(job_id, "Fake", ("x",), ("x",), model="app.search/pump", owner=owner, params=params)


def in_folder(folder: Path, action: str = "succeed", **params: Any) -> Path:
    """A job folder as the runner leaves it to the worker."""
    folder.mkdir(exist_ok=True)
    (folder / "spec.json").write_text(spec("job", action, **params).to_json())
    return folder


def ignore(fraction: float, phase: str) -> None:
    """Progress nobody looks at."""


def never() -> bool:
    return False


@contextmanager
def running(
    home: Path,
    *,
    limits: WorkerLimits = LIMITS,
    settings: JobSettings | None = None,
    url: str = "",
    on_final: Callable[[JobRecord], None] | None = None,
    grace_s: float = 20.0,
) -> Iterator[DbosJobRunner]:
    worker = ProcessTrainWorker(limits, command=COMMAND)
    runner = DbosJobRunner(
        home, worker, OnceModels(home / "versions"), database_url=url,
        settings=settings or JobSettings(poll_s=0.02, sweep_s=0.2), on_final=on_final,
    )  # fmt: skip
    try:
        runner.start()
        yield runner
    finally:
        runner.drain(grace_s)


def ended(runner: DbosJobRunner, job_id: str, timeout_s: float = 30.0) -> JobRecord:
    *_, record = runner.watch(job_id, timeout_s)
    assert record.state.final, f"job {job_id} is {record.state} after {timeout_s} s"
    return record
