"""Looking at process trees: this process and what it starts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kepler.adapters.jobs import process_tree

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")

NESTED = "import subprocess, sys; print(subprocess.Popen(['sleep', '30']).pid, flush=True); sys.stdin.read()"


@pytest.fixture
def tree() -> Iterator[tuple[int, int]]:
    """A process and its child, in a group of their own, with the token ``t0k3n``."""
    environment = {**os.environ, process_tree.TOKEN_VARIABLE: "t0k3n"}
    with subprocess.Popen(
        [sys.executable, "-c", NESTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        child = int(process.stdout.readline())
        yield process.pid, child
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_descendants_and_what_they_use(tree: tuple[int, int]) -> None:
    parent, child = tree
    assert process_tree.descendants(parent) == [parent, child]
    assert child in process_tree.descendants(os.getpid())
    usage = process_tree.measure([parent, child])
    assert usage.processes == 2
    assert usage.memory_bytes > 2**20
    assert usage.cpu_s >= 0


def test_shared_pages_count_once_near_the_limit(tree: tuple[int, int]) -> None:
    pids = list(tree)
    apart = process_tree.measure(pids).memory_bytes
    assert process_tree.measure(pids, memory_limit_bytes=1).memory_bytes <= apart


def test_what_has_ended_uses_nothing() -> None:
    done = subprocess.Popen(["true"])
    done.wait()
    usage = process_tree.measure([done.pid], memory_limit_bytes=1)
    assert (usage.memory_bytes, usage.cpu_s) == (0, 0.0)
    assert process_tree.measure([done.pid, done.pid], memory_limit_bytes=1).memory_bytes == 0
    assert process_tree.descendants(done.pid) == [done.pid]


def test_a_tree_is_ended_whole(tree: tuple[int, int]) -> None:
    parent, child = tree
    process_tree.kill_tree(parent, "t0k3n")
    assert ended(child)


def test_what_carries_the_token_is_ended(tree: tuple[int, int]) -> None:
    assert process_tree.kill_by_token("an other") == 0
    assert process_tree.kill_by_token("t0k3n") >= 2
    assert ended(tree[1])


def ended(pid: int) -> bool:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False
