"""The one place that touches DBOS: it starts, queues and resumes workflows.

A training has three steps; other work names its own as it goes, always in the same order.

DBOS is one per process, so `open_durable` gives one at a time. Each step is recorded when it returns; after
a crash the workflow goes on with the first step that is not. Values between steps are JSON text: nothing
here is pickled.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID
from dbos import error as dbos_error

from kepler.core.errors import Conflict, Unavailable

# Pinned: DBOS resumes a workflow only under the version that began it, and would derive one from our source.
# It changes when the workflow's steps change, never otherwise.
WORKFLOW_VERSION = "1"
TRAIN = "train"
WORK_CONCURRENCY = 256
WORK_POLL_S = 0.5
_ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

_lock = threading.Lock()
_steps: Steps | None = None
_run_work: RunWork | None = None
_underway = threading.Condition()
_underway_ids: set[str] = set()
_returned_ids: deque[str] = deque(maxlen=64)


class Steps(Protocol):
    """What a training job does. Each may run again after a crash, so each must bear that."""

    def run_worker(self, job_id: str) -> str:
        """Gives the outcome as JSON."""
        ...

    def register(self, job_id: str, outcome: str) -> str:
        """Gives the registered model, or why there is none, as JSON."""
        ...

    def finish(self, job_id: str, outcome: str, registered: str) -> str: ...


OneStep = Callable[[str, Callable[[], str]], str]
"""Runs a named piece of work once; after a crash it gives what it gave before."""
RunWork = Callable[[str, OneStep], str]
"""Does the work of a job by its id. May begin again after a crash, so what matters is in steps."""


class Stopped(BaseException):
    """Leaves a workflow where it is, to be resumed at the next start.

    Not an `Exception`: DBOS records those as the workflow's end.
    """


@DBOS.workflow(name="kepler.train", max_recovery_attempts=None)
def _train(job_id: str) -> str:
    steps = _steps
    if steps is None:
        raise Stopped
    with _underway:
        _underway_ids.add(job_id)
    try:
        return _run_steps(steps, job_id)
    finally:
        _returned(job_id)


@DBOS.workflow(name="kepler.work", max_recovery_attempts=None)
def _work(job_id: str) -> str:
    run = _run_work
    if run is None:
        raise Stopped
    with _underway:
        _underway_ids.add(job_id)
    try:
        return run(job_id, lambda name, work: DBOS.run_step({"name": name}, work))
    finally:
        _returned(job_id)


def _returned(job_id: str) -> None:
    with _underway:
        _underway_ids.discard(job_id)
        _returned_ids.append(job_id)
        _underway.notify_all()


def _run_steps(steps: Steps, job_id: str) -> str:
    outcome = DBOS.run_step({"name": "train"}, steps.run_worker, job_id)
    registered = DBOS.run_step({"name": "register"}, steps.register, job_id, outcome)
    return DBOS.run_step({"name": "finish"}, steps.finish, job_id, outcome, registered)


class Durable:
    """The launched engine."""

    def __init__(self, queue: str, work_queue: str) -> None:
        self._queue = queue
        self._work_queue = work_queue

    def enqueue(self, job_id: str, kind: str = TRAIN) -> None:
        """Queue the workflow named by the job; a second time it changes nothing."""
        with SetWorkflowID(job_id):
            if kind == TRAIN:
                DBOS.enqueue_workflow(self._queue, _train, job_id)
            else:
                DBOS.enqueue_workflow(self._work_queue, _work, job_id)

    def is_underway(self, job_id: str) -> bool:
        """Whether the workflow waits or runs."""
        status = DBOS.get_workflow_status(job_id)
        return status is not None and status.status not in _ENDED

    def forget(self, job_id: str) -> None:
        """Delete the workflow with its recorded steps."""
        if DBOS.get_workflow_status(job_id) is not None:
            DBOS.delete_workflow(job_id)

    def withdraw(self, job_id: str) -> None:
        """Take the workflow out of the queue."""
        DBOS.cancel_workflow(job_id)

    def wait_idle(self, timeout_s: float) -> bool:
        """Whether no workflow is between its first step and its last within ``timeout_s``."""
        with _underway:
            return _underway.wait_for(lambda: not _underway_ids, timeout=max(0.0, timeout_s))

    def close(self) -> None:
        """Stop DBOS. Workflows that were left by `Stopped` are resumed at the next start."""
        global _steps, _run_work
        self._wait_written(2.0)
        with _lock:
            DBOS.destroy()
            _steps = _run_work = None

    def _wait_written(self, timeout_s: float) -> None:
        # DBOS writes a workflow's end after its function has returned, in a thread we don't hold. What is
        # not written by then is done again at the next start, which changes nothing.
        until = time.monotonic() + timeout_s
        while time.monotonic() < until and any(
            (status := DBOS.get_workflow_status(job_id)) is not None and status.status == "PENDING"
            for job_id in list(_returned_ids)
        ):
            time.sleep(0.01)
        _returned_ids.clear()


def open_durable(
    steps: Steps,
    run_work: RunWork,
    *,
    url: str,
    engine: sa.Engine | None,
    executor: str,
    concurrency: int,
    poll_s: float,
) -> Durable:
    """Launch DBOS; it begins at once to resume what was running under ``executor``.

    The queue belongs to the executor, because the rows of its jobs lie in its home. Raises `Conflict` when
    this process runs one already, `Unavailable` when the database refuses.
    """
    global _steps, _run_work
    with _lock:
        if _steps is not None:
            raise Conflict("Jobs are running in this process already", fix="Drain the other job runner first")
        config: DBOSConfig = {
            "name": "kepler",
            "system_database_url": url,
            "application_version": WORKFLOW_VERSION,
            "executor_id": executor,
            "log_level": "WARNING",
            "serializer": DBOSPortableJSONSerializer(),
            "use_listen_notify": False,  # we wait for no DBOS event, and it would hold a connection
        }
        if engine is not None:
            config["system_database_engine"] = engine
        queue, work_queue = f"kepler-train-{executor}", f"kepler-work-{executor}"
        logging.getLogger("dbos").addFilter(_hide_advice)
        _steps, _run_work = steps, run_work
        try:
            DBOS(config=config)
            DBOS.listen_queues([queue, work_queue])
            DBOS.launch()
            # Work waits most of its time, for devices or clouds: it must not keep trainings waiting.
            for name, most, every_s in (
                (queue, concurrency, poll_s),
                (work_queue, WORK_CONCURRENCY, WORK_POLL_S),
            ):
                DBOS.register_queue(
                    name,
                    worker_concurrency=most,
                    polling_interval_sec=every_s,
                    on_conflict="always_update",
                )
        except BaseException as error:
            DBOS.destroy()
            _steps = _run_work = None
            if isinstance(error, dbos_error.DBOSException):
                # The engine's own text may quote the address with its password.
                raise Unavailable(
                    "The job engine does not start",
                    cause=f"Its database refused ({type(error).__name__})",
                    fix="Check the setting database_url and the service's log",
                ) from error
            raise
    return Durable(queue, work_queue)


def _hide_advice(record: logging.LogRecord) -> bool:
    """DBOS logs a stack for what we raise again as a clear error."""
    return "failed to launch" not in record.getMessage()
