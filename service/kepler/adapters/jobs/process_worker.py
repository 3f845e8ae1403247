"""Trainings in processes of their own, within limits.

Implements `ports.jobs.TrainWorker`. The service is never forked: a worker is a fresh interpreter in its own
process group (docs/explanations/jobs.md says how it is held).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import select
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from kepler.adapters.jobs import process_tree
from kepler.adapters.jobs.limits import WorkerLimits, over_limit
from kepler.adapters.jobs.worker_main import EXIT_DONE, EXIT_NO_RESULT
from kepler.adapters.jobs.worker_process import Spawner, WorkerProcess, default_command
from kepler.core.jobs import Failure
from kepler.core.training import TrainOutcome
from kepler.ports.jobs import OnProgress

log = structlog.get_logger(__name__)

LOG_BYTES = 1024 * 1024
LOG_TAIL_BYTES = 64 * 1024
_LOOK_S = 0.05
_LIST_S = 0.2
_DISK_S = 0.5


@dataclass(slots=True)
class _Watch:
    """What one training has used so far, looked at no more often than it is worth."""

    pid: int
    folder: Path
    limits: WorkerLimits
    deadline: float
    disk_before: int
    pids: list[int]
    listed_at: float = 0.0
    disk_at: float = 0.0

    def broken(self, now: float) -> str:
        """The limit that was passed, or nothing."""
        limits = self.limits
        if limits.time_s and now >= self.deadline:
            return "time"
        if now - self.listed_at >= _LIST_S:
            self.pids = process_tree.descendants(self.pid)
            self.listed_at = now
        usage = process_tree.measure(self.pids, limits.memory_bytes)
        if limits.processes and usage.processes > limits.processes:
            return "processes"
        if 0 < limits.memory_bytes < usage.memory_bytes:
            return "memory"
        if 0 < limits.cpu_s < usage.cpu_s:
            return "cpu"
        if now - self.disk_at >= _DISK_S:
            self.disk_at = now
            _bound_log(self.folder / "worker.log")
            if limits.scratch_bytes and folder_bytes(self.folder) - self.disk_before > limits.scratch_bytes:
                return "disk"
            if limits.free_bytes and _free_bytes(self.folder) < limits.free_bytes:
                return "disk"
        return ""


class ProcessTrainWorker:
    """Runs each training in a new process and keeps a few idle, warmed-up processes ahead.

    Parameters
    ----------
    limits
        Bounds of one training.
    command
        What is started; it must end in `worker_main.run`.
    idle_s
        A warmed-up worker that got no work for so long ends by itself.
    prewarmed
        How many `prewarm` keeps ready; 0 for none.
    """

    def __init__(
        self,
        limits: WorkerLimits | None = None,
        *,
        command: Sequence[str] | None = None,
        idle_s: float = 300.0,
        prewarmed: int = 1,
    ) -> None:
        self.limits = limits or WorkerLimits()
        self._command = tuple(command or default_command())
        self._idle_s = idle_s
        self._spawner = Spawner()
        self._lock = threading.Lock()
        self._prewarmed = prewarmed
        self._idle: list[WorkerProcess] = []
        self._closed = threading.Event()

    def prewarm(self) -> None:
        with self._lock:
            gone = [worker for worker in self._idle if worker.exited()]
            self._idle = [worker for worker in self._idle if worker not in gone]
            if not self._closed.is_set() and len(self._idle) < self._prewarmed:
                with contextlib.suppress(OSError):  # a hint: the training itself will say what is wrong
                    self._idle.append(self._spawn())
        for worker in gone:
            _discard(worker)

    def run(self, folder: Path, on_progress: OnProgress, cancelled: Callable[[], bool]) -> TrainOutcome:
        try:
            self._clear_leftovers(folder)
            if (outcome := read_outcome(folder)) is not None:
                return outcome
            return self._run(folder, on_progress, cancelled)
        except OSError as error:
            log.error("worker.failed", folder=folder.name, error=str(error))
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return TrainOutcome(failure=over_limit("disk", self.limits))
            return TrainOutcome(
                failure=Failure(
                    "Overloaded",
                    "The training's process could not be started or watched",
                    f"The operating system answered: {error.strerror or error}",
                    "Try again when the machine is less busy",
                )
            )

    def close(self) -> None:
        """End the idle worker and refuse new work; trainings that run are killed."""
        self._closed.set()
        with self._lock:
            gone, self._idle = self._idle, []
        for worker in gone:
            _discard(worker)
        self._spawner.close()

    def _run(self, folder: Path, on_progress: OnProgress, cancelled: Callable[[], bool]) -> TrainOutcome:
        worker = self._take(folder)
        try:
            cause = self._attend(worker, folder, on_progress, cancelled)
        finally:
            status = worker.end()
            early = worker.early_log()
        outcome = read_outcome(folder)
        if outcome is None:
            failure = self._failure(cause, status)
            if failure.code != "Cancelled":
                log.error("worker.died", folder=folder.name, status=status, limit=cause,
                          last_lines=early + _tail(folder / "worker.log"))  # fmt: skip
            outcome = TrainOutcome(failure=failure)
        elif outcome.failure is not None and outcome.failure.code == "InternalError":
            log.error("worker.failed", folder=folder.name, last_lines=_tail(folder / "worker.log"))
        with contextlib.suppress(OSError):
            (folder / "worker.json").unlink()
        shutil.rmtree(folder / "tmp", ignore_errors=True)
        return outcome

    def _take(self, folder: Path) -> WorkerProcess:
        while True:
            with self._lock:
                idle = self._idle.pop(0) if self._idle else None
            if idle is None:
                break
            if _order(idle, folder):
                return idle
            _discard(idle)
        worker = self._spawn()
        _order(worker, folder)
        return worker

    def _spawn(self) -> WorkerProcess:
        if self._closed.is_set():
            raise OSError(errno.ESHUTDOWN, "the service is stopping")
        return self._spawner.spawn(lambda: WorkerProcess(self._command, self.limits, self._idle_s))

    def _attend(
        self, worker: WorkerProcess, folder: Path, on_progress: OnProgress, cancelled: Callable[[], bool]
    ) -> str:
        """Until the worker ends or must be ended; gives the limit it passed, ``cancelled`` or nothing."""
        watch = _Watch(
            worker.pid, folder, self.limits, time.monotonic() + self.limits.time_s,
            disk_before=folder_bytes(folder), pids=[worker.pid],
        )  # fmt: skip
        listening = [worker.progress_fd]
        while not worker.exited():
            if cancelled() or self._closed.is_set():
                return "cancelled"
            if cause := watch.broken(time.monotonic()):
                return cause
            ready, _, _ = select.select(listening, [], [], _LOOK_S)
            if ready:
                reports = worker.progress()
                if not reports:  # it closed its end: only its exit can follow
                    listening = []
                for fraction, phase in reports[-1:]:
                    on_progress(fraction, phase)
        return ""

    def _failure(self, cause: str, status: int) -> Failure:
        if cause == "cancelled":
            return Failure("Cancelled", "The training was cancelled")
        if cause:
            return over_limit(cause, self.limits)
        if status == EXIT_NO_RESULT:
            return over_limit("disk", self.limits)
        if status == -signal.SIGXCPU:
            return over_limit("cpu", self.limits)
        if status < 0:
            name = _signal_name(-status)
            why = "Most often the machine ran out of memory" if name == "SIGKILL" else (
                "A library crashed, most often on a lack of memory or a fault of its own"
            )  # fmt: skip
            return Failure(
                "Unavailable",
                f"The training's process was ended by {name}",
                why,
                "Try again with fewer rows or other parameters",
            )
        return Failure(
            "InternalError",
            f"The training's process ended without a result (exit status {status})"
            if status != EXIT_DONE
            else "The training's process ended without a result",
            "The service's log has its last lines",
            "Try again, and report it if it happens again",
        )

    def _clear_leftovers(self, folder: Path) -> None:
        """End what an earlier service left running on this folder."""
        try:
            token = str(json.loads((folder / "worker.json").read_text("utf-8"))["token"])
        except (OSError, ValueError, KeyError, TypeError):
            token = ""
        # The token is in the environment of the worker and of all it started; a number may be reused.
        if token and (killed := process_tree.kill_by_token(token)):
            log.warning("worker.orphans_ended", folder=folder.name, processes=killed)
        with contextlib.suppress(FileNotFoundError):
            (folder / "worker.json").unlink()
        shutil.rmtree(folder / "tmp", ignore_errors=True)


def read_outcome(folder: Path) -> TrainOutcome | None:
    """The result of a finished training, or None while there is none that can be read."""
    try:
        return TrainOutcome.from_json((folder / "result.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        log.error("worker.result_unreadable", folder=folder.name)
        with contextlib.suppress(OSError):
            (folder / "result.json").unlink()
        return None


def folder_bytes(folder: Path) -> int:
    """Bytes on disk under ``folder``; links are not followed."""
    total = 0
    waiting = [str(folder)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def _free_bytes(folder: Path) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def _order(worker: WorkerProcess, folder: Path) -> bool:
    """Give ``worker`` its folder, with its token written down there before; False when it is dead."""
    try:
        note = {"pid": worker.pid, "token": worker.token, "started_at": worker.started_at}
        part = folder / f"worker.json.{secrets.token_hex(4)}"
        part.write_text(json.dumps(note), "utf-8")
        os.replace(part, folder / "worker.json")
        return worker.order(folder)
    except BaseException:
        _discard(worker)
        raise


def _bound_log(path: Path) -> None:
    """Keep the end of a log that grew too long; its writer appends, so it goes on at the new end."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > LOG_BYTES:
            tail = _tail(path, LOG_TAIL_BYTES).encode()
            os.truncate(path, 0)
            with open(path, "ab") as file:
                file.write(tail)


def _tail(path: Path, at_most: int = 4096) -> str:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - at_most))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _discard(worker: WorkerProcess) -> None:
    worker.end()
    worker.early_log()
