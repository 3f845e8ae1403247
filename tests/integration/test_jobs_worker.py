"""The real worker process, with a training that misbehaves on request."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from integration.jobs_support import COMMAND, LIMITS, ignore, in_folder, never
from kepler.adapters.jobs.limits import MIB, WorkerLimits
from kepler.adapters.jobs.process_worker import LOG_BYTES, ProcessTrainWorker
from kepler.core.training import TrainOutcome

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")


_before: set[int] = set()


@pytest.fixture(autouse=True)
def _others() -> None:
    """Processes of other tests in this run, such as a service of the session, are none of this file's."""
    _before.clear()
    _before.update(child.pid for child in psutil.Process().children(recursive=True))


def own_children(*, recursive: bool = False) -> list[psutil.Process]:
    """Child processes that this test started."""
    found = psutil.Process().children(recursive=recursive)
    parents = {child.pid for child in found if child.pid not in _before}
    return [child for child in found if child.pid in parents and not _below_others(child)]


def _below_others(child: psutil.Process) -> bool:
    try:
        return any(parent.pid in _before for parent in child.parents())
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def worker() -> Iterator[ProcessTrainWorker]:
    worker = ProcessTrainWorker(LIMITS, command=COMMAND)
    yield worker
    worker.close()


def run(worker: ProcessTrainWorker, folder: Path) -> TrainOutcome:
    return worker.run(folder, ignore, never)


def with_limits(limits: WorkerLimits, folder: Path) -> TrainOutcome:
    worker = ProcessTrainWorker(limits, command=COMMAND)
    try:
        return run(worker, folder)
    finally:
        worker.close()


def test_a_training_gives_its_outcome_and_cleans_up(worker: ProcessTrainWorker, tmp_path: Path) -> None:
    reports: list[tuple[float, str]] = []
    outcome = worker.run(in_folder(tmp_path, sleep_s=0.3), lambda *report: reports.append(report), never)
    assert outcome.failure is None
    assert (outcome.rows_used, outcome.model_dir) == (7, "model")
    assert [notice.text for notice in outcome.notices] == ["three rows were dropped"]
    assert {"fitting"} < {phase for _, phase in reports} <= {"loading", "fitting", "done"}
    assert [fraction for fraction, _ in reports[1:]] == sorted(fraction for fraction, _ in reports[1:])
    assert not (tmp_path / "tmp").exists()
    assert not (tmp_path / "worker.json").exists()
    assert "a line for the log" in (tmp_path / "worker.log").read_text()


