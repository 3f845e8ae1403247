"""The steps of a job over a real table, with a worker and a model store that do as told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.jobs.once_models import OnceModels
from kepler.adapters.jobs.durable import Stopped
from kepler.adapters.jobs.job_changes import JobChanges
from kepler.adapters.jobs.job_folders import JobFolders, write_text
from kepler.adapters.jobs.job_records import JobRecords, open_engine
from kepler.adapters.jobs.job_settings import JobSettings
from kepler.adapters.jobs.job_steps import TrainSteps
from kepler.core.errors import InvalidInput, NotReady, Overloaded, Unavailable
from kepler.core.jobs import Failure, JobRecord, JobState, Notice
from kepler.core.training import TrainOutcome, TrainSpec
from kepler.ports.jobs import OnProgress

GOOD = TrainOutcome(
    rows_used=3, metrics=(("r2", 0.9),), notices=(Notice("warn", "few rows"),), model_dir="model",
    predictions="predictions.arrow",
)  # fmt: skip
CANCELLED = TrainOutcome(failure=Failure("Cancelled", "The training was cancelled"))


class ScriptedWorker:
    """Runs what the test gave it in place of a process."""

    def __init__(self) -> None:
        self.outcome = GOOD
        self.meanwhile: Callable[[OnProgress, Callable[[], bool]], None] = lambda progress, cancelled: None
        self.runs = 0

    def run(self, folder: Path, on_progress: OnProgress, cancelled: Callable[[], bool]) -> TrainOutcome:
        self.runs += 1
        self.meanwhile(on_progress, cancelled)
        return CANCELLED if cancelled() else self.outcome

    def prewarm(self) -> None: ...

    def close(self) -> None: ...


class Bench:
    """The steps with all they touch, and one queued job ``a``."""

    def __init__(self, home: Path) -> None:
        self.engine = open_engine("", home / "jobs.sqlite")
        self.records = JobRecords(self.engine)
        self.records.create_table()
        self.folders = JobFolders(home / "jobs")
        self.worker = ScriptedWorker()
        self.models = OnceModels(home / "versions")
        self.changes = JobChanges()
        self.finals: list[JobRecord] = []
        self.hook_errors: list[Exception] = []
        self.now = 100.0
        self.steps = TrainSteps(
            self.records, self.folders, self.worker, self.models, self.changes, JobSettings(max_attempts=2),
            now=lambda: self.now, on_final=self.hook,
        )  # fmt: skip
        self.records.insert(JobRecord("a", "train", JobState.QUEUED, "ada", "Fake", 1.0), "me")
        self.folder = self.folders.make("a")
        spec = TrainSpec("a", "Fake", ("x",), ("x",), model="app.search/pump", owner="ada")
        write_text(self.folder / "spec.json", spec.to_json())
        for name in ("rows.arrow", "predictions.arrow", "worker.log"):
            (self.folder / name).write_text(name)
        (self.folder / "model").mkdir()
        (self.folder / "model" / "manifest.json").write_text("{}")

    def hook(self, record: JobRecord) -> None:
        if self.hook_errors:
            raise self.hook_errors.pop()
        self.finals.append(record)

    def record(self) -> JobRecord:
        row = self.records.row("a")
        assert row is not None
        return row.record

    def all(self) -> JobRecord:
        outcome = self.steps.run_worker("a")
        (self.folder / "result.json").write_text(outcome)
        self.steps.finish("a", outcome, self.steps.register("a", outcome))
        return self.record()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.engine.dispose()


def test_three_steps_make_a_version(bench: Bench) -> None:
    record = bench.all()
    assert (record.state, record.model, record.attempt) == (JobState.SUCCEEDED, "app.search/pump@1", 1)
    assert (record.started_at, record.finished_at, record.progress) == (100.0, 100.0, 1.0)
    assert (record.metrics, record.notices) == (GOOD.metrics, GOOD.notices)
    assert bench.finals == [record]
    left = {path.name for path in bench.folder.iterdir()}
    assert left == {"spec.json", "result.json", "worker.log", "predictions.arrow"}


def test_each_step_may_run_again(bench: Bench) -> None:
    record = bench.all()
    outcome = GOOD.to_json()
    assert TrainOutcome.from_json(bench.steps.run_worker("a")) == TrainOutcome()
    assert json.loads(bench.steps.register("a", outcome))["model"] == ""
    assert bench.steps.finish("a", outcome, bench.steps.register("a", outcome)) == "succeeded"
    assert bench.record() == record
    assert bench.finals == [record]
    assert bench.models.registered() == ["a"]


def test_registering_again_before_the_end_gives_the_same_version(bench: Bench) -> None:
    outcome = bench.steps.run_worker("a")
    assert bench.steps.register("a", outcome) == bench.steps.register("a", outcome)
    assert bench.models.registered() == ["a"]


def test_a_job_that_is_gone_ends_quietly(bench: Bench) -> None:
    assert TrainOutcome.from_json(bench.steps.run_worker("gone")) == TrainOutcome()
    assert bench.steps.finish("gone", GOOD.to_json(), bench.steps.register("gone", GOOD.to_json())) == ""


def test_a_training_without_model_registers_nothing(bench: Bench) -> None:
    bench.worker.outcome = replace(GOOD, model_dir="")
    assert bench.all().state is JobState.SUCCEEDED
    assert bench.models.calls == 0


def test_a_training_that_names_no_model_registers_nothing(bench: Bench) -> None:
    write_text(bench.folder / "spec.json", TrainSpec("a", "Fake", ("x",), ("x",)).to_json())
    assert bench.all().state is JobState.SUCCEEDED
    assert bench.models.calls == 0


def test_progress_only_rises_and_is_written_when_the_phase_changes(bench: Bench) -> None:
    seen: list[tuple[float, str]] = []

    def report(progress: OnProgress, cancelled: Callable[[], bool]) -> None:
        for fraction, phase in ((0.4, "loading"), (0.2, "fitting"), (0.9, "fitting")):
            progress(fraction, phase)
            seen.append((bench.record().progress, bench.record().phase))

    bench.worker.meanwhile = report
    bench.steps.run_worker("a")
    assert seen == [(pytest.approx(0.38), "loading"), (pytest.approx(0.38), "fitting"), seen[1]]


def test_a_failed_training_fails_the_job(bench: Bench) -> None:
    bench.worker.outcome = TrainOutcome(failure=Failure("InvalidInput", "no", "because", "do"))
    record = bench.all()
    assert record.state is JobState.FAILED
    assert record.failure == Failure("InvalidInput", "no", "because", "do")
    assert {path.name for path in bench.folder.iterdir()} == {"spec.json", "result.json", "worker.log"}
    assert bench.models.calls == 0


def test_cancelled_while_training(bench: Bench) -> None:
    bench.worker.meanwhile = lambda progress, cancelled: bench.steps.cancel_running("a")
    assert bench.all().state is JobState.CANCELLED


def test_cancelled_in_the_table_by_another_service(bench: Bench) -> None:
    bench.worker.meanwhile = lambda progress, cancelled: bench.records.request_cancel("a")
    assert bench.all().state is JobState.CANCELLED


def test_cancelled_before_it_began_again(bench: Bench) -> None:
    bench.records.request_cancel("a")
    assert bench.all().state is JobState.CANCELLED


def test_cancelled_between_training_and_registering(bench: Bench) -> None:
    outcome = bench.steps.run_worker("a")
    bench.records.request_cancel("a")
    bench.steps.finish("a", outcome, bench.steps.register("a", outcome))
    assert bench.record().state is JobState.CANCELLED
    assert bench.models.calls == 0


def test_stopping_leaves_the_job_and_costs_no_attempt(bench: Bench) -> None:
    bench.worker.meanwhile = lambda progress, cancelled: bench.changes.stop()
    for _ in range(5):
        with pytest.raises(Stopped):
            bench.steps.run_worker("a")
    assert bench.record().state is JobState.RUNNING
    assert not bench.steps.is_running("a")


def test_draining_begins_nothing(bench: Bench) -> None:
    bench.steps.draining.set()
    with pytest.raises(Stopped):
        bench.steps.run_worker("a")
    assert bench.worker.runs == 0


def test_an_interrupted_job_runs_again_until_it_is_given_up(bench: Bench) -> None:
    class Killed(BaseException):
        pass

    def die(progress: OnProgress, cancelled: Callable[[], bool]) -> None:
        raise Killed

    bench.worker.meanwhile = die
    for attempt in (1, 2):
        with pytest.raises(Killed):
            bench.steps.run_worker("a")
        assert bench.record().attempt == attempt
    record = bench.all()
    assert record.state is JobState.FAILED
    assert record.failure is not None
    assert "stopped 2 times" in record.failure.message
    assert bench.worker.runs == 2


def test_a_result_that_is_there_is_taken(bench: Bench) -> None:
    (bench.folder / "result.json").write_text(GOOD.to_json())
    assert bench.all().state is JobState.SUCCEEDED
    assert bench.worker.runs == 0


def test_a_store_that_is_busy_is_asked_again(bench: Bench) -> None:
    bench.models.errors = [Unavailable("busy", retry_after_s=0.001), Overloaded("full", retry_after_s=0.001)]
    assert bench.all().state is JobState.SUCCEEDED
    assert bench.models.calls == 3


def test_a_store_that_stays_busy_fails_the_job(bench: Bench) -> None:
    bench.models.errors = [Unavailable("busy", retry_after_s=0.001)] * 3
    record = bench.all()
    assert record.failure == Failure("Unavailable", "busy")
    assert bench.models.calls == 3


def test_a_store_that_is_being_prepared_is_waited_for(bench: Bench) -> None:
    bench.models.errors = [NotReady("being prepared", retry_after_s=0.001)] * 7
    assert bench.all().state is JobState.SUCCEEDED
    assert bench.models.calls == 8


def test_a_store_that_could_not_be_prepared_fails_the_job(bench: Bench) -> None:
    bench.models.errors = [NotReady("could not be prepared")]
    assert bench.all().failure == Failure("NotReady", "could not be prepared")


def test_a_job_can_be_cancelled_while_the_store_is_being_prepared(bench: Bench) -> None:
    bench.models.errors = [NotReady("being prepared", retry_after_s=0.001)] * 3
    outcome = bench.steps.run_worker("a")
    asked = bench.models.register

    def register(*parts: Any) -> Any:
        bench.records.request_cancel("a")
        return asked(*parts)

    bench.models.register = register  # type: ignore[method-assign]
    registered = bench.steps.register("a", outcome)
    assert bench.steps.finish("a", outcome, registered) == "cancelled"
    assert bench.models.calls == 1


def test_stopping_while_a_store_is_busy_leaves_the_job(bench: Bench) -> None:
    bench.models.errors = [Unavailable("busy", retry_after_s=9)]
    outcome = bench.steps.run_worker("a")
    bench.changes.stop()
    with pytest.raises(Stopped):
        bench.steps.register("a", outcome)


def test_what_the_store_refuses_fails_the_job(bench: Bench) -> None:
    bench.models.errors = [InvalidInput("no such name")]
    assert bench.all().failure == Failure("InvalidInput", "no such name")


@pytest.mark.parametrize("folder", ["/etc", "../other", "model/../../x"])
def test_a_worker_cannot_name_a_folder_elsewhere(bench: Bench, folder: str) -> None:
    bench.worker.outcome = replace(GOOD, model_dir=folder)
    failure = bench.all().failure
    assert failure is not None
    assert failure.code == "InternalError"
    assert bench.models.calls == 0


def test_what_nobody_foresaw_has_a_number(bench: Bench) -> None:
    bench.models.errors = [ZeroDivisionError("secret")]
    failure = bench.all().failure
    assert failure is not None
    assert failure.code == "InternalError"
    assert "error id" in failure.cause
    assert "secret" not in str(failure)


def test_a_hook_that_fails_is_left_for_the_sweeper(bench: Bench) -> None:
    bench.hook_errors = [RuntimeError("busy")]
    record = bench.all()
    assert record.state is JobState.SUCCEEDED
    assert bench.records.unannounced("me") == [record]
    bench.steps.settle(record)
    assert bench.finals == [record]
    assert bench.records.unannounced("me") == []
