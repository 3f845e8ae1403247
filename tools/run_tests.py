"""Run the whole suite part by part, measure coverage, and hold it to its floors.

``make test`` runs reduced counts; ``make test-full`` runs every count in parts that can be resumed: see
full_run.py. Parts run one after another, so that the first failure names the narrowest layer that broke.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from full_run import PARTS, full_run
from steps import BIN, CHECKS, ONE_THREAD, ROOT, pytest_arguments, say

COVERAGE = ROOT / "build" / "coverage"

# Debian packages without which parts would be skipped; installed where we may.
APT = {"initdb": "postgresql", "mosquitto": "mosquitto", "libmagic": "libmagic1"}


@dataclass(frozen=True)
class Floor:
    """Least percentage of lines and branches covered under ``paths``."""

    name: str
    paths: tuple[str, ...]
    percent: float


FLOORS = (
    Floor(
        "core, ports, use cases, algorithms, SDK, app library",
        (
            "service/kepler/core/",
            "service/kepler/ports/",
            "service/kepler/usecases/",
            "service/kepler/algorithms/",
            "service/kepler/sdk",
            "splunk_app/package/bin/kepler_app/",
        ),
        95.0,
    ),
    Floor("everything", ("",), 85.0),
)


def run(name: str, command: list[str], **env: str) -> float:
    """Run one part; ends the whole run when it fails. Gives its seconds."""
    say(name)
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        say(f"{name}: FAILED after {seconds:.0f} s (exit {done.returncode})")
        raise SystemExit(done.returncode)
    return seconds


def pytest(name: str, *paths: str) -> float:
    command = [str(BIN / "coverage"), "run", *pytest_arguments(paths)]
    return run(name, command, **ONE_THREAD, COVERAGE_PROCESS_START="pyproject.toml")


def has(tool: str) -> bool:
    if tool == "initdb":
        return shutil.which("initdb") is not None or any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if tool == "libmagic":
        import ctypes.util

        return ctypes.util.find_library("magic") is not None
    return shutil.which(tool) is not None


def system_packages() -> None:
    """Install what is missing when we are root on Debian, else name it."""
    missing = [package for tool, package in APT.items() if not has(tool)]
    if not missing:
        return
    apt = shutil.which("apt-get")
    if apt and os.geteuid() == 0:
        say(f"installing {', '.join(missing)} from Debian")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        quiet = {"stdout": subprocess.DEVNULL, "check": False, "env": env}
        subprocess.run([apt, "-qq", "update"], **quiet)  # type: ignore[call-overload]
        subprocess.run([apt, "-qq", "install", "-y", "--no-install-recommends", *missing], **quiet)  # type: ignore[call-overload]
    still = [package for tool, package in APT.items() if not has(tool)]
    if still:
        say(f"not installed, their tests are skipped: {', '.join(still)} (apt-get install {' '.join(still)})")


def coverage() -> None:
    """Print coverage by floor; exits 1 when one is not reached."""
    subprocess.run([str(BIN / "coverage"), "combine", "-q"], cwd=ROOT, check=True)
    report = COVERAGE / "coverage.json"
    subprocess.run([str(BIN / "coverage"), "json", "-q", "-o", str(report)], cwd=ROOT, check=True)
    files: dict[str, dict[str, dict[str, float]]] = json.loads(report.read_text())["files"]
    failed = False
    say("coverage of lines and branches")
    for floor in FLOORS:
        found = [item["summary"] for path, item in files.items() if path.startswith(floor.paths)]
        total = sum(item["num_statements"] + item.get("num_branches", 0) for item in found)
        covered = sum(item["covered_lines"] + item.get("covered_branches", 0) for item in found)
        percent = 100.0 * covered / total if total else 0.0
        short = percent < floor.percent
        failed = failed or short
        print(f"{percent:6.2f} %  {floor.name} (floor {floor.percent:g} %){'  TOO LOW' if short else ''}")
    if failed:
        thin = sorted(files.items(), key=lambda entry: -entry[1]["summary"]["missing_lines"])[:25]
        for path, item in thin:
            print(
                f"  {item['summary']['percent_covered']:5.1f} %  {item['summary']['missing_lines']:4} missing  {path}"
            )
        raise SystemExit(1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="every count, in parts; passed ones are not repeated"
    )
    names = [part.name for part in PARTS]
    parser.add_argument(
        "--part", action="append", default=[], choices=names, help="of the full run; repeatable"
    )
    parser.add_argument("--list", action="store_true", help="the full run's parts and which have passed")
    parser.add_argument("--no-coverage", action="store_true", help="measure none in the short run")
    options = parser.parse_args()
    if options.full or options.part or options.list:
        if not options.list:
            system_packages()
        return full_run(options.part, listing=options.list)
    started = time.monotonic()
    shutil.rmtree(COVERAGE, ignore_errors=True)
    COVERAGE.mkdir(parents=True)
    system_packages()
    times = {
        "the app is built": run("the app is built", [sys.executable, "tools/build_app.py"]),
        **{name: run(name, command, **env) for name, (command, env) in CHECKS.items()},
        "unit": pytest("unit and property tests", "tests/unit", "tests/property"),
        "contract": pytest("contract tests", "tests/contract"),
        "integration": pytest("integration and end-to-end tests", "tests/integration", "tests/e2e"),
    }
    if not options.no_coverage:
        coverage()
    say(
        f"all passed in {time.monotonic() - started:.0f} s: "
        + ", ".join(f"{k} {v:.0f} s" for k, v in times.items())
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
