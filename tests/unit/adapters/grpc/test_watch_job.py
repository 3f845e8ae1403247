"""Whoever watches a job hears of a change when it is made, and of another service's soon after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fakes.service_parts import MemoryJobs
from kepler.adapters.grpc import admin, calls
from kepler.adapters.grpc.admin import JobServicer
from kepler.core.jobs import JobRecord, JobState
from kepler.usecases.manage import ManageJobs
from kepler.v1 import jobs_pb2

RUNNING, SUCCEEDED = jobs_pb2.Job.State.Value("RUNNING"), jobs_pb2.Job.State.Value("SUCCEEDED")


@pytest.fixture
def jobs(tmp_path: Path) -> MemoryJobs:
    jobs = MemoryJobs(tmp_path)
    jobs.records["j"] = JobRecord("j", "train", JobState.QUEUED, "local", "a training", created_at=1.0)
    return jobs


@pytest.fixture
def servicer(jobs: MemoryJobs) -> Iterator[JobServicer]:
    with ThreadPoolExecutor(2) as pool:
        yield JobServicer(ManageJobs(jobs, None), jobs, pool)  # type: ignore[arg-type]


def watch(servicer: JobServicer) -> AsyncGenerator[jobs_pb2.Job, None]:
    calls._principal.set(calls.OPEN)
    return servicer.WatchJob(jobs_pb2.GetJobRequest(id="j"))


async def test_a_change_is_told_when_it_is_made(jobs, servicer, monkeypatch):
    monkeypatch.setattr(admin, "_POLL_S", 60.0)
    monkeypatch.setattr(admin, "_SOON_S", 0.001)
    states = watch(servicer)
    await anext(states)
    following = asyncio.ensure_future(anext(states))
    for _ in range(30):  # nothing new is said, and in the end it would look once in many seconds
        jobs.change("j")
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.05)
    assert not following.done()
    started = time.perf_counter()
    await asyncio.to_thread(jobs.change, "j", state=JobState.RUNNING)
    assert (await following).state == RUNNING
    jobs.change("j", state=JobState.SUCCEEDED)
    assert (await anext(states)).state == SUCCEEDED
    assert time.perf_counter() - started < 5
    with pytest.raises(StopAsyncIteration):
        await anext(states)
    assert jobs.listeners == {"j": []}


async def test_a_change_of_another_service_is_found_by_looking(jobs, servicer):
    states = watch(servicer)
    await anext(states)
    jobs.change("j", tell=False, state=JobState.RUNNING)
    assert (await asyncio.wait_for(anext(states), 5)).state == RUNNING
    await states.aclose()
    assert jobs.listeners == {"j": []}
