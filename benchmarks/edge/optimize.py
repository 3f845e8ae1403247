"""What optimising networks for gateways gains, on real data: size, latency of one row, agreement, accuracy.

    python -m benchmarks.edge.optimize [--data FOLDER]

Each network is trained as the service trains it, on columns brought to one scale first. Ratios of one run on one
machine; latency is processor time of one row in one thread.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "edge_agent")]

import numpy as np  # noqa: E402

# file, target, algorithm, units, rows
NETWORKS = (
    ("shuttle.csv", "label", "MLPClassifier", (256, 256), 6_000),
    ("firewall_action.csv.gz", "action", "MLPClassifier", (256, 256), 6_000),
    ("tep_faults.csv.gz", "fault", "MLPClassifier", (512, 256), 6_000),
    ("cmapss_rul.csv.gz", "", "MLPRegressor", (256, 256), 6_000),
    ("ai4i_failure.csv", "", "RandomForestClassifier", (), 2_000),
)


def read(path: Path, target: str, most: int) -> tuple[list[str], str, list[list[str]]]:
    """Header, name of the target, and evenly drawn rows."""
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    order = np.random.default_rng(7).permutation(len(rows))[: 2 * most]
    return header, target or header[-1], [rows[place] for place in order]


def scaled(header: list[str], target: str, rows: list[list[str]]) -> list[dict[str, Any]]:
    """Number fields with mean 0 and deviation 1; others are left out."""
    columns: dict[str, Any] = {}
    for place, name in enumerate(header):
        cells = [row[place] for row in rows]
        if name == target:
            columns[name] = cells
            continue
        try:
            values = np.array(cells, dtype=np.float64)
        except ValueError:
            continue
        if values.std() > 0:
            columns[name] = np.round((values - values.mean()) / values.std(), 6).tolist()
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def measure(folder: Path, file: str, target: str, algorithm: str, units: tuple[int, ...], most: int) -> None:
    from kepler.adapters.formats.edge_optimizer import OnnxEdgeOptimizer
    from kepler.adapters.formats.edge_runs import session
    from kepler.core.errors import InvalidInput
    from kepler.core.manifest import Manifest
    from support.edge_models import train

    header, target, raw = read(folder / file, target, most)
    rows = scaled(header, target, raw)
    fields = [name for name in rows[0] if name != target]
    half = len(rows) // 2
    params = {"hidden_layer_sizes": list(units), "max_iter": 30} if units else {}
    draft = train(algorithm, target, fields=fields, rows=rows[:half], params=params)
    manifest = Manifest.from_json((draft / "manifest.json").read_bytes())
    model = (draft / "model.onnx").read_bytes()
    x = np.array([[row[name] for name in fields] for row in rows[half:]], dtype=manifest.model.dtype)
    print(
        f"\n{file}: {algorithm} {'-'.join(map(str, units))}, {len(fields)} fields, {half:,} rows learned from"
    )
    try:
        found = OnnxEdgeOptimizer().optimize(manifest, model, x, {}, f"{len(x)} rows not learned from")
    except InvalidInput as error:
        print(f"  refused: {error.cause}")
        return
    table = found.table()
    print("  " + "  ".join(f"{name:>18}" for name in table.columns[:-1]) + "  verdict")
    for line in table.rows:
        print("  " + "  ".join(f"{cell:>18}" for cell in line[:-1]) + f"  {line[-1]}")
    truth = [row[target] for row in rows[half:]]
    for name, made in (("original", model), *((item.method, item.model) for item in found.candidates)):
        opened = session(made)
        answers = dict(
            zip([item.name for item in opened.get_outputs()], opened.run(None, {"x": x}), strict=True)
        )
        if manifest.classes:
            score = np.mean(
                [manifest.classes[label] == said for label, said in zip(answers["label"], truth, strict=True)]
            )
            print(f"  accuracy of {name}: {score:.4f}")
        else:
            score = np.sqrt(np.mean((answers["value"] - np.array(truth, dtype=float)) ** 2))
            print(f"  RMSE of {name}: {score:.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("KEPLER_TEST_DATA") or ROOT.parent / "shared") / "data"
    parser.add_argument("--data", type=Path, default=default)
    folder = parser.parse_args().data
    if not folder.is_dir():
        sys.stderr.write(f"There is no data folder {folder}: name one with --data.\n")
        return 1
    for network in NETWORKS:
        measure(folder, *network)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
