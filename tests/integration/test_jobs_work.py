"""Jobs that are no trainings: their steps happen once, whatever happens to the service."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fakes.jobs.fake_training as fake_training
from fakes.jobs.counting_work import CountingWork
from fakes.jobs.once_models import OnceModels
from integration.jobs_support import LIMITS, ended, spec
from integration.test_jobs_crash import ServiceLike
from kepler.adapters.jobs.dbos_jobs import DbosJobRunner, JobSettings
from kepler.adapters.jobs.process_worker import ProcessTrainWorker
from kepler.core.errors import Conflict, InternalError
from kepler.core.jobs import JobRecord, JobState
from kepler.ports.jobs import WorkOrder


@contextmanager
def working(home: Path, concurrency: int = 1) -> Iterator[DbosJobRunner]:
    worker = ProcessTrainWorker(LIMITS, command=(sys.executable, "-P", "-s", fake_training.__file__))
    runner = DbosJobRunner(
        home, worker, OnceModels(home / "versions"), works={"count": CountingWork(home)},
        settings=JobSettings(poll_s=0.02, sweep_s=0.2, concurrency=concurrency),
    )  # fmt: skip
    try:
        runner.start()
        yield runner
    finally:
        runner.drain(20.0)


def order(job_id: str, body: str = "{}", owner: str = "ada") -> WorkOrder:
    return WorkOrder(job_id, "count", owner, "count to two", body, model="app.search/pump@1")


def effects(home: Path) -> Counter[str]:
    path = home / "effects"
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def until_phase(runner: DbosJobRunner, job_id: str, phase: str) -> JobRecord:
    for record in runner.watch(job_id, 20):
        if record.phase == phase:
            return record
    raise AssertionError(f"{job_id} never got to {phase}")


def test_work_goes_through_its_steps_and_keeps_no_training_waiting(tmp_path: Path) -> None:
    with working(tmp_path) as runner:
        assert runner.submit_work(order("w1")).kind == "count"
        runner.submit_work(order("w2"))
        assert until_phase(runner, "w1", "waiting").progress == 0.5
        runner.submit_training(spec("t1"))
        assert ended(runner, "t1").state is JobState.SUCCEEDED
        (tmp_path / "go").touch()
        record = ended(runner, "w1")
        assert (record.state, record.phase, record.progress) == (JobState.SUCCEEDED, "succeeded", 1.0)
        assert record.metrics == (("value", 7.0),)
        assert record.notices[0].text == "Both are done"
        assert record.model == "app.search/pump@1"
        assert runner.submit_work(order("w1")).state is JobState.SUCCEEDED
    assert effects(tmp_path)["first w1"] == effects(tmp_path)["second w1"] == 1


def test_what_is_refused(tmp_path: Path) -> None:
    with working(tmp_path) as runner:
        runner.submit_work(order("w1"))
        with pytest.raises(Conflict, match="is taken"):
            runner.submit_work(order("w1", owner="eve"))
        with pytest.raises(Conflict, match="is taken"):
            runner.submit_training(spec("w1"))
        with pytest.raises(InternalError):
            runner.submit_work(WorkOrder("w2", "juggle", "ada", "", "{}"))
        runner.cancel("w1")
        assert ended(runner, "w1").state is JobState.CANCELLED


def test_a_failing_step_fails_the_job_with_its_words(tmp_path: Path) -> None:
    with working(tmp_path) as runner:
        runner.submit_work(order("w1", '{"fail": true}'))
        record = ended(runner, "w1")
        assert record.state is JobState.FAILED
        assert record.failure is not None
        assert (record.failure.code, record.failure.fix) == ("Conflict", "Take another.")
        runner.submit_work(order("w2", "no json"))
        broken = ended(runner, "w2")
        assert broken.failure is not None
        assert broken.failure.code == "InternalError"


def test_an_orderly_stop_does_not_wait_for_work_that_waits(tmp_path: Path) -> None:
    with working(tmp_path) as runner:
        runner.submit_work(order("w1"))
        until_phase(runner, "w1", "waiting")
        began = time.monotonic()
    assert time.monotonic() - began < 10
    with working(tmp_path) as runner:
        (tmp_path / "go").touch()
        record = ended(runner, "w1")
        assert (record.state, record.attempt) == (JobState.SUCCEEDED, 2)
    assert effects(tmp_path) == {"begin w1": 2, "first w1": 1, "second w1": 1}


def test_work_survives_kill_9(tmp_path: Path) -> None:
    for kill in range(3):
        service = ServiceLike(tmp_path)
        try:
            assert service.ask("", "ready")
            if kill == 0:
                assert service.ask("work w1", "ack w1")
            until = time.monotonic() + 20
            while effects(tmp_path)["begin w1"] <= kill and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(0.3)
        finally:
            service.kill()
    (tmp_path / "go").touch()
    service = ServiceLike(tmp_path)
    try:
        assert service.ask("", "ready")
        assert service.wait_final("w1") == ("succeeded", 4)
    finally:
        service.kill()
    assert effects(tmp_path) == {"begin w1": 4, "first w1": 1, "second w1": 1}
