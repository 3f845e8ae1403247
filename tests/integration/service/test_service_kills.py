"""`kill -9` of the service at random points while trainings, predictions and alias changes go on.

What was acknowledged is there afterwards, once: every job ends, with one version under its id; an alias points
where it was last said to point; every store can be read. Source of the figures:
facts/observability_security.md section 5.2, test 3.
"""

from __future__ import annotations

import itertools
import random
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from kepler.adapters.security.home import HomeSecurity
from kepler.bootstrap import SystemClock
from kepler.client import KeplerClient
from kepler.core.errors import KeplerError, NotFound, Unavailable
from kepler.core.jobs import JobState
from support.running_service import RunningService, running, start
from support.service_client import Line, connect, ended, predict_one, train, trained

LINES = {1: Line(2), 2: Line(5)}
ENV = {"KEPLER_JOBS__MAX_ATTEMPTS": "20"}  # a job may be begun in every one of the service's short lives
JOBS_A_LIFE = 2


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass
class Acknowledged:
    """What callers were told is done, over all lives of the service."""

    jobs: list[str] = field(default_factory=list)
    prod: int = 1  # the version the alias was last acknowledged to point at
    trying: int = 1  # the one it may point at, too
    predictions: int = 0
    wrong: list[str] = field(default_factory=list)


class Callers:
    """Three callers at once, until their service dies."""

    def __init__(self, service: RunningService, known: Acknowledged, number: Callable[[], int]) -> None:
        self._service = service
        self._known = known
        self._number = number
        self._threads = [threading.Thread(target=self._until_killed, args=(each,)) for each in
                         (self._train, self._predict, self._move)]  # fmt: skip
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _until_killed(self, work: Callable[[KeplerClient], None]) -> None:
        try:
            with connect(self._service) as client:
                work(client)
        except Unavailable:
            pass
        except KeplerError as error:
            self._known.wrong.append(f"{work.__name__}: {error.sentence}")

    def _train(self, client: KeplerClient) -> None:
        for _ in range(JOBS_A_LIFE):
            number = self._number()
            self._known.jobs.append(train(client, f"app:k{number % 3}", request_id=f"request-{number}"))

    def _predict(self, client: KeplerClient) -> None:
        while True:
            model, scored = predict_one(client, "app:base@prod", 7, 3)
            if not LINES[int(model[-1])].says(7, 3, scored.values):
                self._known.wrong.append(f"{model} answered {scored.values!r}")
            self._known.predictions += 1

    def _move(self, client: KeplerClient) -> None:
        for version in itertools.cycle((2, 1)):
            self._known.trying = version
            moved = client.set_alias(f"app:base@{version}", "prod")
            assert moved.version == version
            self._known.prod = version


def kills_survived(home: Path, kills: int, trainings_a_life: float) -> None:
    with running(home) as service, connect(service) as client:
        started = time.monotonic()
        trained(client, "app:base", line=LINES[1])
        # Lives in which some trainings end and some do not: each life has to start a worker first.
        longest_life_s = max(1.5, trainings_a_life * (time.monotonic() - started))
        trained(client, "app:base", line=LINES[2])
        client.set_alias("app:base@1", "prod")
    pause = random.Random(kills)
    known = Acknowledged()
    numbers = itertools.count()
    port = free_port()
    settled = 0
    for life in range(kills):
        service = start(home, "--grpc", f"127.0.0.1:{port}", env=ENV)
        try:
            if life % 5 == 4:  # else a job on a slow machine is begun twenty times, and given up for that
                settled = settle(service, known.jobs, settled)
            callers = Callers(service, known, lambda: next(numbers))
            time.sleep(pause.uniform(0.0, longest_life_s))
        finally:
            service.kill()
        callers.join()
    with running(home, "--grpc", f"127.0.0.1:{port}", env=ENV) as service, connect(service) as client:
        assert httpx.get(f"http://{service.http}/readyz").status_code == 200
        for job_id in known.jobs:
            record = ended(client, job_id)
            assert record.state is JobState.SUCCEEDED, (job_id, record.failure)
        # A job whose acknowledgement was cut off may be there too; it counts as one like the others.
        jobs = [job for job in client.jobs(limit=1000) if job.model.startswith("app.search/k")]
        assert {job.id for job in jobs} >= set(known.jobs)
        made = [version.job_id for version in versions(client)]
        assert sorted(made) == sorted(job.id for job in jobs), "one version for each job, and no other"
        assert client.model("app:base@prod").version in (known.prod, known.trying)
        for model in {job.model for job in jobs}:
            assert Line().says(11, 4, predict_one(client, model, 11, 4)[1].values)
        # Sent again, a request is the job it was: nothing is trained twice.
        assert train(client, "app:k0", request_id="request-0") == known.jobs[0]
    assert known.wrong == []
    assert len(known.jobs) >= kills // 2
    assert known.predictions > kills
    stores_are_whole(home)


def settle(service: RunningService, jobs: list[str], settled: int) -> int:
    """Wait until every job so far has ended, those before ``settled`` have; gives how many there are."""
    with connect(service) as client:
        for job_id in jobs[settled:]:
            record = ended(client, job_id)
            assert record.state is JobState.SUCCEEDED, (job_id, record.failure)
    return len(jobs)


def versions(client: KeplerClient) -> list[Any]:
    found: list[Any] = []
    for name in ("app:k0", "app:k1", "app:k2"):
        try:
            found += client.versions(name)
        except NotFound:
            continue
    return found


def stores_are_whole(home: Path) -> None:
    databases = [path for path in home.rglob("*") if path.is_file() and _is_sqlite(path)]
    assert len(databases) >= 2, databases
    for path in databases:
        db = sqlite3.connect(path)
        try:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)], path
        finally:
            db.close()
    security = HomeSecurity(home, "file", SystemClock())
    assert security.audit.verify() > 0
    security.close()


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(15) == b"SQLite format 3"


@pytest.mark.timeout(400)
def test_nothing_acknowledged_is_lost_when_the_service_is_killed(tmp_path: Path) -> None:
    kills_survived(tmp_path / "home", 6, trainings_a_life=0.5)


@pytest.mark.full
@pytest.mark.timeout(3000)
def test_nothing_acknowledged_is_lost_in_a_hundred_kills(tmp_path: Path) -> None:
    kills_survived(tmp_path / "home", 100, trainings_a_life=1.5)
