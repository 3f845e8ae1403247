"""One worker process as its starter sees it: start, order, progress, end."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

from kepler.adapters.jobs import process_tree
from kepler.adapters.jobs.limits import WorkerLimits

# All a training may know of the service's environment. Credentials reach the service by other variables
# and never go further.
KEPT_VARIABLES = (
    "PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV",
    "SYSTEMROOT", "OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES",
    "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG",
    # Which kernels linear algebra uses decides the last bits, and where an optimizer stops that did not converge:
    # a training must compute with those that its administrator chose for the machine.
    "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "NPY_DISABLE_CPU_FEATURES",
)  # fmt: skip
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "ARROW_DEFAULT_CPU_COUNT", "LOKY_MAX_CPU_COUNT",
)  # fmt: skip
_LINE_BYTES = 64 * 1024


class Spawner:
    """A thread that starts processes and outlives them.

    Linux ties a child's death signal to the thread that started it, not to the process. A worker started
    from a pool's thread would die when the pool shrinks.
    """

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[tuple[Callable[[], WorkerProcess], Future[WorkerProcess]] | None]
        self._orders = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def spawn(self, make: Callable[[], WorkerProcess]) -> WorkerProcess:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="worker-spawner", daemon=True)
                self._thread.start()
        future: Future[WorkerProcess] = Future()
        self._orders.put((make, future))
        return future.result()

    def close(self) -> None:
        """End the thread; workers that still run die with it."""
        with self._lock:
            if self._thread is not None:
                self._orders.put(None)
                self._thread.join()
                self._thread = None

    def _serve(self) -> None:
        while (order := self._orders.get()) is not None:
            make, future = order
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)


def clean_environment(limits: WorkerLimits, token: str) -> dict[str, str]:
    """The worker's whole environment."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {
        **kept,
        **dict.fromkeys(THREAD_VARIABLES, str(max(1, limits.threads))),
        process_tree.TOKEN_VARIABLE: token,
        "HOME": "/nonexistent",  # until the job's own scratch folder is known
        "PYTHONHASHSEED": "0",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",
    }


class WorkerProcess:
    """A started worker. Used for one folder at most; `end` must be called at last."""

    def __init__(self, command: Sequence[str], limits: WorkerLimits, idle_s: float) -> None:
        self.token = secrets.token_hex(16)
        self.started_at = time.time()
        self._fd, write_fd = os.pipe()
        os.set_blocking(self._fd, False)
        self._rest = b""
        self._early_log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in end()
        try:
            # No preexec_fn: it would run Python between fork and exec, with gRPC's threads gone.
            self._process = subprocess.Popen(
                [
                    *command,
                    "--parent", str(os.getpid()), "--progress-fd", str(write_fd),
                    "--limits", limits.to_json(), "--idle-s", str(idle_s),
                ],
                stdin=subprocess.PIPE, stdout=self._early_log, stderr=self._early_log,
                pass_fds=(write_fd,), env=clean_environment(limits, self.token), cwd="/",
                start_new_session=True,
            )  # fmt: skip
        except BaseException:
            os.close(self._fd)
            self._early_log.close()
            raise
        finally:
            os.close(write_fd)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def progress_fd(self) -> int:
        return self._fd

    def order(self, folder: Path) -> bool:
        """Give it its folder; False when it is dead already."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"folder": str(folder)}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return False
        return not self.exited()

    def progress(self) -> list[tuple[float, str]]:
        """What it has reported since the last call; lines that make no sense are skipped."""
        reports: list[tuple[float, str]] = []
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._fd, _LINE_BYTES):
                *lines, self._rest = (self._rest + part).split(b"\n")
                self._rest = self._rest[:_LINE_BYTES]
                for line in lines:
                    with contextlib.suppress(ValueError, KeyError, TypeError):
                        report = json.loads(line)
                        reports.append((float(report["fraction"]), str(report["phase"])))
        return reports

    def exited(self) -> bool:
        """Whether it has ended. It is not reaped by this, so that its number stays its own until `end`."""
        if self._process.returncode is not None:
            return True
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def end(self) -> int:
        """Kill whatever is left of it and give its exit status, negative for a signal; can be repeated."""
        if self._process.returncode is None:
            process_tree.kill_tree(self.pid, self.token)
        status = self._process.wait()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        return status

    def early_log(self, at_most: int = 4096) -> str:
        """The end of what it said before it had a folder to log to; closes it."""
        if self._early_log.closed:
            return ""
        with self._early_log as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - at_most))
            return file.read().decode("utf-8", "replace")


def default_command() -> tuple[str, ...]:
    return (sys.executable, "-P", "-s", "-m", "kepler.adapters.jobs.worker_main")
