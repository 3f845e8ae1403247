"""The job runner over real DBOS on SQLite, with real worker processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration.jobs_support import LIMITS, ended, running, spec
from kepler.adapters.jobs.dbos_jobs import DbosJobRunner
from kepler.adapters.jobs.limits import MIB
from kepler.core.errors import Conflict, InvalidInput, NotFound
from kepler.core.jobs import JobRecord, JobState


@pytest.fixture(scope="module")
def finals() -> list[JobRecord]:
    return []


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory, finals: list[JobRecord]) -> Iterator[DbosJobRunner]:
    home = tmp_path_factory.mktemp("home")
    with running(home, limits=replace(LIMITS, memory_bytes=150 * MIB), on_final=finals.append) as runner:
        yield runner


def told(finals: list[JobRecord], record: JobRecord) -> bool:
    """Whether the hook was given the record; it is called just after everybody may see the state."""
    until = time.monotonic() + 10
    while record not in finals and time.monotonic() < until:
        time.sleep(0.01)
    return record in finals


def test_a_training_from_submission_to_version(runner: DbosJobRunner, finals: list[JobRecord]) -> None:
    (runner.folder("good") / "rows.arrow").write_bytes(b"rows")
    queued = runner.submit_training(replace(spec("good", sleep_s=0.5), rows=10))
    assert (queued.state, queued.subject, queued.rows) == (JobState.QUEUED, "Fake into app.search/pump", 10)
    seen = list(runner.watch("good", 30))
    record = seen[-1]
    assert record.state is JobState.SUCCEEDED, record
    assert record.model == "app.search/pump@1"
    assert record.metrics == (("accuracy", 0.5),)
    assert [notice.text for notice in record.notices] == ["three rows were dropped"]
    assert (record.progress, record.attempt, record.failure) == (1.0, 1, None)
    assert 0 < record.created_at <= record.started_at <= record.finished_at
    assert {"fitting", "registering"} <= {at.phase for at in seen}
    progress = [at.progress for at in seen]
    assert progress == sorted(progress)
    assert told(finals, record)
    left = {path.name for path in runner.folder("good").iterdir()}
    assert left == {"spec.json", "result.json", "worker.log", "predictions.arrow"}
    assert runner.folder("good").stat().st_mode & 0o777 == 0o700


def test_the_same_id_twice_is_one_job(runner: DbosJobRunner) -> None:
    effects = runner.folder("twice") / "result-effects"
    first = runner.submit_training(spec("twice", effects=str(effects.parent.parent / "twice-effects")))
    again: list[JobRecord] = []
    threads = [
        threading.Thread(target=lambda: again.append(runner.submit_training(spec("twice")))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {record.id for record in again} == {first.id}
    assert ended(runner, "twice").state is JobState.SUCCEEDED
    assert runner.submit_training(spec("twice")).state is JobState.SUCCEEDED
    with pytest.raises(Conflict, match="taken"):
        runner.submit_training(spec("twice", owner="mallory"))


@pytest.mark.parametrize(
    ("action", "code"), [("kill", "Unavailable"), ("memory", "Overloaded"), ("refuse", "InvalidInput")]
)
def test_a_failed_training_is_a_failed_job(runner: DbosJobRunner, action: str, code: str) -> None:
    runner.submit_training(spec(f"bad-{action}", action))
    record = ended(runner, f"bad-{action}")
    assert record.state is JobState.FAILED
    assert record.failure is not None
    assert record.failure.code == code
    assert record.model == ""
    assert runner.submit_training(spec("after", "succeed")).id == "after"
    assert ended(runner, "after").state is JobState.SUCCEEDED, "the service goes on"


def test_cancelling_a_running_job(runner: DbosJobRunner, finals: list[JobRecord]) -> None:
    runner.submit_training(spec("stop", "hang"))
    for record in runner.watch("stop", 30):
        if record.phase == "loading":
            runner.cancel("stop")
    record = runner.get("stop")
    assert record.state is JobState.CANCELLED
    assert told(finals, record)
    assert runner.cancel("stop") == record, "a second time changes nothing"


def test_cancelling_a_queued_job(runner: DbosJobRunner, finals: list[JobRecord]) -> None:
    for name in ("first", "second"):
        runner.submit_training(spec(name, "hang"))
    runner.submit_training(spec("waiting", effects=str(runner.folder("waiting") / "never")))
    record = runner.cancel("waiting")
    assert record.state is JobState.CANCELLED
    assert told(finals, record)
    for name in ("first", "second"):
        runner.cancel(name)
        assert ended(runner, name).state is JobState.CANCELLED
    runner.submit_training(spec("behind"))
    ended(runner, "behind")
    assert runner.get("waiting") == record, "its turn came and nothing happened"
    assert not (runner.folder("waiting") / "never").exists()


def test_no_more_jobs_at_once_than_allowed(runner: DbosJobRunner) -> None:
    names = [f"crowd-{number}" for number in range(4)]
    for name in names:
        runner.submit_training(spec(name, sleep_s=0.3))
    most = 0
    while any(not runner.get(name).state.final for name in names):
        most = max(most, sum(runner.get(name).state is JobState.RUNNING for name in names))
        time.sleep(0.02)
    assert most == 2


def test_listing(runner: DbosJobRunner) -> None:
    runner.submit_training(spec("mine", owner="grace"))
    ended(runner, "mine")
    assert [record.id for record in runner.list(owner="grace")] == ["mine"]
    assert runner.list(owner="nobody") == []
    everything = runner.list()
    assert [record.created_at for record in everything] == sorted(
        (r.created_at for r in everything), reverse=True
    )
    assert runner.list(limit=2) == everything[:2]
    assert runner.list(limit=2, offset=1) == everything[1:3]
    assert {record.state for record in runner.list(state=JobState.SUCCEEDED)} == {JobState.SUCCEEDED}


def test_what_is_not_there(runner: DbosJobRunner) -> None:
    with pytest.raises(NotFound, match="no-such"):
        runner.get("no-such")
    with pytest.raises(NotFound):
        runner.cancel("no-such")
    with pytest.raises(NotFound):
        next(runner.watch("no-such", 1))
    for job_id in ("", "../up", "a/b", ".hidden", "a..b", "x" * 101):
        with pytest.raises(InvalidInput):
            runner.folder(job_id)


def test_watching_ends_with_its_time(runner: DbosJobRunner) -> None:
    runner.submit_training(spec("long", "hang"))
    assert [record.state.final for record in runner.watch("long", 0.1)][-1:] == [False]
    runner.cancel("long")
    ended(runner, "long")


def test_two_services_on_one_home_are_refused(runner: DbosJobRunner, tmp_path: Path) -> None:
    home = runner.folder("x").parent.parent
    with pytest.raises(Conflict, match="Another service runs"), running(home):
        pass
    with pytest.raises(Conflict, match="this process"), running(tmp_path):
        pass
    runner.start()  # a second start of the same runner changes nothing
