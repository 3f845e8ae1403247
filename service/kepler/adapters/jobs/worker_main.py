"""The worker process: one training, then gone.

Started as ``python -m kepler.adapters.jobs.worker_main`` by `worker_process`. It puts itself under its
limits, imports what a training needs, and waits on stdin for one line with the job's folder. Progress goes
out as JSON lines on a pipe; the outcome is ``result.json`` in the folder, there in full or not at all.
When stdin closes the service is gone and so is the worker, at once.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import importlib
import json
import os
import resource
import secrets
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from kepler.adapters.jobs.limits import GIB, WorkerLimits, over_limit
from kepler.adapters.jobs.stack_log import log_stack
from kepler.core.algorithms import Run
from kepler.core.errors import KeplerError
from kepler.core.jobs import Failure, Notice
from kepler.core.training import TrainOutcome, TrainSpec

Train = Callable[[Path, Run], TrainOutcome]

EXIT_DONE = 0
EXIT_IDLE = 0
EXIT_ORPHANED = 64
EXIT_NO_RESULT = 74

# What every training imports; a prewarmed worker has paid for it before its rows are there.
PRELOAD = (
    "numpy", "pyarrow", "sklearn.pipeline", "sklearn.linear_model", "sklearn.ensemble", "onnx", "onnxruntime",
    "kepler.adapters.jobs.training_main", "kepler.adapters.jobs.warm_start",
)  # fmt: skip

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PROGRESS_INTERVAL_S = 0.05
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class WorkerRun:
    """The `Run` of one training: reports over the pipe and keeps the notices for the outcome."""

    def __init__(self, seed: int, threads: int, progress_fd: int) -> None:
        self.seed = seed
        self.threads = threads
        self.notices: list[Notice] = []
        self._fd = progress_fd
        self._lock = threading.Lock()
        self._last = (0.0, "")

    def progress(self, fraction: float, phase: str) -> None:
        now = time.monotonic()
        with self._lock:
            if phase == self._last[1] and now - self._last[0] < _PROGRESS_INTERVAL_S:
                return
            self._last = (now, phase)
            line = json.dumps({"fraction": min(max(float(fraction), 0.0), 1.0), "phase": phase[:200]}) + "\n"
            with contextlib.suppress(OSError):  # nobody listens: the training matters more
                os.write(self._fd, line.encode())

    def notice(self, level: str, text: str) -> None:
        with self._lock:
            self.notices.append(Notice(level, text))


def main(
    train: Train | None = None, *, preload: Sequence[str] = PRELOAD, argv: Sequence[str] | None = None
) -> int:
    """Wait for a folder, train in it with ``train``, write the result; gives the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--progress-fd", type=int, required=True)
    parser.add_argument("--limits", type=WorkerLimits.from_json, required=True)
    parser.add_argument("--idle-s", type=float, required=True)
    options = parser.parse_args(argv)
    if not tie_to_parent(options.parent):
        return EXIT_ORPHANED
    os.set_inheritable(options.progress_fd, False)
    lower_limits(options.limits)
    for name in preload:
        with contextlib.suppress(ImportError):  # the training itself says what it misses
            importlib.import_module(name)
    line = _read_order(options.idle_s)
    if not line:
        return EXIT_IDLE
    threading.Thread(target=_die_with_stdin, name="stdin", daemon=True).start()
    order = json.loads(line)
    folder = Path(order["folder"])
    _settle_in(folder)
    outcome = _train(train, folder, options.limits, options.progress_fd)
    try:
        write_result(folder, outcome)
    except OSError as error:
        log_stack(error)
        return EXIT_NO_RESULT if error.errno in _FULL else 1
    return EXIT_DONE


