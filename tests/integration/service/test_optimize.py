"""`kepler optimize` on a running service: a network that gains, trees that do not, and the edge's own reader."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest

from kepler.client.errors import error_from_rpc
from kepler.core.errors import Cancelled, InvalidInput, NotFound
from kepler.sdk import Session
from kepler.sdk import connect as connect_sdk
from kepler.v1 import models_pb2 as pb
from kepler_edge.keys import Trust
from kepler_edge.model import LoadedModel
from support.running_service import RunningService

FIELDS = tuple(f"f{place}" for place in range(10))


def rows_file(path: Path, n: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = np.random.default_rng(7).normal(scale=2, size=(3, len(FIELDS)))[y] + 0.3 * rng.normal(
        size=(n, len(FIELDS))
    )
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*FIELDS, "kind"])
        writer.writerows([*map(float, row), f"k{label}"] for row, label in zip(x, y, strict=True))
    return path


def connect(service: RunningService) -> Session:
    return connect_sdk(service.grpc, home=service.home)


def kepler(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kepler", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def trained(service: RunningService, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("optimize")
    train = rows_file(folder / "train.csv", 800, 1)
    with connect(service) as client:
        for algorithm, name, params in (
            ("MLPClassifier", "app:net", {"hidden_layer_sizes": "256-256", "max_iter": 30}),
            ("RandomForestClassifier", "app:woods", {"n_estimators": 5}),
        ):
            client.train(
                str(train), algorithm=algorithm, target="kind", features=list(FIELDS), into=name, **params
            )
    return folder


def test_a_network_becomes_a_version_that_service_and_agent_run(
    service: RunningService, trained: Path
) -> None:
    sample = rows_file(trained / "sample.csv", 1200, 2)
    dry = kepler("optimize", "app:net", "--calibration", sample, "--dry-run", "--home", service.home)
    assert dry.returncode == 0, dry.stderr
    assert "nothing was made" in dry.stdout
    done = kepler(
        "optimize", "app:net", "--for", "edge", "--calibration", sample, "--threshold", "k1=0.8", "--json",
        "--home", service.home,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["version"]["version"] == 2
    assert found["agreement"] >= 0.995
    assert found["thresholds"][0]["output"] == "k1"
    assert found["calibrated_on"] == "calibrated on 1,200 of 1,200 rows given"
    with connect(service) as client:
        manifest = json.loads(client.model("app:net@2").manifest_json)
        assert manifest["parent"] == "app.search/net@1"
        assert manifest["model"]["extra"]["optimized_for"] == "edge"
        table = client.summary("app:net@2", "optimization")
        assert [row[0] for row in table.rows][:2] == ["original", "float32"]
        before = client.predict("app:net@1", str(sample)).to_dicts()
        after = client.predict("app:net@2", str(sample)).to_dicts()
    same = [a["predicted(kind)"] == b["predicted(kind)"] for a, b in zip(before, after, strict=True)]
    assert sum(same) / len(same) >= 0.995
    key = kepler("version", "key", "--json", "--home", service.home)
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    public = load_pem_public_key(json.loads(key.stdout)["public_key"].encode()).public_bytes_raw()  # type: ignore[union-attr]
    [folder] = [
        path.parent
        for path in (service.home / "models").rglob("manifest.json")
        if '"name":"app.search/net"' in path.read_text() and '"version":2' in path.read_text()
    ]
    agent = LoadedModel.load(folder, Trust([public]))
    rows = list(csv.DictReader(sample.read_text().splitlines()))[:50]
    answers = [
        agent.score({name: float(row[name]) for name in FIELDS}).out["predicted(kind)"] for row in rows
    ]
    assert answers == [row["predicted(kind)"] for row in after[:50]]


def test_refusals_say_why(service: RunningService, trained: Path) -> None:
    trees = kepler("optimize", "app:woods", "--home", service.home)
    assert trees.returncode != 0
    assert "made of trees" in trees.stderr
    assert "Deploy it as it is." in trees.stderr
    with connect(service) as client:
        with pytest.raises(NotFound):
            client.optimize("app:none")
        with pytest.raises(InvalidInput, match="Nothing is optimised for 'cloud'"):
            client.optimize("app:net@1", target="cloud")
        with pytest.raises(InvalidInput, match="where the model reads numbers"):
            client.optimize("app:net@1", calibration=str(text_file(trained)))
        assert len(client.versions("app:woods")) == 1


def text_file(folder: Path) -> Path:
    path = folder / "text.csv"
    path.write_text(",".join(FIELDS) + "\n" + ",".join(["x"] * len(FIELDS)) + "\n")
    return path


def test_an_upload_that_breaks_off_makes_nothing(service: RunningService, trained: Path) -> None:
    with connect(service) as client:
        inner = client.client
        opening = pb.OptimizeOpen(caller=inner.caller, model="app:net@1", target="edge", columns=FIELDS)
        requests = [
            pb.OptimizeVersionRequest(open=opening),
            pb.OptimizeVersionRequest(rows=b"1,1,1,1,1,1,1,1,1,1\n"),
        ]
        with pytest.raises(grpc.RpcError) as caught:
            inner._models.OptimizeVersion(iter(requests), timeout=30)
        error = error_from_rpc(caught.value, address=inner.address)
        assert isinstance(error, Cancelled)
        assert "1 slices without saying" in error.message
