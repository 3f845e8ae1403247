"""What housekeeping takes up, keeps and removes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kepler.adapters.jobs.job_folders import JobFolders
from kepler.adapters.jobs.job_records import JobRecords, JobRow, open_engine
from kepler.adapters.jobs.job_settings import DAY_S, JobSettings
from kepler.adapters.jobs.job_sweeper import JobSweeper
from kepler.core.errors import Unavailable
from kepler.core.jobs import JobRecord, JobState

NOW = 1_000 * DAY_S


class Keeper:
    """Remembers what it was asked."""

    def __init__(self, records: JobRecords) -> None:
        self.records = records
        self.settled: list[str] = []
        self.taken: list[str] = []
        self.forgotten: list[str] = []
        self.underway: set[str] = set()

    def settle(self, record: JobRecord) -> None:
        self.settled.append(record.id)
        self.records.set_announced(record.id)

    def is_underway(self, job_id: str) -> bool:
        return job_id in self.underway

    def take_up(self, row: JobRow) -> None:
        self.taken.append(row.record.id)

    def forget(self, job_id: str) -> None:
        self.forgotten.append(job_id)


class Bench:
    def __init__(self, home: Path) -> None:
        self.engine = open_engine("", home / "jobs.sqlite")
        self.records = JobRecords(self.engine)
        self.records.create_table()
        self.folders = JobFolders(home / "jobs")
        self.keeper = Keeper(self.records)

    def job(self, job_id: str, *, finished_at: float = 0.0, size: int = 0, executor: str = "me") -> None:
        record = JobRecord(job_id, "train", JobState.QUEUED, "ada", "Fake", finished_at)
        self.records.insert(record, executor)
        if finished_at:
            done = replace(record, state=JobState.SUCCEEDED, finished_at=finished_at)
            assert self.records.change(done, JobState.QUEUED)
        (self.folders.make(job_id) / "predictions.arrow").write_bytes(os.urandom(size))

    def sweep(self, **settings: float) -> None:
        self.sweeper(**settings).sweep()

    def sweeper(self, **settings: float) -> JobSweeper:
        return JobSweeper(
            self.keeper, self.records, self.folders, "me", now=lambda: NOW,
            settings=replace(JobSettings(), **settings),
        )  # fmt: skip

    def left(self) -> set[str]:
        return set(self.folders.known())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.engine.dispose()


def test_ends_nobody_heard_of_are_told_once(bench: Bench) -> None:
    bench.job("done", finished_at=NOW)
    bench.job("elsewhere", finished_at=NOW, executor="other")
    bench.sweep()
    bench.sweep()
    assert bench.keeper.settled == ["done"]


def test_a_job_nobody_works_on_is_taken_up_when_seen_twice(bench: Bench) -> None:
    bench.job("idle")
    bench.job("busy")
    bench.keeper.underway = {"busy"}
    sweeper = bench.sweeper()
    sweeper.sweep()
    assert bench.keeper.taken == []
    sweeper.sweep()
    assert bench.keeper.taken == ["idle"]


def test_results_go_after_their_time_and_records_stay(bench: Bench) -> None:
    bench.job("old", finished_at=NOW - 11)
    bench.job("new", finished_at=NOW - 9)
    bench.job("running")
    bench.sweep(results_ttl_s=10.0)
    assert bench.left() == {"new", "running"}
    assert bench.records.row("old") is not None


def test_records_go_after_their_time(bench: Bench) -> None:
    bench.job("old", finished_at=NOW - 101)
    bench.job("new", finished_at=NOW - 99)
    bench.sweep(results_ttl_s=10.0, records_ttl_s=100.0)
    assert bench.records.row("old") is None
    assert bench.records.row("new") is not None
    assert bench.keeper.forgotten == ["old"]


def test_an_upload_that_never_became_a_job_goes_after_a_day(bench: Bench) -> None:
    for name, age_s in (("abandoned", 2 * DAY_S), ("uploading", 60.0)):
        os.utime(bench.folders.make(name), (NOW - age_s, NOW - age_s))
    bench.sweep()
    assert bench.left() == {"uploading"}


def test_all_results_together_are_bounded(bench: Bench) -> None:
    for number in range(4):
        bench.job(f"job-{number}", finished_at=NOW - 100 + number, size=100_000)
    bench.job("running", size=100_000)
    bench.sweep(max_results_bytes=250_000)
    assert bench.left() == {"job-2", "job-3", "running"}


def test_the_thread_outlives_errors(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    swept = threading.Event()
    errors: list[Exception] = [Unavailable("locked"), OSError("disk")]

    def sweep(self: JobSweeper) -> None:
        if errors:
            raise errors.pop()
        swept.set()

    monkeypatch.setattr(JobSweeper, "sweep", sweep)
    sweeper = bench.sweeper(sweep_s=0.001)
    sweeper.start()
    assert swept.wait(5)
    sweeper.close()
    assert not errors


def test_closing_before_starting_is_fine(bench: Bench) -> None:
    bench.sweeper().close()
