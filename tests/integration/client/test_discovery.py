"""The service is found by its address or its home, or started, and what goes wrong is said."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kepler.client import Access, Address, discovery
from kepler.core.errors import NotReady, TimedOut, Unavailable

SERVES = """
import json, os, socket, sys, time
listener = socket.create_server(("127.0.0.1", 0))
home = sys.argv[1]
with open(home + "/service.part", "w") as out:
    json.dump({"pid": os.getpid(), "grpc": "127.0.0.1:%d" % listener.getsockname()[1], "http": ""}, out)
os.rename(home + "/service.part", home + "/service.json")
time.sleep(30)
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def starts() -> Iterator[Callable[[str], Callable[[Path], list[str]]]]:
    """Makes a start command of a script; what it started is ended afterwards."""
    before = len(discovery._started)

    def command(script: str) -> Callable[[Path], list[str]]:
        return lambda home: [sys.executable, "-c", script, str(home)]

    yield command
    for process in discovery._started[before:]:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
    del discovery._started[before:]


def describe(home: Path, **changes: object) -> None:
    home.mkdir(exist_ok=True)
    (home / "service.json").write_text(json.dumps({"pid": os.getpid(), "http": "", **changes}))


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_an_address_is_taken_as_it_is(tmp_path: Path) -> None:
    access = Access.resolve(address="box:8790", home=tmp_path)
    assert discovery.find_or_start(access) == Address("box", 8790)


def test_a_running_service_is_found(tmp_path: Path, listener: socket.socket) -> None:
    describe(tmp_path, grpc=f"127.0.0.1:{port_of(listener)}")
    assert discovery.find_or_start(Access(tmp_path)) == Address("127.0.0.1", port_of(listener))


def test_a_file_left_behind_by_a_dead_service_is_no_service(tmp_path: Path, listener: socket.socket) -> None:
    at = f"127.0.0.1:{port_of(listener)}"
    process = __import__("subprocess").Popen([sys.executable, "-c", ""])
    process.wait()
    for changes in (
        {"grpc": at, "pid": process.pid},
        {"grpc": at, "pid": 2**40},
        {"grpc": "127.0.0.1:1"},
        {"grpc": "nonsense"},
        {"grpc": at, "pid": "x"},
        {},
    ):
        describe(tmp_path, **changes)
        assert discovery.find(tmp_path) is None
    (tmp_path / "service.json").write_text("[1]")
    assert discovery.find(tmp_path) is None
    assert discovery.find(tmp_path / "none") is None


def test_somebody_elses_process_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert discovery._alive(1)


def test_a_service_is_started_once_and_found_again(
    tmp_path: Path, starts: Callable[[str], Callable[[Path], list[str]]]
) -> None:
    said: list[str] = []
    access = Access(tmp_path / "deep" / "home")
    first = discovery.find_or_start(access, command=starts(SERVES), tell=said.append)
    again = discovery.find_or_start(access, command=starts("raise SystemExit(9)"), tell=said.append)
    assert first == again
    assert len(said) == 2
    assert "starting a service" in said[0]
    assert str(first) in said[1]


def test_a_service_that_ends_at_once_says_why(
    tmp_path: Path, starts: Callable[[str], Callable[[Path], list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "serve.log").write_text("an older line\n")
    with pytest.raises(Unavailable, match=r"exit code 8.*fastapi is not installed"):
        discovery.find_or_start(
            Access(tmp_path),
            command=starts("import sys; sys.exit(print('fastapi is not installed\\n') or 8)"),
        )
    assert "starting a service" in capsys.readouterr().err
    with pytest.raises(Unavailable) as caught:
        discovery.find_or_start(Access(tmp_path), command=starts("raise SystemExit(3)"))
    assert caught.value.cause == ""


def test_a_service_that_never_gets_ready(
    tmp_path: Path, starts: Callable[[str], Callable[[Path], list[str]]]
) -> None:
    with pytest.raises(TimedOut, match="not ready after"):
        discovery.find_or_start(
            Access(tmp_path),
            command=starts("import time; time.sleep(30)"),
            timeout_s=0.3,
            tell=lambda text: None,
        )


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotReady, match="cannot be made"):
        discovery.find_or_start(Access(tmp_path / "file" / "home"))


def test_what_is_started_is_loopback_on_free_ports(tmp_path: Path) -> None:
    command = discovery.serve_command(tmp_path)
    assert command[:3] == [sys.executable, "-m", "kepler"]
    assert command[3:] == ["serve", "--home", str(tmp_path), "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]