def _train(train: Train | None, folder: Path, limits: WorkerLimits, progress_fd: int) -> TrainOutcome:
    try:
        spec = TrainSpec.from_json((folder / "spec.json").read_text("utf-8"))
        run = WorkerRun(spec.seed, max(1, min(spec.threads or 1, limits.threads)), progress_fd)
        outcome = (train or _real_training())(folder, run)
        known = set(outcome.notices)
        return replace(
            outcome, notices=(*outcome.notices, *(note for note in run.notices if note not in known))
        )
    except KeplerError as error:
        return TrainOutcome(failure=Failure.of(error))
    except MemoryError as error:
        log_stack(error)
        return TrainOutcome(failure=over_limit("memory", limits))
    except OSError as error:
        log_stack(error)
        full = error.errno in _FULL
        return TrainOutcome(failure=over_limit("disk", limits) if full else _unexpected())
    except Exception as error:
        log_stack(error)
        return TrainOutcome(failure=_unexpected())


def _real_training() -> Train:
    from kepler.adapters.jobs.training_main import train_in_folder

    return train_in_folder


def _unexpected() -> Failure:
    # The stack is in the worker's log; users get a number to quote.
    number = secrets.token_hex(6)
    sys.stderr.write(f"error id {number}\n")
    return Failure(
        "InternalError",
        "The training failed for a reason Kepler did not foresee",
        f"The service's log has the details under error id {number}",
        "Try other parameters or an other algorithm, and report the error id",
    )


def tie_to_parent(parent: int) -> bool:
    """Die when the thread that started this process dies; False when it is gone already."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    return os.getppid() == parent


def lower_limits(limits: WorkerLimits) -> None:
    """Hard bounds that hold between two looks of the service, and manners: the others go first."""
    os.umask(0o077)
    _lower(resource.RLIMIT_CORE, 0)
    if limits.scratch_bytes:
        _lower(resource.RLIMIT_FSIZE, limits.scratch_bytes)
    if limits.cpu_s:
        _lower(resource.RLIMIT_CPU, int(limits.cpu_s) + 5)
    if limits.memory_bytes and sys.platform == "linux":
        # Private writable memory, not address space: libraries reserve far more of that than they touch.
        _lower(resource.RLIMIT_DATA, max(2 * limits.memory_bytes, limits.memory_bytes + GIB))
    if limits.processes and sys.platform == "linux" and os.geteuid() != 0:
        # The bound counts every thread of the user, the service's too, hence the room. It stops a fork
        # bomb before the service's next look; the number in the settings is the service's to enforce.
        _lower(resource.RLIMIT_NPROC, _threads_of_user() + 4 * limits.processes + 512)
    with contextlib.suppress(OSError):
        os.nice(limits.nice)
    with contextlib.suppress(OSError):  # should memory run out, the kernel takes the worker first
        Path("/proc/self/oom_score_adj").write_text("500")


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(kind, (bound, bound))


def _threads_of_user() -> int:
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == os.geteuid():
                    count += len(os.listdir(f"/proc/{name}/task"))
    return count


def _read_order(idle_s: float) -> bytes:
    """One line from stdin, or nothing when none came within ``idle_s``."""
    line = b""
    until = time.monotonic() + idle_s
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([0], [], [], max(0.0, until - time.monotonic()))
        part = os.read(0, 65536) if ready else b""
        if not part:
            return b""
        line += part
    return line


def _die_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


def _settle_in(folder: Path) -> None:
    scratch = folder / "tmp"
    scratch.mkdir(mode=0o700, exist_ok=True)
    os.environ["TMPDIR"] = os.environ["HOME"] = str(scratch)
    os.chdir(scratch)
    log = os.open(folder / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def write_result(folder: Path, outcome: TrainOutcome) -> None:
    """``result.json``, on disk in full before it has that name."""
    part = folder / "result.json.part"
    with open(part, "w", encoding="utf-8") as file:
        file.write(outcome.to_json())
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, folder / "result.json")
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def run(train: Train | None = None, *, preload: Sequence[str] = PRELOAD) -> None:
    """`main`, then out without the interpreter's farewell: libraries' exit handlers may hang."""
    try:
        status = main(train, preload=preload)
    except BaseException as error:
        log_stack(error)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
