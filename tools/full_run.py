"""The whole suite with every count, in named parts: what passed once for these files is not run again.

    python tools/run_tests.py --full                 all parts that have not passed yet
    python tools/run_tests.py --full --list          the parts, and which have passed
    python tools/run_tests.py --full --part kills    one part, passed or not

A part that passed is noted under build/full-run by the commit, or by the commit and what differs from it. Output
of each part is kept there too. A part that fails does not keep the others from running.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from steps import CHECKS, ONE_THREAD, ROOT, pytest_arguments, say

STATE = ROOT / "build" / "full-run"
LIMIT_S = 3600.0
_COUNTS = re.compile(r"^=*\s*((?:\d+ \w+(?:, )?)+) in [\d.]+s")

Command = tuple[list[str], dict[str, str]]


@dataclass(frozen=True)
class Part:
    """Test files below ``paths`` but not those below ``without``, or ``commands`` of another kind."""

    name: str
    about: str
    paths: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()

    def owns(self, path: str) -> bool:
        """Whether a test file, relative to the repository, is run by this part."""
        return _below(path, self.paths) and not _below(path, self.without)

    def steps(self) -> list[Command]:
        if self.commands:
            return list(self.commands)
        ignored = [f"--ignore={path}" for path in self.without]
        arguments = [*pytest_arguments(self.paths, durations=10), "-m", "full or not full", *ignored]
        return [([sys.executable, *arguments], dict(ONE_THREAD))]


def _below(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


KILLS = (
    "tests/integration/service/test_service_kills.py",
    "tests/integration/service/test_worker_kills.py",
    "tests/integration/test_jobs_crash.py",
    "tests/integration/test_jobs_postgres.py",
    "tests/integration/test_jobs_worker.py",
)
FUZZ = (
    "tests/e2e/test_fuzz.py",
    "tests/integration/http/test_openapi_cases.py",
    "tests/integration/service/test_malformed.py",
)
APP = ("tests/integration/splunk", "tests/integration/splunk_app")
EDGE = ("tests/integration/edge", "tests/integration/hec")
MILLION: Command = (
    [sys.executable, "-m", "benchmarks.edge.hec_spool"],
    {"PYTHONPATH": os.pathsep.join(("service", "tests", "."))},
)
BUILD: Command = ([sys.executable, "tools/build_app.py"], {})

PARTS = (
    Part(
        "checks",
        "generated code, tree, links, style, import contracts, types",
        commands=tuple(CHECKS.values()),
    ),
    Part("unit", "unit and property tests", ("tests/unit", "tests/property")),
    Part("contract", "one suite per port, over every implementation", ("tests/contract",)),
    Part(
        "integration-service",
        "real service, command line, SDK",
        ("tests/integration",),
        (*APP, *KILLS, *FUZZ, *EDGE),
    ),
    Part("edge", "edge agents, broker, ledger and spool, killed at every step, 50 times each", EDGE),
    Part(
        "hec-million",
        "a million results into Splunk while receiver and sender fail: none lost, none twice",
        commands=(MILLION,),
    ),
    Part("integration-app", "the app's commands under the Pythons that Splunk ships", APP),
    Part("e2e", "searches through the splunkd stand-in", ("tests/e2e",), FUZZ),
    Part("fuzz", "10,000 chunks, gRPC payloads and HTTP cases, 2,000 garbage connections", FUZZ),
    Part("kills", "kill -9 of services and workers, 40 to 100 times each", KILLS),
    Part(
        "appinspect",
        "splunk-appinspect on the built app, all tags",
        commands=(([sys.executable, "tools/build_app.py", "--inspect"], {}),),
    ),
)


@dataclass(frozen=True)
class Passed:
    """A part that passed: how long it took and what pytest counted."""

    seconds: float
    counts: str
    at: str


def tree_key(root: Path = ROOT) -> str:
    """The commit; where files differ from it, the commit and a hash of what differs. Empty without git."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout

    try:
        commit = git("rev-parse", "--short=12", "HEAD").decode().strip()
        changed = git("diff", "HEAD", "--binary")
        untracked = git("ls-files", "--others", "--exclude-standard", "-z").decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        return ""
    digest = hashlib.sha256(changed)
    for name in filter(None, untracked):
        file = root / name
        digest.update(name.encode() + b"\0" + (file.read_bytes() if file.is_file() else b""))
    return commit if not changed and not any(untracked) else f"{commit}-{digest.hexdigest()[:12]}"


class Ledger:
    """What has passed for one state of the tree: a JSON file under build/full-run."""

    def __init__(self, key: str) -> None:
        self._file = STATE / f"{key or 'no-commit'}.json"
        self._known = bool(key)

    def passed(self) -> dict[str, Passed]:
        if not self._known or not self._file.exists():
            return {}
        return {name: Passed(**found) for name, found in json.loads(self._file.read_text()).items()}

    def note(self, part: str, passed: Passed) -> None:
        if not self._known:
            return
        all_ = {**self.passed(), part: passed}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps({name: asdict(found) for name, found in all_.items()}, indent=1))
        partial.replace(self._file)


def run_part(part: Part) -> tuple[int, Passed]:
    """Run it, showing and keeping its output; gives the exit status and what to note."""
    STATE.mkdir(parents=True, exist_ok=True)
    started, counts, code = time.monotonic(), "", 0
    with (STATE / f"{part.name}.log").open("w") as log:
        for command, env in part.steps():
            with subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **env}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            ) as process:  # fmt: skip
                assert process.stdout is not None
                for line in process.stdout:
                    sys.stdout.write(line)
                    log.write(line)
                    counts = found[1] if (found := _COUNTS.match(line)) else counts
                sys.stdout.flush()
            code = code or process.returncode
    seconds = time.monotonic() - started
    return code, Passed(round(seconds), counts or "ok", time.strftime("%Y-%m-%d %H:%M"))


def show(passed: dict[str, Passed]) -> None:
    for part in PARTS:
        done = passed.get(part.name)
        state = f"passed {done.at} in {done.seconds:.0f} s: {done.counts}" if done else "to do"
        print(f"{part.name:20} {part.about}\n{'':20} {state}")


def full_run(only: list[str], *, listing: bool) -> int:
    """Run the parts named, or all that have not passed; gives the exit status."""
    key = tree_key()
    ledger = Ledger(key)
    if listing:
        show(ledger.passed())
        return 0
    parts = [part for part in PARTS if part.name in only or (not only and part.name not in ledger.passed())]
    say(f"{len(parts)} of {len(PARTS)} parts to run for {key or 'a tree without commit'}")
    subprocess.run(BUILD[0], cwd=ROOT, check=True)
    failed: list[str] = []
    for number, part in enumerate(parts, 1):
        say(f"part {number} of {len(parts)}, {part.name}: {part.about}")
        code, passed = run_part(part)
        late = f"; over {LIMIT_S:.0f} s, split it" if passed.seconds > LIMIT_S else ""
        say(
            f"{part.name}: {'FAILED' if code else 'passed'} after {passed.seconds:.0f} s: {passed.counts}{late}"
        )
        if code:
            failed.append(part.name)
        elif tree_key() != key:
            print(f"Files changed meanwhile: {part.name} will be run again.")
        else:
            ledger.note(part.name, passed)
    say(f"full run of {key}")
    show(ledger.passed())
    if failed:
        say(f"FAILED: {', '.join(failed)}; output under {STATE.relative_to(ROOT)}")
    return 1 if failed else 0
