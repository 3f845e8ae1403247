"""The worker's own code, called in this process with everything that would change it taken out."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kepler.adapters.jobs import process_tree, worker_main
from kepler.adapters.jobs.limits import GIB, MIB, SETTINGS, WorkerLimits, over_limit, readable_bytes
from kepler.adapters.jobs.worker_process import clean_environment
from kepler.core.algorithms import Run
from kepler.core.errors import NotFound
from kepler.core.jobs import Failure, Notice
from kepler.core.training import TrainOutcome, TrainSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "spec.json").write_text(TrainSpec("a", "Fake", ("x",), ("x",), seed=7, threads=4).to_json())
    return tmp_path


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[dict[str, object]]]]:
    """`main` with a training; gives the exit status and the progress lines."""
    monkeypatch.setattr(worker_main, "lower_limits", lambda limits: None)
    monkeypatch.setattr(worker_main, "_settle_in", lambda folder: None)
    monkeypatch.setattr(worker_main, "_die_with_stdin", lambda: None)

    def call(
        train: worker_main.Train, order: bytes | None = None, tied: bool = True
    ) -> tuple[int, list[dict[str, object]]]:
        monkeypatch.setattr(worker_main, "tie_to_parent", lambda parent: tied)
        line = json.dumps({"folder": str(folder)}).encode() + b"\n" if order is None else order
        monkeypatch.setattr(worker_main, "_read_order", lambda idle_s: line)
        read, write = os.pipe()
        argv = ["--parent", "1", "--progress-fd", str(write), "--limits", WorkerLimits(threads=2).to_json()]
        try:
            status = worker_main.main(
                train, preload=("json", "no_such_module"), argv=[*argv, "--idle-s", "1"]
            )
        finally:
            os.close(write)
        with open(read, "rb") as pipe:
            return status, [json.loads(line) for line in pipe]

    return call


def result(folder: Path) -> TrainOutcome:
    return TrainOutcome.from_json((folder / "result.json").read_text())


def test_a_training_and_its_reports(call: Callable, folder: Path) -> None:
    def train(at: Path, run: Run) -> TrainOutcome:
        assert (at, run.seed, run.threads) == (folder, 7, 2)
        run.progress(-1, "loading")
        run.progress(0.5, "loading")  # too soon after the last
        run.progress(2.0, "fitting")
        run.notice("info", "said")
        run.notice("warn", "said twice")
        return TrainOutcome(rows_used=1, notices=(Notice("warn", "said twice"),))

    status, lines = call(train)
    assert status == worker_main.EXIT_DONE
    assert lines == [{"fraction": 0.0, "phase": "loading"}, {"fraction": 1.0, "phase": "fitting"}]
    assert result(folder).notices == (Notice("warn", "said twice"), Notice("info", "said"))
    assert not (folder / "result.json.part").exists()


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (NotFound("no field", fix="look"), Failure("NotFound", "no field", "", "look")),
        (MemoryError(), over_limit("memory", WorkerLimits())),
        (OSError(errno.ENOSPC, "full"), over_limit("disk", WorkerLimits())),
        (OSError(errno.EIO, "broken"), None),
        (ZeroDivisionError("secret"), None),
    ],
)
def test_what_a_training_raises_is_its_outcome(
    call: Callable, folder: Path, error: Exception, failure: Failure | None
) -> None:
    def train(at: Path, run: Run) -> TrainOutcome:
        raise error

    assert call(train)[0] == worker_main.EXIT_DONE
    found = result(folder).failure
    assert found is not None
    if failure is None:
        assert found.code == "InternalError"
        assert "error id" in found.cause
        assert "secret" not in str(found)
    else:
        assert found == failure


def test_a_spec_that_cannot_be_read(call: Callable, folder: Path) -> None:
    (folder / "spec.json").write_text('{"unknown_key": 1}')
    assert call(lambda at, run: TrainOutcome())[0] == worker_main.EXIT_DONE
    assert result(folder).failure is not None


@pytest.mark.parametrize(("code", "status"), [(errno.ENOSPC, worker_main.EXIT_NO_RESULT), (errno.EIO, 1)])
def test_a_result_that_cannot_be_written(
    call: Callable, monkeypatch: pytest.MonkeyPatch, code: int, status: int
) -> None:
    def refuse(folder: Path, outcome: TrainOutcome) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(worker_main, "write_result", refuse)
    assert call(lambda at, run: TrainOutcome())[0] == status


def test_no_order_and_no_parent_is_no_work(call: Callable, folder: Path) -> None:
    assert call(lambda at, run: TrainOutcome(), order=b"")[0] == worker_main.EXIT_IDLE
    assert call(lambda at, run: TrainOutcome(), tied=False)[0] == worker_main.EXIT_ORPHANED
    assert not (folder / "result.json").exists()


def test_progress_nobody_reads_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    run = worker_main.WorkerRun(1, 1, write)
    run.progress(0.5, "fitting")
    os.close(write)


def test_limits_are_lowered_and_never_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(resource, "setrlimit", lambda kind, bound: set_to.__setitem__(kind, bound))
    monkeypatch.setattr(
        resource, "getrlimit", lambda kind: (1000, 1000 if kind == resource.RLIMIT_CPU else -1)
    )
    monkeypatch.setattr(os, "nice", lambda by: by)
    monkeypatch.setattr(os, "umask", lambda mask: 0)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(Path, "write_text", lambda self, text: 0)
    worker_main.lower_limits(WorkerLimits(memory_bytes=GIB, cpu_s=5000, scratch_bytes=MIB, processes=3))
    assert set_to[resource.RLIMIT_CORE] == (0, 0)
    assert set_to[resource.RLIMIT_FSIZE] == (MIB, MIB)
    assert set_to[resource.RLIMIT_CPU] == (1000, 1000)
    assert set_to[resource.RLIMIT_DATA] == (2 * GIB, 2 * GIB)
    assert set_to[resource.RLIMIT_NPROC] == (4 * 3 + 512, 4 * 3 + 512)
    set_to.clear()
    worker_main.lower_limits(WorkerLimits(memory_bytes=0, cpu_s=0, scratch_bytes=0, processes=0))
    assert set(set_to) == {resource.RLIMIT_CORE}


@pytest.mark.parametrize("cause", sorted(SETTINGS))
def test_each_limit_has_a_sentence_with_its_setting(cause: str) -> None:
    failure = over_limit(cause, WorkerLimits())
    assert failure.cause == f"The limit for {cause} was passed"
    assert SETTINGS[cause] in failure.fix
    assert failure.code in ("Overloaded", "TimedOut")


def test_limits_travel_as_json() -> None:
    limits = replace(WorkerLimits(), memory_bytes=5, nice=3)
    assert WorkerLimits.from_json(limits.to_json()) == limits
    assert readable_bytes(1536 * MIB) == "1.5 GiB"
    assert readable_bytes(10 * MIB) == "10 MiB"


def test_the_environment_is_an_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPLER_TOKEN", "canary")
    monkeypatch.setenv("PGPASSWORD", "canary")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    environment = clean_environment(WorkerLimits(threads=3), "token")
    assert "canary" not in environment.values()
    assert environment["LC_ALL"] == "C.UTF-8"
    assert environment["OPENBLAS_CORETYPE"] == "Haswell", (
        "the last bits are those of the service's own kernels"
    )
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment[process_tree.TOKEN_VARIABLE] == "token"
