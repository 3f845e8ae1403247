"""Workers killed in mid-train, and trainings that pass their limits, inside a real service.

Every job ends with its cause, the service stays as it was, and predictions go on meanwhile without an error.
Source of the figures: issue 2, tests 4 and 5.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from kepler.client import KeplerClient
from kepler.client.records import TrainOrder
from kepler.core.errors import KeplerError
from kepler.core.jobs import JobRecord, JobState
from support.running_service import RunningService, running
from support.service_client import Line, connect, ended, predict_one, rss_bytes, train, trained


@contextmanager
def predictions_go_on(service: RunningService, model: str) -> Iterator[list[str]]:
    """Predict all the while in a thread of its own; at the end there is no error and no wrong answer."""
    stop = threading.Event()
    wrong: list[str] = []
    answered: list[str] = []

    def predict() -> None:
        with connect(service) as client:
            while not stop.is_set():
                try:
                    full_name, scored = predict_one(client, model, 9, 4)
                except KeplerError as error:
                    wrong.append(error.sentence)
                    return
                (answered if Line().says(9, 4, scored.values) else wrong).append(full_name)
                time.sleep(0.01)

    thread = threading.Thread(target=predict)
    thread.start()
    try:
        yield answered
    finally:
        stop.set()
        thread.join(60)
    assert wrong == []
    assert answered


def noise(rows: int, fields: int, classes: int = 0) -> tuple[tuple[str, ...], list[bytes]]:
    """Header and slices of numbers that nothing can be learned from; ``classes`` for a target of labels."""
    random_numbers = np.random.default_rng(7)
    columns = (*(f"x{number}" for number in range(fields)), "y")
    slices: list[bytes] = []
    for start in range(0, rows, 5000):
        size = min(5000, rows - start)
        values = random_numbers.random((size, fields)).round(3)
        target = random_numbers.integers(0, classes, size) if classes else values[:, 0]
        lines = (
            ",".join(map(repr, row)) + f",{'c' if classes else ''}{answer}"
            for row, answer in zip(values.tolist(), target.tolist(), strict=True)
        )
        slices.append(("\n".join(lines) + "\n").encode())
    return columns, slices


def long_training(client: KeplerClient) -> str:
    """A forest that nobody waits for."""
    columns, slices = noise(4000, 5)
    return client.train(
        TrainOrder("RandomForestRegressor", columns, target="y", into="app:forest", output="none",
                   params={"n_estimators": "5000"}),
        slices,
    ).job_id  # fmt: skip


def worker_of(service: RunningService, job_id: str) -> int:
    """The number of the process that trains ``job_id``, as soon as there is one."""
    note = service.home / "jobs" / job_id / "worker.json"
    for _ in range(3000):
        try:
            return int(json.loads(note.read_text())["pid"])
        except (FileNotFoundError, ValueError):
            time.sleep(0.02)
    raise AssertionError("no worker took the job up")


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(5, id="reduced"),
        pytest.param(50, id="full", marks=[pytest.mark.full, pytest.mark.timeout(1500)]),
    ],
)
def test_a_killed_worker_fails_its_job_and_touches_nothing_else(service: RunningService, kills: int) -> None:
    pause = random.Random(kills)
    with connect(service) as client:
        trained(client, "app:beside")
        with predictions_go_on(service, "app:beside"):
            for _ in range(kills):
                job_id = long_training(client)
                worker = worker_of(service, job_id)
                time.sleep(pause.uniform(0.0, 1.5))
                os.kill(worker, signal.SIGKILL)
                record = ended(client, job_id)
                assert record.state is JobState.FAILED
                assert record.failure is not None
                assert record.failure.code == "Unavailable"
                assert "SIGKILL" in record.failure.message
                assert record.failure.fix
        assert trained(client, "app:beside").startswith("app.search/beside@"), "the next training works"
    assert service.process.poll() is None


@pytest.fixture(scope="module")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a model to predict with, for services whose limits let nobody train."""
    home = tmp_path_factory.mktemp("limits")
    with running(home) as service, connect(service) as client:
        trained(client, "app:beside")
    return home


def contained(home: Path, env: dict[str, str], order: TrainOrder, slices: list[bytes]) -> JobRecord:
    """Run one training that passes a limit; gives its record after checking that the service is as before."""
    with running(home, env=env) as service, connect(service) as client:
        predict_one(client, "app:beside", 1, 1)
        with predictions_go_on(service, "app:beside"):
            ticket = client.train(order, slices)
            before = rss_bytes(service.pid)
            record = ended(client, ticket.job_id)
            after = rss_bytes(service.pid)
        assert after <= before * 1.1
        assert psutil.pid_exists(service.pid)
        folder = str(service.home / "jobs" / ticket.job_id)
        assert not [name for name in left_behind(service.pid) if folder in name]
        assert not (service.home / "jobs" / ticket.job_id / "tmp").exists()
        assert record.state is JobState.FAILED
        assert service.stop() == 0
    return record


