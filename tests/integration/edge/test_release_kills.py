"""SIGKILL at every write of the journal: the release goes on, the right model serves, every step is told."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.edge_models import Signing, draft, registered, release_document

DRIVER = Path(__file__).resolve().parents[2] / "support" / "edge_release_driver.py"
ROOT = DRIVER.parents[2]


class Bench:
    """A device with version 1, to be copied for each trial, and version 2 to install."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signing = Signing.fresh()
        self.documents = []
        self.folders = {}
        for version, kind in ((1, "linear"), (2, "gbdt")):
            name = f"r{version}"
            self.folders[name] = str(folder / name)
            registered(draft(kind), folder / name, self.signing, version=version)
            self.documents.append(release_document(folder / name, release=name, probation_s=0, shadow_s=0))
        self.base = folder / "base"
        self.base.mkdir()
        _, said = self.run(self.base, self.documents[:1])
        assert said["version"] == 1

    def run(self, home, documents, *, kill=-1, before=False, selftest=False, kill_after_s=None):
        """The driver's code and what it printed (None when it was killed)."""
        request = home / "request.json"
        request.write_text(
            json.dumps(
                {
                    "home": str(home), "folders": self.folders, "trust": self.signing.trust.to_base64(),
                    "documents": documents, "kill": kill, "before": before, "selftest": selftest,
                }
            )
        )  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, str(DRIVER), str(request)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT / "edge_agent")},
        )
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            process.kill()
        out, problems = process.communicate(timeout=120)
        if process.returncode not in (0, -signal.SIGKILL):
            raise AssertionError(problems.decode())
        return process.returncode, json.loads(out) if process.returncode == 0 else None

    def copy(self):
        home = self.folder / "trial"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self.base, home)
        return home

    def writes(self, documents):
        """Journal writes of a whole installation."""
        _, said = self.run(self.copy(), documents)
        return said["writes"]

    def check(self, home, documents, *, kills=1):
        """Start again: what must hold after any number of kills."""
        _, said = self.run(home, documents)
        assert said["started"]["version"] in (1, 2)
        assert said["version"] == 2, said["reported"]
        assert {row["id"]: row["state"] for row in said["reported"]} == {"r2": "committed"}
        told = [json.loads(line) for line in (home / "told.jsonl").read_text().splitlines()]
        by_number = {}
        for step in told:  # again after a crash, and then the same
            assert by_number.setdefault(step["n"], step) == step
        assert [by_number[n] for n in sorted(by_number)] == said["steps"]
        assert len(told) <= len(by_number) + kills
        models = home / "models" / "app.search~m"
        assert sorted(path.name for path in models.iterdir()) == ["a", "b"]
        return said


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("kills"))


def kill_everywhere(bench, points):
    documents = bench.documents[1:]
    ready = []
    for number, before in points:
        home = bench.copy()
        code, _ = bench.run(home, documents, kill=number, before=before)
        assert code == -signal.SIGKILL
        ready.append(bench.check(home, documents)["started"]["ready_s"])
    return sorted(ready)


@pytest.mark.timeout(300)
def test_kills_at_some_writes(bench):
    total = bench.writes(bench.documents[1:])
    rng = random.Random(total)
    points = [(number, before) for number in range(total) for before in (False, True)]
    kill_everywhere(bench, rng.sample(points, 8))


@pytest.mark.timeout(300)
def test_a_process_that_is_killed_twice_and_the_real_self_test(bench):
    home, documents = bench.copy(), bench.documents[1:]
    for number in (9, 3):
        code, _ = bench.run(home, documents, kill=number, selftest=True)
        assert code == -signal.SIGKILL
    bench.check(home, documents, kills=2)


@pytest.mark.full
@pytest.mark.timeout(3500)
def test_kills_at_every_write_so_that_each_state_has_50(bench):
    total = bench.writes(bench.documents[1:])
    points = [(number, before) for number in range(total) for before in (False, True)]
    ready = kill_everywhere(bench, points * 13)  # each state has a step and a telling: four points
    print(f"{len(ready)} kills; ready again p50 {ready[len(ready) // 2]:.3f} s, most {ready[-1]:.3f} s")
    assert ready[len(ready) // 2] < 2


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_kills_at_any_moment(bench):
    rng, documents = random.Random(5), bench.documents[1:]
    for _ in range(100):
        home = bench.copy()
        for _ in range(2):
            bench.run(home, documents, kill_after_s=rng.uniform(0.2, 1.5), selftest=True)
        bench.check(home, documents, kills=2)
