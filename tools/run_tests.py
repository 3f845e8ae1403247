"""Run the whole suite part by part, measure coverage, and hold it to its floors.

``make test`` runs reduced counts; ``make test-full`` adds the tests marked ``full``. Parts run one after
another, so that the first failure names the narrowest layer that broke.
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

ROOT = Path(__file__).resolve().parent.parent
COVERAGE = ROOT / "build" / "coverage"
BIN = Path(sys.executable).parent

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


def say(text: str) -> None:
    print(f"\n=== {text}", flush=True)


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


def pytest(name: str, *paths: str, full: bool, workers: str = "2") -> float:
    present = [path for path in paths if any((ROOT / path).rglob("test_*.py"))]
    if not present:
        return 0.0
    marks = ["-m", "full or not full"] if full else []
    spread = ["-n", workers, "--dist", "loadfile"] if workers != "0" else []
    command = [str(BIN / "coverage"), "run", "-m", "pytest", *present, *spread, *marks, "-q", "--durations=5"]
    return run(
        name, command, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", COVERAGE_PROCESS_START="pyproject.toml"
    )


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
    parser.add_argument("--full", action="store_true", help="every count the issues name")
    parser.add_argument("--no-coverage", action="store_true")
    options = parser.parse_args()
    started = time.monotonic()
    shutil.rmtree(COVERAGE, ignore_errors=True)
    COVERAGE.mkdir(parents=True)
    system_packages()
    times = {
        "the app is built": run("the app is built", [sys.executable, "tools/build_app.py"]),
        "generated code": run(
            "generated code is current", [sys.executable, "tools/make_proto.py", "--check"]
        ),
        "tree": run("no address or key in the tree", [sys.executable, "tools/check_tree.py"])
        + run("links between pages hold", [sys.executable, "tools/check_links.py"]),
        "style": run("style", [str(BIN / "ruff"), "check", "--quiet", "."]),
        "imports": run("import contracts", [str(BIN / "lint-imports")], PYTHONPATH="edge_agent"),
        "types": run("types", [str(BIN / "pyright")]),
        "unit": pytest("unit and property tests", "tests/unit", "tests/property", full=options.full),
        "contract": pytest("contract tests", "tests/contract", full=options.full),
        "integration": pytest(
            "integration and end-to-end tests", "tests/integration", "tests/e2e", full=options.full
        ),
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
