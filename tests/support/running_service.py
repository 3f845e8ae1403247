"""A real `kepler serve` in a process of its own, on a temporary home, for tests."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_READY = re.compile(r"kepler ready grpc=(\S+) http=(\S+)")
START_S = 60.0
STOP_S = 60.0


class NotStarted(AssertionError):
    """The service ended or said nothing; the message holds what it wrote."""


@dataclass
class RunningService:
    """``grpc`` and ``http`` are host:port. `stop` and `kill` may be repeated."""

    grpc: str
    http: str
    home: Path
    process: subprocess.Popen[str]
    log_file: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def stop(self) -> int:
        """SIGTERM and wait: gives the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def kill(self) -> None:
        """SIGKILL and wait."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(STOP_S)


def start(
    home: Path, *flags: str, env: dict[str, str] | None = None, log_file: Path | None = None
) -> RunningService:
    """Start a service and wait for its ready line; its stderr goes to ``log_file``, else into its home."""
    home.mkdir(parents=True, exist_ok=True)
    log_file = log_file or home / "stderr.log"
    command = [sys.executable, "-m", "kepler", "serve", "--home", str(home)]
    if "--grpc" not in flags:
        command += ["--grpc", "127.0.0.1:0"]
    if "--http" not in flags:
        command += ["--http", "127.0.0.1:0"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KEPLER_")}
    with log_file.open("a") as log:
        process = subprocess.Popen(
            [*command, *flags],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**clean, "KEPLER_TRAINING__MIN_FREE_DISK_BYTES": "1048576", **(env or {})},
        )
    lines: queue.Queue[str] = queue.Queue()
    stdout = process.stdout
    assert stdout is not None

    def read() -> None:
        with stdout:
            for line in stdout:
                lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=START_S)
        except queue.Empty:
            line = ""
        found = _READY.search(line)
        if found:
            return RunningService(found[1], found[2], home, process, log_file)
        if not line:
            process.kill()
            process.wait(10)
            raise NotStarted(log_file.read_text()[-4000:])


@contextmanager
def running(
    home: Path, *flags: str, env: dict[str, str] | None = None, log_file: Path | None = None
) -> Iterator[RunningService]:
    """`start`, and SIGTERM at the end."""
    service = start(home, *flags, env=env, log_file=log_file)
    try:
        yield service
    finally:
        try:
            service.stop()
        finally:
            service.kill()
