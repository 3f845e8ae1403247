"""Finds the service of a home, or starts it.

`kepler serve` writes ``service.json`` {pid, grpc, http} into its home. A file that a dead service left
behind is recognised by its process or its refused port.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kepler.client.address import Access, Address
from kepler.core.errors import InvalidInput, NotReady, TimedOut, Unavailable

SERVICE_FILE = "service.json"
LOG_FILE = "serve.log"
START_TIMEOUT_S = 60.0
_POLL_S = 0.05

# Kept so that a service we started isn't reported as an unwaited child while it goes on after us.
_started: list[subprocess.Popen[bytes]] = []


def say(text: str) -> None:
    """Tell the person at the terminal; stdout stays for results."""
    sys.stderr.write(f"kepler: {text}\n")


def find(home: Path) -> Address | None:
    """Address of the service that runs on ``home``, or None."""
    try:
        described = json.loads((home / SERVICE_FILE).read_text(encoding="utf-8"))
        pid, address = int(described["pid"]), Address.parse(str(described["grpc"]))
    except (OSError, ValueError, KeyError, TypeError, InvalidInput):
        return None
    return address if _alive(pid) and _answers(address) else None


def _alive(pid: int) -> bool:
    if os.name == "nt":  # signal 0 would end the process there; the port tells enough
        return True
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _answers(address: Address) -> bool:
    try:
        with socket.create_connection((address.host, address.port), timeout=2.0):
            return True
    except OSError:
        return False


def serve_command(home: Path) -> list[str]:
    """How a client starts a service of its own: any free ports, loopback only."""
    return [
        sys.executable, "-m", "kepler", "serve",
        "--home", str(home), "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0",
    ]  # fmt: skip


def find_or_start(
    access: Access,
    *,
    command: Callable[[Path], Sequence[str]] = serve_command,
    timeout_s: float = START_TIMEOUT_S,
    tell: Callable[[str], None] = say,
) -> Address:
    """The address to use: the one given, else the service of the home, started where none runs.

    Raises `Unavailable` with the last line of its log when the service ends at once, `TimedOut` when it
    isn't there after ``timeout_s``.
    """
    if access.address:
        return Address.parse(access.address)
    found = find(access.home)
    if found:
        return found
    try:
        access.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NotReady(
            f"The home {access.home} cannot be made",
            cause=error.strerror or str(error),
            fix="Set KEPLER_HOME",
        ) from error
    with _one_starter(access.home):
        return find(access.home) or _start(access.home, command(access.home), timeout_s, tell)


@contextlib.contextmanager
def _one_starter(home: Path) -> Iterator[None]:
    """Two clients that start at once get one service."""
    try:
        import fcntl
    except ImportError:  # Windows: the service's own lock on its home decides there
        yield
        return
    with (home / "start.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(home: Path, command: Sequence[str], timeout_s: float, tell: Callable[[str], None]) -> Address:
    log = home / LOG_FILE
    tell(f"starting a service on {home} (log: {log})")
    (home / SERVICE_FILE).unlink(missing_ok=True)  # whoever wrote it is dead
    environment = {name: value for name, value in os.environ.items() if name != "KEPLER_ADDRESS"}
    with log.open("ab") as sink:
        begin = sink.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            cwd=home,
            env=environment,
        )
    _started.append(process)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = find(home)
        if found:
            tell(f"service ready at {found}, pid {process.pid}; it goes on running")
            return found
        if process.poll() is not None:
            raise Unavailable(
                f"The service on {home} ended while starting (exit code {process.returncode})",
                cause=_last_line(log, begin),
                fix=f"Read {log}, or run `kepler serve --home {home}` to see it start",
            )
        time.sleep(_POLL_S)
    process.terminate()
    raise TimedOut(
        f"The service on {home} was not ready after {timeout_s:g} s",
        cause=_last_line(log, begin),
        fix=f"Read {log}, or run `kepler serve --home {home}` to see it start",
    )


def _last_line(log: Path, begin: int) -> str:
    with log.open("rb") as stream:
        stream.seek(begin)
        lines = [line.strip() for line in stream.read()[-8_000:].decode("utf-8", "replace").splitlines()]
    return next((line[:300] for line in reversed(lines) if line), "")
