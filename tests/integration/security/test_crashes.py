"""Several processes on one home, some of them killed: nothing acknowledged is lost, nothing breaks."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kepler.adapters.security.home import HomeSecurity

WRITER = """
import sys, time
from pathlib import Path
from kepler.adapters.security.home import HomeSecurity
class Clock:
    def now(self): return time.time()
security = HomeSecurity(Path(sys.argv[1]), "file", Clock())
for number in range(int(sys.argv[2])):
    security.audit.append(who="w", action="a", what=str(number), outcome="ok", detail={"pad": "x" * 3000})
    security.secrets.set(f"s{number % 5}", str(number))
    print(number, flush=True)
"""


class Clock:
    def now(self) -> float:
        return time.time()


def writer(home: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(home), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def security(tmp_path: Path) -> HomeSecurity:
    return HomeSecurity(tmp_path / "home", "file", Clock())


def test_killed_writers_lose_nothing_acknowledged(security: HomeSecurity) -> None:
    acknowledged = 0
    pause = random.Random(7)
    for _ in range(4):
        process = writer(security.home, 100_000)
        assert process.stdout is not None
        process.stdout.readline()  # it writes now
        time.sleep(pause.uniform(0.0, 0.15))
        process.kill()
        acknowledged += 1 + len(process.stdout.read().split())
        process.wait()
        process.stdout.close()
        # One more by this process: it repairs what the kill left behind.
        security.audit.append(who="test", action="after", what="kill", outcome="ok")
        acknowledged += 1
    assert security.audit.verify() >= acknowledged
    assert set(security.secrets.names()) >= {"s0", "kepler.audit-key"}
    for name in security.secrets.names():
        assert security.secrets.get(name)


def test_writers_side_by_side_make_one_chain(security: HomeSecurity) -> None:
    processes = [writer(security.home, 25) for _ in range(3)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert security.audit.verify() == 75
    assert [security.secrets.get(f"s{number}") for number in range(5)] == ["20", "21", "22", "23", "24"]
