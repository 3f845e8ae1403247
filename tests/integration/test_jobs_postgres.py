"""The job runner with its records and workflows in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.postgres import fresh_database, running_postgres
from integration.jobs_support import ended, running, spec
from integration.test_jobs_crash import survives
from kepler.core.errors import Unavailable
from kepler.core.jobs import JobState


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture
def url(cluster: str, request: pytest.FixtureRequest) -> Iterator[str]:
    with fresh_database(cluster, request.node.name[:60]) as url:
        yield url


def test_jobs_live_in_postgres(url: str, tmp_path: Path) -> None:
    with running(tmp_path, url=url, grace_s=0) as runner:
        runner.submit_training(spec("good"))
        record = ended(runner, "good")
        assert (record.state, record.model) == (JobState.SUCCEEDED, "app.search/pump@1")
        runner.submit_training(spec("bad", "kill"))
        assert ended(runner, "bad").state is JobState.FAILED
        runner.submit_training(spec("stop", "hang"))
        for seen in runner.watch("stop", 30):
            if seen.state is JobState.RUNNING:
                runner.cancel("stop")
        assert runner.get("stop").state is JobState.CANCELLED
        runner.submit_training(spec("cut", sleep_s=2.0))
        for seen in runner.watch("cut", 30):
            if seen.phase == "fitting":
                break
    assert not (tmp_path / "jobs.sqlite").exists()
    with running(tmp_path, url=url) as runner:
        assert ended(runner, "cut").attempt == 2
        assert {record.id for record in runner.list()} == {"good", "bad", "stop", "cut"}


def test_two_homes_share_a_database_and_not_their_jobs(url: str, tmp_path: Path) -> None:
    """Rows lie in the home that took them, so no other service may run the job."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with running(tmp_path / "one", url=url, grace_s=0) as runner:
        runner.submit_training(spec("of-one", sleep_s=5.0))
        for seen in runner.watch("of-one", 30):
            if seen.phase == "fitting":
                break
    with running(tmp_path / "two", url=url) as runner:
        assert not runner.get("of-one").state.final, "it is seen"
        runner.submit_training(spec("of-two"))
        assert ended(runner, "of-two").state is JobState.SUCCEEDED
        assert not runner.get("of-one").state.final, "and left alone"
    with running(tmp_path / "one", url=url, grace_s=0) as runner:
        runner.cancel("of-one")
        assert ended(runner, "of-one").state is JobState.CANCELLED


@pytest.mark.timeout(300)
def test_killed_at_random_points_on_postgres(url: str, tmp_path: Path) -> None:
    survives(tmp_path, 3, url)


@pytest.mark.full
@pytest.mark.timeout(3000)
def test_killed_many_times_on_postgres(url: str, tmp_path: Path) -> None:
    survives(tmp_path, 40, url)


def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    url = f"postgresql://kepler:hunter2@/postgres?host={tmp_path}"
    with pytest.raises(Unavailable, match="does not answer") as caught, running(tmp_path, url=url):
        pass
    assert "hunter2" not in str(caught.value)