def left_behind(service_pid: int) -> list[str]:
    """Where the service's descendants are at work: a worker sits in its job's folder."""
    found: list[str] = []
    for child in psutil.Process(service_pid).children(recursive=True):
        try:
            found.append(child.cwd())
        except psutil.Error:
            continue
    return found


def cause_of(record: JobRecord) -> tuple[str, str]:
    assert record.failure is not None
    return record.failure.code, record.failure.cause


def test_a_training_beyond_its_memory_is_ended(trained_home: Path) -> None:
    # Text of 60 distinct values a field, one column of 100,000 numbers for each: 1,500 columns, 1.2 GB.
    codes = np.random.default_rng(7).integers(0, 60, (100_000, 25)).tolist()
    lines = [",".join(f"t{code}" for code in row) + f",{row[0]}\n" for row in codes]
    texts = ["".join(lines[start : start + 5000]).encode() for start in range(0, len(lines), 5000)]
    columns = (*(f"x{number}" for number in range(25)), "y")
    order = TrainOrder("LinearRegression", columns, target="y", output="none", categoricals="onehot")
    record = contained(trained_home, {"KEPLER_WORKER__MEMORY_MB": "700"}, order, texts)
    assert cause_of(record) == ("Overloaded", "The limit for memory was passed")
    assert record.failure is not None
    assert "KEPLER_WORKER__MEMORY_MB" in record.failure.fix


@pytest.mark.parametrize(("setting", "cause"), [("TIME_S", "time"), ("CPU_S", "cpu")])
def test_a_training_that_computes_for_ever_is_ended(trained_home: Path, setting: str, cause: str) -> None:
    columns, slices = noise(4000, 5)
    order = TrainOrder(
        "RandomForestRegressor", columns, target="y", output="none", params={"n_estimators": "5000"}
    )
    record = contained(trained_home, {f"KEPLER_WORKER__{setting}": "4"}, order, slices)
    assert cause_of(record) == ("TimedOut", f"The limit for {cause} was passed")


def test_a_training_that_starts_too_many_processes_is_ended(trained_home: Path) -> None:
    columns, slices = noise(4000, 5)
    order = TrainOrder(
        "sklearn.ensemble.BaggingRegressor", columns, target="y", output="none", params={"n_estimators": "64"}
    )
    env = {"KEPLER_WORKER__PROCESSES": "4", "KEPLER_WORKER__THREADS": "8"}
    record = contained(trained_home, env, order, slices)
    assert cause_of(record) == ("Overloaded", "The limit for processes was passed")


def test_a_training_that_fills_its_folder_is_ended(trained_home: Path) -> None:
    columns, slices = noise(20_000, 3, classes=60)
    order = TrainOrder(
        "GaussianNB", columns, target="y", into="app:wide", output="predictions", probabilities=True
    )
    record = contained(trained_home, {"KEPLER_WORKER__SCRATCH_MB": "16"}, order, slices)
    assert cause_of(record) == ("Overloaded", "The limit for disk was passed")


def test_trainings_and_predictions_side_by_side_are_the_same_as_one_by_one(service: RunningService) -> None:
    """Two trainings and ten predictions at once, each with the answers of its own model."""
    lines = (Line(2), Line(7))
    with connect(service) as client:
        for number, line in enumerate(lines):
            trained(client, f"app:side{number}", line=line)
        results: list[bool] = []

        def predict(number: int) -> None:
            with connect(service) as own:
                for a in range(5):
                    scored = predict_one(own, f"app:side{number % 2}@1", a, number)[1]
                    results.append(lines[number % 2].says(a, number, scored.values))

        threads = [threading.Thread(target=predict, args=(number,)) for number in range(10)]
        jobs = [train(client, f"app:side{number}", line=line) for number, line in enumerate(lines)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        records = [ended(client, job) for job in jobs]
        assert [record.state for record in records] == [JobState.SUCCEEDED] * 2
        assert results == [True] * 50
        for record, line in zip(records, lines, strict=True):
            assert record.model.endswith("@2")
            assert line.says(3, 2, predict_one(client, record.model, 3, 2)[1].values)
