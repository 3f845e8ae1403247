"""The job runner's life: drain, restart, refusal, a hook that fails, a disk that is full."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from integration.jobs_support import LIMITS, ended, running, spec
from kepler.adapters.jobs.dbos_jobs import DbosJobRunner, JobSettings
from kepler.core.errors import InvalidInput, NotReady, Overloaded, Unavailable
from kepler.core.jobs import JobRecord, JobState


def test_before_the_start_nothing_answers(tmp_path: Path) -> None:
    from fakes.jobs.once_models import OnceModels
    from kepler.adapters.jobs.process_worker import ProcessTrainWorker

    runner = DbosJobRunner(tmp_path, ProcessTrainWorker(), OnceModels(tmp_path))
    with pytest.raises(NotReady):
        runner.get("any")
    runner.drain(0)


def test_after_a_drain_jobs_go_on_where_they_were(tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    with running(tmp_path, grace_s=0) as runner:
        runner.submit_training(spec("cut", sleep_s=1.0, effects=str(effects)))
        runner.submit_training(spec("next", sleep_s=0.01))
        runner.submit_training(spec("last", sleep_s=0.01))
        for record in runner.watch("cut", 30):
            if record.phase == "fitting":
                break
        watched = runner.watch("cut", 60)
        next(watched)
    assert list(watched) == [], "who watches is let go when the service stops"
    with running(tmp_path) as runner:
        assert runner.get("cut").state is not JobState.FAILED
        record = ended(runner, "cut")
        assert (record.state, record.attempt) == (JobState.SUCCEEDED, 2)
        assert ended(runner, "next").state is JobState.SUCCEEDED
        assert ended(runner, "last").state is JobState.SUCCEEDED
    assert effects.read_text().count("end cut") == 1


def test_a_drain_lets_running_jobs_finish(tmp_path: Path) -> None:
    with running(tmp_path, grace_s=20) as runner:
        runner.submit_training(spec("slow", sleep_s=0.5))
        for record in runner.watch("slow", 30):
            if record.phase == "fitting":
                break
        drained = threading.Thread(target=lambda: runner.drain(20))
        drained.start()
        time.sleep(0.1)
        with pytest.raises((Unavailable, NotReady), match="stopping"):
            runner.submit_training(spec("late"))
        drained.join()
    with running(tmp_path) as runner:
        assert runner.get("slow").state is JobState.SUCCEEDED
        assert runner.get("slow").attempt == 1


def test_a_full_queue_refuses(tmp_path: Path) -> None:
    settings = JobSettings(max_active=1, poll_s=0.02)
    with running(tmp_path, settings=settings, grace_s=0) as runner:
        runner.submit_training(spec("only", "hang"))
        with pytest.raises(Overloaded, match="waiting"):
            runner.submit_training(spec("more"))
        runner.cancel("only")
        ended(runner, "only")


def test_a_job_that_takes_the_service_down_is_given_up(tmp_path: Path) -> None:
    with running(tmp_path, grace_s=0) as runner:
        runner.submit_training(spec("bomb", "hang"))
        for record in runner.watch("bomb", 30):
            if record.state is JobState.RUNNING:
                break
    with sqlite3.connect(tmp_path / "jobs.sqlite") as database:  # as if it had died three times
        database.execute("UPDATE kepler_jobs SET starts = 3, drains = 0")
    database.close()
    with running(tmp_path) as runner:
        record = ended(runner, "bomb")
        assert record.state is JobState.FAILED
        assert record.failure is not None
        assert "stopped 3 times while this job was running" in record.failure.message


def test_a_job_the_engine_has_forgotten_is_taken_up(tmp_path: Path) -> None:
    with running(tmp_path, grace_s=0) as runner:
        runner.submit_training(spec("forgotten", "hang"))
        for record in runner.watch("forgotten", 30):
            if record.state is JobState.RUNNING:
                break
    with sqlite3.connect(tmp_path / "jobs.sqlite") as database:
        database.execute("DELETE FROM workflow_status")
    database.close()
    spec_file = tmp_path / "jobs" / "forgotten" / "spec.json"
    spec_file.write_text(spec_file.read_text().replace("hang", "succeed"))
    with running(tmp_path) as runner:
        assert ended(runner, "forgotten").state is JobState.SUCCEEDED


def test_a_hook_that_fails_is_called_again(tmp_path: Path) -> None:
    calls: list[str] = []

    def hook(record: JobRecord) -> None:
        calls.append(record.id)
        if len(calls) == 1:
            raise RuntimeError("audit is busy")

    with running(tmp_path, on_final=hook) as runner:
        runner.submit_training(spec("told"))
        ended(runner, "told")
        until = time.monotonic() + 10
        while len(calls) < 2 and time.monotonic() < until:
            time.sleep(0.02)
    assert calls == ["told", "told"]
    with running(tmp_path, on_final=hook):
        pass
    assert len(calls) == 2


def test_a_damaged_database_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(Unavailable, match="damaged"), running(tmp_path):
        pass


def test_an_unknown_kind_of_database_is_refused(tmp_path: Path) -> None:
    for url in ("mysql://host/db", "no address"):
        with pytest.raises(InvalidInput, match="postgresql://"), running(tmp_path, url=url):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_full_disk_refuses_jobs_and_loses_none(tmp_path: Path) -> None:
    import subprocess

    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        settings = JobSettings(poll_s=0.02, sweep_s=0.2)
        with running(tmp_path, limits=replace(LIMITS, free_bytes=0), settings=settings) as runner:
            runner.submit_training(spec("before"))
            assert ended(runner, "before").state is JobState.SUCCEEDED
            ballast = tmp_path / "ballast"
            with open(ballast, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass
            with pytest.raises(Overloaded, match=r"disk"):
                runner.submit_training(spec("during"))
            assert runner.get("before").state is JobState.SUCCEEDED
            ballast.unlink()
            runner.submit_training(spec("later"))
            assert ended(runner, "later").state is JobState.SUCCEEDED
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
