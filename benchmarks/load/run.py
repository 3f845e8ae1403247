"""`make bench`: every load benchmark in one run, so that its ratios belong together."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.harness.splunk_python import ROOT

PARTS = ("start_up", "predict_path", "train_path", "train_memory", "streams", "worker_kills")


def main() -> int:
    for part in PARTS:
        print(f"\n=== benchmarks/load/{part}.py", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.load.{part}", *sys.argv[1:]], cwd=ROOT, check=False
        )
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
