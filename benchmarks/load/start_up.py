"""How soon a command answers: getinfo beside a bare interpreter, and the first byte out.

Splunk starts a command three or four times per search just to plan, so getinfo must cost little more than
the interpreter: at most 2.5 x one that imports json, re and csv. First execute to first byte out: 0.5 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.harness.data import chunks, source
from benchmarks.harness.driver import Command, drive
from benchmarks.harness.service import service
from benchmarks.harness.splunk_python import app_script, interpreter


def bare(python: str) -> float:
    started = time.perf_counter()
    subprocess.run([python, "-c", "import json, re, csv"], check=True)
    return time.perf_counter() - started


def getinfo(python: str, script: str, args: list[str], env: dict[str, str], folder: Path) -> float:
    command = Command([python, script], args, env=env)
    command.getinfo(folder)
    seconds = time.perf_counter() - command.started
    command.close()
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15)
    options = parser.parse_args()
    data = source()
    report: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name, service() as kepler:
        folder = Path(name)
        env = {"KEPLER_ADDRESS": kepler.grpc, "SPLUNK_HOME": str(folder)}
        train_args = [
            "LinearRegression",
            data.target,
            "from",
            *data.fields,
            "into",
            "bench",
            "output=summary",
        ]
        for version in ("3.9", "3.13"):
            python = interpreter(version)
            drive([python, app_script("keplertrain")], train_args, chunks(5_000, target=True), env=env,
                  dispatch_dir=folder)  # fmt: skip
            predict = app_script("keplerpredict")
            first = [
                drive([python, predict], ["bench"], chunks(2_500, index=True), env=env, dispatch_dir=folder)
                for _ in range(5)
            ]
            pairs = [
                (bare(python), getinfo(python, predict, ["bench"], env, folder))
                for _ in range(options.repeat)
            ]
            plain, asked = (statistics.median(side) for side in zip(*pairs, strict=True))
            report[version] = {
                "bare_interpreter_s": round(plain, 4),
                "getinfo_s": round(asked, 4),
                "times": round(asked / plain, 2),
                "first_reply_s": round(min(run.first_reply_s for run in first), 3),
            }
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
