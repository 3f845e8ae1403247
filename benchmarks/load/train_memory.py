"""Memory (PSS) of the service and of its training worker while rows stream in, as a curve.

5,000,000 rows x 10 fields: the service must stay bounded by its batches, whatever the upload; what the
worker holds is what the algorithm itself needs (one float64 matrix).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import psutil

from benchmarks.harness.data import chunks, source
from benchmarks.harness.driver import Command
from benchmarks.harness.service import service
from benchmarks.harness.splunk_python import app_script, interpreter

_BARS = 50


class Watch(threading.Thread):
    """Samples PSS of a process and of its children twice a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._end = threading.Event()
        self.samples: list[tuple[float, int, int]] = []

    def run(self) -> None:
        started = time.monotonic()
        while not self._end.wait(0.5):
            children = sum(_pss(child) for child in self._process.children(recursive=True))
            self.samples.append((time.monotonic() - started, _pss(self._process), children))

    def stop(self) -> None:
        self._end.set()
        self.join()


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--python", default="3.9")
    options = parser.parse_args()
    data = source()
    one = chunks(50_000, target=True)[0]
    with tempfile.TemporaryDirectory() as name, service() as kepler:
        folder = Path(name)
        env = {"KEPLER_ADDRESS": kepler.grpc, "SPLUNK_HOME": str(folder)}
        args = ["LinearRegression", data.target, "from", *data.fields, "into", "bench", "output=summary"]
        watch = Watch(kepler.pid)
        watch.start()
        time.sleep(3)
        at_rest = max(service for _, service, _ in watch.samples)
        command = Command([interpreter(options.python), app_script("keplertrain")], args, env=env)
        command.getinfo(folder)
        count = options.rows // one[0]
        started = time.monotonic()
        for number in range(count):
            command.send({"action": "execute", "finished": number == count - 1}, one[1])
            command.receive()
        seconds = time.monotonic() - started
        command.close()
        watch.stop()
    top = max(service for _, service, _ in watch.samples)
    print(f"{'seconds':>8} {'service':>9} {'workers':>9}  PSS in MiB")
    for at, held, workers in watch.samples[:: max(1, len(watch.samples) // 40)]:
        bar = "#" * round(_BARS * held / max(top, 1))
        print(f"{at:8.1f} {held / 2**20:9.0f} {workers / 2**20:9.0f}  {bar}")
    report = {
        "rows": options.rows,
        "seconds": round(seconds, 1),
        "service_at_rest_mib": round(at_rest / 2**20),
        "service_peak_mib": round(top / 2**20),
        "workers_peak_mib": round(max(workers for _, _, workers in watch.samples) / 2**20),
        "matrix_mib": round(options.rows * len(data.fields) * 8 / 2**20),
    }
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
