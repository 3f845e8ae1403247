"""Seconds of `keplertrain` end to end: 1,000,000 rows x 10 fields, LinearRegression, CPython 3.9.

`output=summary` (goal: at most 6 s) and `output=predictions` beside it, and a do-nothing command that copies
the same chunks as the reference for this machine in these minutes. A peer's shipped benchmark needs 83 s.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.harness.data import chunks, source
from benchmarks.harness.driver import drive
from benchmarks.harness.service import service
from benchmarks.harness.splunk_python import ROOT, app_script, interpreter

PEER_S = 83.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--python", default="3.9")
    options = parser.parse_args()
    data = source()
    python = interpreter(options.python)
    rows = chunks(options.rows, target=True)
    copy = [python, str(ROOT / "benchmarks/baselines/copy_chunks.py")]
    report: dict[str, object] = {"data": data.name, "rows": options.rows, "fields": len(data.fields)}
    with tempfile.TemporaryDirectory() as name, service() as kepler:
        folder = Path(name)
        env = {"KEPLER_ADDRESS": kepler.grpc, "SPLUNK_HOME": str(folder)}
        train = [python, app_script("keplertrain")]
        args = ["LinearRegression", data.target, "from", *data.fields, "into", "bench"]
        reference = min(drive(copy, [], rows, env={}, dispatch_dir=folder).execute_s for _ in range(2))
        report["copy_chunks_s"] = round(reference, 2)
        for output in ("summary", "predictions"):
            runs = [
                drive(train, [*args, f"output={output}"], rows, env=env, dispatch_dir=folder)
                for _ in range(options.repeat)
            ]
            best = min(run.execute_s + run.getinfo_s for run in runs)
            report[f"{output}_s"] = round(best, 2)
            report[f"{output}_times_copy"] = round(best / reference, 1)
        report["peer_s"] = PEER_S
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
