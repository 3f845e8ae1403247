"""What the service must not load before it is ready, for loading is nearly all of its start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

# Each takes a tenth of a second or more, or serves only those who ask for it.
LATER = (
    "alembic",
    "catboost",
    "cryptography.x509",
    "kepler.adapters.security.tls",
    "kepler.sdk",
    "lightgbm",
    "mlflow",
    "numpy.ma",
    "onnx",
    "onnxruntime",
    "pandas",
    "pyarrow.dataset",
    "requests",
    "scipy",
    "sklearn",
    "skops",
    "splunklib",
    "torch",
    "xgboost",
)

# The command itself, with its ready line looked over the shoulder; then until what it warms is there.
SCRIPT = """
import gc, json, os, signal, sys, threading, time
import kepler.service as service
from kepler.adapters.cli.main import main

seen = {}

def stop_when_warm():
    until = time.monotonic() + 60
    while "onnxruntime" not in sys.modules and time.monotonic() < until:
        time.sleep(0.05)
    seen["later"] = "onnxruntime" in sys.modules
    os.kill(os.getpid(), signal.SIGTERM)

class Watched(service.KeplerService):
    def __init__(self, settings, announce):
        def announced(line):
            seen["ready"] = sorted(sys.modules)
            seen["frozen"], seen["collects"] = gc.get_freeze_count(), gc.isenabled()
            threading.Thread(target=stop_when_warm, daemon=True).start()
        super().__init__(settings, announced)

service.KeplerService = Watched
code = main(["serve", "--home", sys.argv[1], "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"])
print(json.dumps(seen))
sys.exit(code)
"""


def test_ready_without_what_only_later_work_needs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "home")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in LATER if name in seen["ready"]] == []
    assert {"dbos", "fastapi", "grpc"} <= set(seen["ready"]), "the list is not the service's"
    assert seen["later"], "the first search would wait for ONNX Runtime"
    assert seen["frozen"] > 100_000
    assert seen["collects"]
