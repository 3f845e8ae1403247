"""SIGKILL of the service at random points: no acknowledged job is lost and none takes effect twice.

A small process runs the job runner as the service does (`fakes.jobs.service_like`). It is killed at a
random moment, started again on the same home, and asked in the end what became of each job.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import fakes.jobs.service_like as service_like

TESTS = Path(service_like.__file__).parents[2]


class ServiceLike:
    """The process, spoken to over its pipes."""

    def __init__(self, home: Path, url: str = "", **environment: str) -> None:
        self.log = open(home / "service.log", "ab")  # noqa: SIM115 - closed in close()
        self.process = subprocess.Popen(
            [sys.executable, service_like.__file__, str(home), url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS), **environment},
        )  # fmt: skip

    def ask(self, line: str, answer: str) -> list[str]:
        """Say ``line`` and give the words of the reply that begins with ``answer``; none when it died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            if line:
                self.process.stdin.write(line + "\n")
                self.process.stdin.flush()
            for reply in self.process.stdout:
                if reply.startswith(answer):
                    return reply.split()
        except BrokenPipeError:
            pass
        return []

    def submit(self, job_id: str, **params: Any) -> bool:
        return bool(self.ask(f"submit {job_id} {json.dumps(params)}", f"ack {job_id}"))

    def state(self, job_id: str) -> tuple[str, int]:
        _, _, state, attempt = self.ask(f"state {job_id}", f"state {job_id}")
        return state, int(attempt)

    def wait_final(self, job_id: str, timeout_s: float = 60) -> tuple[str, int]:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            state, attempt = self.state(job_id)
            if state in ("succeeded", "failed", "cancelled"):
                return state, attempt
            time.sleep(0.05)
        raise AssertionError(f"job {job_id} is {state} after {timeout_s} s")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        self.process.wait(60)
        self.log.close()


@contextmanager
def service(home: Path, url: str = "", **environment: str) -> Iterator[ServiceLike]:
    started = ServiceLike(home, url, **environment)
    try:
        assert started.ask("", "ready"), (home / "service.log").read_text()
        yield started
    finally:
        started.close()


def workers_of(home: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if str(home) in process.environ().get("TMPDIR", ""):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def survives(home: Path, kills: int, url: str = "") -> None:
    chance = random.Random(kills)
    acknowledged: list[str] = []
    effects = home / "effects"
    for round_ in range(kills):
        started = ServiceLike(home, url)
        if chance.random() < 0.8:  # else it is killed while it starts
            assert started.ask("", "ready"), (home / "service.log").read_text()
            for number in range(2):
                job_id = f"job-{round_}-{number}"
                if started.submit(job_id, effects=str(effects), sleep_s=chance.uniform(0, 0.2)):
                    acknowledged.append(job_id)
        time.sleep(chance.uniform(0, 1.2))
        started.kill()
        assert not workers_of(home), "workers die with their service"
    with service(home, url) as last:
        states = {job_id: last.wait_final(job_id) for job_id in acknowledged}
    assert {state for state, _ in states.values()} == {"succeeded"}, states
    registered = Counter((home / "versions" / "effects").read_text().split())
    assert set(acknowledged) <= set(registered)
    assert set(registered.values()) == {1}, "a version is made once"
    announced = {line.split()[0] for line in (home / "announced").read_text().splitlines()}
    assert set(acknowledged) <= announced
    assert "overlap" not in effects.read_text(), "one id never trains in two processes at once"
    if not url:
        with sqlite3.connect(home / "jobs.sqlite") as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        database.close()


@pytest.mark.timeout(300)
def test_killed_at_random_points(tmp_path: Path) -> None:
    survives(tmp_path, 6)


@pytest.mark.full
@pytest.mark.timeout(3000)
def test_killed_a_hundred_times(tmp_path: Path) -> None:
    survives(tmp_path, 100)


def test_killed_while_training_it_trains_again(tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    with service(tmp_path) as first:
        assert first.submit("cut", effects=str(effects), sleep_s=2.0)
        until = time.monotonic() + 30
        while not effects.exists() and time.monotonic() < until:
            time.sleep(0.02)
        first.kill()
    assert not workers_of(tmp_path)
    with service(tmp_path) as second:
        assert second.wait_final("cut") == ("succeeded", 2)
    assert effects.read_text().count("begin cut") == 2
    assert effects.read_text().count("end cut") == 1


def test_killed_after_training_it_does_not_train_again(tmp_path: Path) -> None:
    """The result is there but the service died before it heard of it."""
    effects = tmp_path / "effects"
    with service(tmp_path) as first:
        assert first.submit("done", effects=str(effects), sleep_s=2.0)
        until = time.monotonic() + 30
        while not effects.exists() and time.monotonic() < until:
            time.sleep(0.02)
        first.kill()
    folder = tmp_path / "jobs" / "done"
    (folder / "model").mkdir()
    (folder / "model" / "manifest.json").write_text("{}")
    (folder / "result.json").write_text('{"rows_used": 5, "model_dir": "model"}')
    with service(tmp_path) as second:
        assert second.wait_final("done") == ("succeeded", 1)
    assert effects.read_text().count("begin done") == 1
    assert (tmp_path / "versions" / "effects").read_text().split() == ["done"]


def test_a_crash_loop_ends(tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    for kills in range(1, 3):
        with service(tmp_path, MAX_ATTEMPTS="2") as started:
            if kills == 1:
                assert started.submit("bomb", action="hang", effects=str(effects))
            until = time.monotonic() + 30
            while time.monotonic() < until:
                if effects.exists() and effects.read_text().count("begin") == kills:
                    break
                time.sleep(0.02)
            started.kill()
    with service(tmp_path, MAX_ATTEMPTS="2") as last:
        assert last.wait_final("bomb")[0] == "failed"
    assert effects.read_text().count("begin") == 2
