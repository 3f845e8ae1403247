"""Waiting for a job of the service, over restarts of the service."""

from __future__ import annotations

import time
from typing import Any

from kepler.v1 import jobs_pb2
from kepler_app.client import Client
from kepler_app.errors import SearchError
from kepler_app.streams import watch

SILENCE_S = 30.0  # the service speaks at least every 5 s
PATIENCE_S = 60.0  # a restart takes seconds
_RETRY_S = 1.0
_FINAL = (jobs_pb2.Job.SUCCEEDED, jobs_pb2.Job.FAILED, jobs_pb2.Job.CANCELLED)


def state_name(job: jobs_pb2.Job) -> str:
    """ "running", "failed", ... as keplerjobs shows it."""
    return jobs_pb2.Job.State.Name(job.state).lower()


def wait_for(client: Client, caller: Any, job_id: str, timeout_s: float) -> tuple[jobs_pb2.Job, bool]:
    """The job and whether it ended, after at most ``timeout_s``.

    A service that goes away is given `PATIENCE_S` to come back: the job survives its restart.
    """
    request = jobs_pb2.GetJobRequest(caller=caller, id=job_id)
    deadline = time.monotonic() + timeout_s
    heard = time.monotonic()
    job = jobs_pb2.Job(id=job_id, state=jobs_pb2.Job.QUEUED)
    while True:
        replies = watch(client, request)
        try:
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    replies.cancel()
                    return job, False
                reply = replies.next(min(left, SILENCE_S))
                if reply is None:
                    break
                job, heard = reply, time.monotonic()
                if job.state in _FINAL:
                    replies.cancel()
                    return job, True
        except SearchError as error:
            if error.code not in ("Unavailable", "TimedOut"):
                raise
            if time.monotonic() >= deadline:
                return job, False
            if time.monotonic() - heard > PATIENCE_S:
                raise SearchError(
                    f"{error.sentence} The training job {job_id} is on the service's disk and goes on when it is back.",
                    error.code,
                ) from error
        time.sleep(_RETRY_S)