def test_what_is_trained_already_is_not_trained_again(worker: ProcessTrainWorker, tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    folder = in_folder(tmp_path / "job", effects=str(effects))
    first = run(worker, folder)
    assert run(worker, folder) == first
    assert effects.read_text().count("begin") == 1


def test_a_result_that_cannot_be_read_is_made_again(worker: ProcessTrainWorker, tmp_path: Path) -> None:
    folder = in_folder(tmp_path)
    (folder / "result.json").write_text('{"rows_used": ')
    assert run(worker, folder).rows_used == 7


@linux
def test_the_worker_knows_nothing_it_should_not(
    worker: ProcessTrainWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPLER_TOKEN", "canary-token")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-aws")
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        facts_file = tmp_path / "facts.json"
        assert run(worker, in_folder(tmp_path / "job", facts=str(facts_file))).failure is None
    facts = json.loads(facts_file.read_text())
    assert "canary" not in json.dumps(facts["environment"])
    assert facts["environment"]["OMP_NUM_THREADS"] == "1"
    assert facts["environment"]["HOME"] == str(tmp_path / "job" / "tmp")
    assert facts["core"] == [0, 0]
    assert facts["nice"] == min(19, os.nice(0) + LIMITS.nice)
    assert facts["group"] == facts["pid"] != os.getpgid(0)
    assert not [name for name in facts["descriptors"] if name.startswith(str(tmp_path))]
    assert not facts["forked_from_grpc"]
    assert (facts["seed"], facts["threads"]) == (42, 1)


@pytest.mark.parametrize(
    ("action", "code", "words"),
    [
        ("kill", "Unavailable", "SIGKILL"),
        ("segfault", "Unavailable", "SIGSEGV"),
        ("exit", "InternalError", "exit status 3"),
        ("refuse", "InvalidInput", "Field 'x' is not there"),
        ("raise", "InternalError", "did not foresee"),
    ],
)
def test_each_death_is_a_clear_failure(
    worker: ProcessTrainWorker, tmp_path: Path, action: str, code: str, words: str
) -> None:
    failure = run(worker, in_folder(tmp_path, action)).failure
    assert failure is not None
    assert failure.code == code
    assert words in failure.message
    assert "secret detail" not in str(failure), "what the log is for is not for users"


@pytest.mark.parametrize(
    ("action", "limits", "cause", "code"),
    [
        ("memory", {"memory_bytes": 150 * MIB}, "memory", "Overloaded"),
        ("hang", {"time_s": 0.5}, "time", "TimedOut"),
        ("forks", {"processes": 5}, "processes", "Overloaded"),
        ("fill", {"scratch_bytes": 8 * MIB}, "disk", "Overloaded"),
        ("cpu", {"cpu_s": 1.0}, "cpu", "TimedOut"),
    ],
)
def test_each_limit_is_held_and_named(
    tmp_path: Path, action: str, limits: dict[str, float], cause: str, code: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    folder = in_folder(tmp_path, action, files=100, mib_each=1)
    failure = with_limits(replace(LIMITS, **limits), folder).failure
    assert failure is not None
    assert failure.code == code
    assert failure.cause == f"The limit for {cause} was passed"
    assert "KEPLER_WORKER__" in failure.fix
    assert not own_children(recursive=True)
    assert not (folder / "tmp").exists(), "what filled the disk is gone"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before * 1.1, "the service itself stays small"


def test_one_file_beyond_the_scratch_limit_is_refused_at_once(tmp_path: Path) -> None:
    limits = replace(LIMITS, scratch_bytes=4 * MIB)
    failure = with_limits(limits, in_folder(tmp_path, "fill", files=1, mib_each=32)).failure
    assert failure is not None
    assert failure.cause == "The limit for disk was passed"


@linux
def test_one_allocation_beyond_the_memory_limit_is_refused_at_once(tmp_path: Path) -> None:
    failure = with_limits(LIMITS, in_folder(tmp_path, "allocate", bytes=8 * 2**30)).failure
    assert failure is not None
    assert failure.cause == "The limit for memory was passed"


def test_a_nearly_full_disk_ends_a_training(tmp_path: Path) -> None:
    failure = with_limits(replace(LIMITS, free_bytes=2**60), in_folder(tmp_path, "hang")).failure
    assert failure is not None
    assert failure.cause == "The limit for disk was passed"


@linux
def test_a_fork_bomb_that_leaves_the_group_is_ended_too(tmp_path: Path) -> None:
    failure = with_limits(replace(LIMITS, processes=5), in_folder(tmp_path, "forks", leave=True)).failure
    assert failure is not None
    assert failure.cause == "The limit for processes was passed"
    mine = str(tmp_path)
    assert not [p.pid for p in psutil.process_iter() if mine in environment_of(p)]


def environment_of(process: psutil.Process) -> str:
    try:
        return str(process.environ())
    except psutil.Error:
        return ""


@linux
def test_children_left_behind_go_with_the_worker(worker: ProcessTrainWorker, tmp_path: Path) -> None:
    child_file = tmp_path / "child"
    outcome = run(worker, in_folder(tmp_path / "job", "child", child_file=str(child_file)))
    assert outcome.failure is None
    assert gone(int(child_file.read_text()))


def gone(pid: int, timeout_s: float = 5.0) -> bool:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_cancelling_ends_a_training(worker: ProcessTrainWorker, tmp_path: Path) -> None:
    asked = threading.Event()
    outcome = worker.run(in_folder(tmp_path, "hang"), lambda *_: asked.set(), asked.is_set)
    assert outcome.failure is not None
    assert outcome.failure.code == "Cancelled"
    assert not own_children(recursive=True)


def test_closing_ends_what_runs_and_refuses_more(tmp_path: Path) -> None:
    worker = ProcessTrainWorker(LIMITS, command=COMMAND)
    outcome = worker.run(in_folder(tmp_path / "a", "hang"), lambda *_: worker.close(), never)
    assert outcome.failure is not None
    again = run(worker, in_folder(tmp_path / "b"))
    assert again.failure is not None
    assert again.failure.code == "Overloaded"
    worker.prewarm()
    assert not own_children()


def test_a_command_that_cannot_be_started_is_a_failure(tmp_path: Path) -> None:
    worker = ProcessTrainWorker(LIMITS, command=("/there/is/no/such/program",))
    outcome = run(worker, in_folder(tmp_path))
    worker.close()
    assert outcome.failure is not None
    assert "could not be started" in outcome.failure.message


def test_a_prewarmed_worker_is_used_once(worker: ProcessTrainWorker, tmp_path: Path) -> None:
    worker.prewarm()
    worker.prewarm()  # one idle worker is enough
    (idle,) = own_children()
    effects = tmp_path / "effects"
    for name in "ab":
        assert run(worker, in_folder(tmp_path / name, effects=str(effects))).failure is None
    used = [int(line.split()[2]) for line in effects.read_text().splitlines() if line.startswith("begin")]
    assert used[0] == idle.pid
    assert used[1] != idle.pid


def test_a_prewarmed_worker_that_died_is_no_loss(worker: ProcessTrainWorker, tmp_path: Path) -> None:
    for name in ("used", "replaced"):
        worker.prewarm()
        (idle,) = own_children()
        os.kill(idle.pid, signal.SIGKILL)
        assert gone(idle.pid)
        if name == "replaced":
            worker.prewarm()
            assert own_children()[0].pid != idle.pid
        assert run(worker, in_folder(tmp_path / name)).failure is None


def test_an_idle_worker_ends_by_itself() -> None:
    worker = ProcessTrainWorker(LIMITS, command=COMMAND, idle_s=0.1)
    worker.prewarm()
    (idle,) = own_children()
    assert gone(idle.pid, 10.0)
    worker.close()


def test_a_talkative_worker_keeps_a_short_log(worker: ProcessTrainWorker, tmp_path: Path) -> None:
    assert run(worker, in_folder(tmp_path, "talk")).failure is None
    assert (tmp_path / "worker.log").stat().st_size < 2 * LOG_BYTES


@linux
def test_leftovers_of_a_killed_service_are_ended_first(tmp_path: Path) -> None:
    """A worker that outlived its service (it should not) is found by its token and ended."""
    import subprocess

    token = "0123456789abcdef"
    orphan = subprocess.Popen(["sleep", "60"], env={"KEPLER_WORKER_TOKEN": token}, start_new_session=True)
    folder = in_folder(tmp_path)
    (folder / "worker.json").write_text(json.dumps({"pid": 1, "token": token}))
    worker = ProcessTrainWorker(LIMITS, command=COMMAND)
    assert run(worker, folder).failure is None
    worker.close()
    assert orphan.wait(10) == -signal.SIGKILL


def test_killing_one_worker_does_not_touch_the_others(tmp_path: Path) -> None:
    """The figure asked for is 50 kills; each must fail with its cause and the neighbour must not notice."""
    kills_survived(tmp_path, 5)


@pytest.mark.full
def test_killing_workers_fifty_times(tmp_path: Path) -> None:
    kills_survived(tmp_path, 50)


def kills_survived(tmp_path: Path, times: int) -> None:
    worker = ProcessTrainWorker(LIMITS, command=COMMAND)
    neighbour: list[TrainOutcome] = []
    thread = threading.Thread(
        target=lambda: neighbour.append(run(worker, in_folder(tmp_path / "neighbour", sleep_s=times * 0.1)))
    )
    thread.start()
    for number in range(times):
        failure = run(worker, in_folder(tmp_path / str(number), "kill", sleep_s=0.02)).failure
        assert failure is not None
        assert "SIGKILL" in failure.message
    thread.join()
    worker.close()
    assert neighbour[0].failure is None
