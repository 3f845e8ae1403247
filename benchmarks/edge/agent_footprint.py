"""What an agent with three models takes: memory, time until ready, time of one score beside a bare ONNX Runtime.

Three models with 32 fields (100 trees, MLP 64-32, linear) are trained, written and signed by the service's own code
and installed by the agent's own state machine. Then the real agent starts with a broker that is away, reads a file and
scores it; its PSS is read while it does. One row is timed in a process of its own, features included, beside
``InferenceSession.run`` on a prepared row. Bounds: 100 MB PSS, ready within 1 s, p99 of one row within 1 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "edge_agent"), str(ROOT / "service")]

FIELDS = tuple(f"f{at}" for at in range(32))
KINDS = {
    "trees": ("HistGradientBoostingClassifier", {"max_iter": 100}),
    "mlp": ("MLPClassifier", {"hidden_layer_sizes": [64, 32]}),
    "linear": ("LogisticRegression", {}),
}


def rows(n: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(n, len(FIELDS))), 4)
    label = np.where(x[:, 0] + x[:, 1] * x[:, 2] + 0.3 * rng.normal(size=n) > 0, "bad", "good")
    return [
        {**dict(zip(FIELDS, map(float, row), strict=True)), "label": str(y)}
        for row, y in zip(x, label, strict=True)
    ]


def install(folder: Path) -> dict[str, Path]:
    """A device's home with the three models committed; gives the signed folders by kind."""
    from kepler_edge.keys import DeviceKey
    from support.edge_models import Signing, registered, release_document, train
    from support.edge_releases import Device

    signing = Signing.fresh()
    device = Device(folder, signing)
    documents, folders = [], {}
    for kind, (algorithm, params) in KINDS.items():
        draft = train(algorithm, "label", fields=FIELDS, rows=rows(2_000, 1), params=params)
        folders[kind] = folder / "service" / kind
        registered(draft, folders[kind], signing, name=f"app.search/{kind}")
        device.fetch.folders[kind] = folders[kind]
        documents.append(release_document(folders[kind], release=kind, thresholds={"bad": 0.9}))
    device.releases.desired(documents)
    device.run(score=False)
    states = {row["id"]: (row["state"], row["reason"]) for row in device.releases.reported()}
    assert all(state == "committed" for state, _ in states.values()), states
    device.releases.close()
    home = folder / "device"
    DeviceKey.load_or_create(home / "device.key")
    (home / "trust.json").write_text(json.dumps(signing.trust.to_base64()))
    return folders


def memory_mb(pid: int) -> tuple[float, float]:
    """PSS and RSS. PSS shares libraries with whatever else has them open, so the two bound what it takes alone."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, value, *_ = line.split()
        found[key] = int(value) * 1024 / 1e6
    return found["Pss:"], found["Rss:"]


def agent(folder: Path, seconds: float) -> tuple[float, float, float]:
    """Seconds until the agent says that it started, models loaded; most PSS and RSS while it scores, MB."""
    readings = folder / "readings.jsonl"
    readings.write_text(
        "".join(json.dumps({name: row[name] for name in FIELDS}) + "\n" for row in rows(20_000, 2))
    )
    settings = folder / "settings.json"
    settings.write_text(
        json.dumps(
            {
                "home": str(folder / "device"), "tenant": "acme", "device": "pump-7",
                "broker": "mqtt://127.0.0.1:1", "log_level": "info",
                "inputs": [{"name": "file", "kind": "file", "path": str(readings), "rate_per_s": 200}],
            }
        )
    )  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "kepler_edge", "--settings", str(settings), "run"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "edge_agent")},
    )  # fmt: skip
    said: list[str] = []
    ready = threading.Event()
    times: list[float] = []

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if "agent.started" in line and not times:
                times.append(time.perf_counter() - began)
                ready.set()

    threading.Thread(target=listen, daemon=True).start()
    try:
        if not ready.wait(30):
            raise AssertionError("the agent did not start: " + "".join(said))
        pss, rss, end = 0.0, 0.0, time.monotonic() + seconds
        while time.monotonic() < end:
            now = memory_mb(process.pid)
            pss, rss = max(pss, now[0]), max(rss, now[1])
            time.sleep(0.2)
        return times[0], pss, rss
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def one_row(folders: dict[str, Path], trust: list[str], n: int) -> dict[str, dict[str, float]]:
    """Microseconds of one score in the agent and of a bare run, p50 and p99. For a process of its own."""
    from kepler_edge.keys import Trust
    from kepler_edge.model import LoadedModel

    readings = [{name: row[name] for name in FIELDS} for row in rows(500, 3)]
    found: dict[str, dict[str, float]] = {}
    for kind, folder in folders.items():
        model = LoadedModel.load(folder, Trust.from_base64(trust), thresholds={"bad": 0.9})
        prepared = [np.array([[row[name] for name in FIELDS]], model.manifest.dtype) for row in readings]
        taken: dict[str, list[int]] = {"agent": [], "bare": []}
        for at in range(n):  # in turns, so that a busy machine hinders both alike
            reading, x = readings[at % 500], prepared[at % 500]
            began = time.perf_counter_ns()
            model.score(reading)
            between = time.perf_counter_ns()
            model._session.run(None, {"x": x})
            ended = time.perf_counter_ns()
            taken["agent"].append(between - began)
            taken["bare"].append(ended - between)
        figures: dict[str, float] = {}
        for name, times in taken.items():
            times.sort()
            figures[f"{name}_p50_us"] = times[n // 2] / 1e3
            figures[f"{name}_p99_us"] = times[n * 99 // 100] / 1e3
        figures["ratio_p50"] = figures["agent_p50_us"] / figures["bare_p50_us"]
        figures["ratio_p99"] = figures["agent_p99_us"] / figures["bare_p99_us"]
        found[kind] = {key: round(value, 2) for key, value in figures.items()}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="starts of the agent")
    parser.add_argument("--rows", type=int, default=20_000, help="scores that are timed, per model")
    parser.add_argument("--one-row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_row:
        request = json.loads(options.one_row)
        folders = {kind: Path(folder) for kind, folder in request["folders"].items()}
        print(json.dumps(one_row(folders, request["trust"], options.rows)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folders = install(folder)
        trust = json.loads((folder / "device" / "trust.json").read_text())
        request = json.dumps({"folders": {kind: str(path) for kind, path in folders.items()}, "trust": trust})
        said = subprocess.run(
            [sys.executable, __file__, "--one-row", request, "--rows", str(options.rows)],
            check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        starts = [agent(folder, 4.0) for _ in range(options.repeat)]
        report = {
            "ready_s": round(statistics.median(start[0] for start in starts), 3),
            "ready_s_most": round(max(start[0] for start in starts), 3),
            "pss_mb": round(max(start[1] for start in starts), 1),
            "rss_mb": round(max(start[2] for start in starts), 1),
            "one_row": json.loads(said.stdout),
            "load": round(os.getloadavg()[0], 1),
        }
    print(json.dumps(report, indent=2))
    slow = [kind for kind, figures in report["one_row"].items() if figures["agent_p99_us"] > 1_000]
    return 1 if slow or report["pss_mb"] > 100 or report["ready_s"] > 1 else 0


if __name__ == "__main__":
    raise SystemExit(main())
