"""SDK and command line against the real service: what users do on the first day."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import kepler as kp
from kepler.adapters.cli.main import main
from kepler.client import discovery
from kepler.core.errors import InvalidInput, NotFound
from kepler.sdk import Session
from kepler.sdk_algorithms import SHORTCUTS
from support.running_service import RunningService

N_ROWS = 600


@pytest.fixture(scope="module")
def session(service: RunningService) -> Iterator[Session]:
    with kp.connect(service.grpc, user="sdk") as session:
        yield session


@pytest.fixture(scope="module")
def columns() -> dict[str, list[object]]:
    random = np.random.default_rng(7)
    a, b = random.normal(size=N_ROWS), random.normal(size=N_ROWS)
    notes = ["plain", "line\nbreak", 'a "quote", and comma', None]
    return {
        "a": a.tolist(),
        "b": b.tolist(),
        "note": [notes[n % 4] for n in range(N_ROWS)],
        "y": (a + b + 0.3 * random.normal(size=N_ROWS) > 0).astype(int).tolist(),
        "z": (2 * a - b).tolist(),
    }


@pytest.fixture(scope="module")
def path(columns: dict[str, list[object]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def test_every_shortcut_is_an_algorithm_of_the_service(session: Session) -> None:
    known = {item.name: item for item in kp.train.algorithms()}
    wanted = {name for names in SHORTCUTS.values() for name in names}
    assert wanted <= set(known)
    for names in SHORTCUTS.values():
        if len(names) == 2:
            assert [known[name].tasks for name in names] == [("classification",), ("regression",)]


def test_a_file_is_learnt_and_scored_whole(
    session: Session, path: Path, columns: dict[str, list[object]], tmp_path: Path
) -> None:
    model = kp.train.logistic_regression(
        path, target="y", features="a,b", into="app:sdk_file", progress=False
    )
    assert model.metrics["accuracy"] > 0.9
    assert model.version >= 1
    assert {row["feature"] for row in model.summary().to_dicts()} >= {"a", "b"}
    scored = model.predict(path, probabilities=True)
    assert scored.columns[0] == "predicted(y)"
    rows = scored.to_dicts()
    assert len(rows) == N_ROWS
    assert [row["note"] for row in rows[:4]] == ["plain", "line\nbreak", 'a "quote", and comma', ""]
    agreed = [row["predicted(y)"] == row["y"] for row in rows]
    assert sum(agreed) / N_ROWS == pytest.approx(model.metrics["accuracy"], abs=0.05)
    zipped = tmp_path / "rows.csv.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert model.predict(zipped).column() == scored.column()
    assert model.predict(columns).column() == scored.column()


def test_the_target_decides_what_a_shortcut_trains(session: Session, path: Path) -> None:
    model = kp.train.decision_tree(path, target="z", max_depth=4, dry_run=True)
    assert model.algorithm == "DecisionTreeRegressor"
    assert (
        kp.train(path, algorithm="dt", target="y", features=["a", "b"]).algorithm == "DecisionTreeClassifier"
    )


def test_predictions_of_the_training_rows(session: Session, path: Path) -> None:
    model = kp.train.kmeans(path, features="a b", output="predictions", k=2)
    answers = model.predictions()
    assert len(answers) == N_ROWS
    assert len({answer["cluster"] for answer in answers}) == 2


def test_scoring(session: Session, path: Path) -> None:
    table = kp.score(path, method="r2_score", actual="z", predicted="z")
    assert any(float(cell) == 1.0 for row in table.rows for cell in row if cell.replace(".", "").isdigit())


def test_mistakes_are_said_before_rows_are_sent(session: Session, path: Path) -> None:
    with pytest.raises(InvalidInput, match="LogisticRegression"):
        kp.train(path, algorithm="LogisticRegresion", target="y")
    with pytest.raises(InvalidInput, match="n_estimators"):
        kp.train.random_forest(path, target="y", n_estimators="many")
    with pytest.raises(InvalidInput, match="nothere"):
        kp.train(path, algorithm="LogisticRegression", target="nothere")
    with pytest.raises(NotFound, match="sdk_none"):
        kp.predict("app:sdk_none", path)


def test_a_training_that_cannot_learn_is_its_error(session: Session) -> None:
    with pytest.raises(InvalidInput, match="'y' has no value"):
        kp.train.logistic_regression({"a": [1.0, 2.0], "y": [None, None]}, target="y")


def test_versions_and_aliases(session: Session, path: Path) -> None:
    for _ in range(2):
        kp.train.ridge(path, target="z", features="a b", into="app:sdk_versions")
    assert [item.version for item in session.versions("app:sdk_versions")][:2] == [2, 1]
    session.set_alias("app:sdk_versions@1", "prod")
    session.set_alias("app:sdk_versions@2", "prod")
    assert session.rollback("app:sdk_versions", "prod").version == 1
    assert kp.predict("app:sdk_versions@prod", path).model.endswith("@1")
    assert set(session.delete("app:sdk_versions")) == {1, 2}
    with pytest.raises(NotFound):
        session.model("app:sdk_versions")


@pytest.fixture
def kepler(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("KEPLER_ADDRESS", service.grpc)

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(item) for item in arguments])
        said = capfd.readouterr()
        return code, said.out, said.err

    return run


def test_the_command_line(kepler: Callable[..., tuple[int, str, str]], path: Path, tmp_path: Path) -> None:
    code, out, err = kepler(
        "train", path, "-t", "y", "-a", "LogisticRegression", "-f", "a,b", "--into", "app:cli", "--json"
    )
    assert (code, err) == (0, "")
    job = json.loads(out)
    assert job["model"] == "app.search/cli@1"
    scored = tmp_path / "scored.csv"
    assert kepler("predict", "app:cli", path, "--output", scored, "--probabilities")[0] == 0
    rows = list(csv.DictReader(io.StringIO(scored.read_text(), newline="")))
    assert len(rows) == N_ROWS
    code, out, _ = kepler(
        "score", scored, "-m", "accuracy_score", "--actual", "y", "--predicted", "predicted(y)"
    )
    assert code == 0
    assert "0.9" in out
    assert "app.search/cli@1" in kepler("models", "*cli*")[1]
    assert "coefficient" in kepler("summary", "app:cli")[1]
    assert kepler("version", "promote", "app:cli@1")[0] == 0
    assert json.loads(kepler("jobs", "status", job["job_id"], "--json")[1])["state"] == "succeeded"
    assert kepler("delete", "app:cli", "--yes")[0] == 0
    assert kepler("summary", "app:cli")[0] == 3


@pytest.mark.timeout(180)
def test_a_service_is_started_where_none_runs(
    kepler: Callable[..., tuple[int, str, str]], path: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    before = len(discovery._started)
    try:
        code, out, err = kepler("models", "--home", home, "--json")
        assert (code, json.loads(out)) == (0, []), err
        assert "starting a service on" in err
        assert "starting" not in kepler("models", "--home", home)[2]
    finally:
        for process in discovery._started[before:]:
            os.kill(process.pid, signal.SIGTERM)
            process.wait(60)
        del discovery._started[before:]
    deadline = time.monotonic() + 10
    while discovery.find(home) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert discovery.find(home) is None


def test_one_model_per_group(session: Session, columns: dict[str, list[object]]) -> None:
    hosts = [f"h{n % 40}" for n in range(N_ROWS)]
    data = kp.data.from_frame({"a": columns["a"], "b": columns["b"], "z": columns["z"], "host": hosts})
    model = session.train(
        data, algorithm="LinearRegression", target="z", features=["a", "b"], by=["host"], into="per-host"
    )
    assert (model.metrics["groups"], model.metrics["groups_failed"]) == (40.0, 0.0)
    assert model.metrics["r2"] == pytest.approx(1.0)
    asked = kp.data.from_frame({"a": [1.0, 1.0], "b": [2.0, 2.0], "host": ["h3", "new"]})
    rows = session.predict("per-host", asked).to_dicts()
    assert float(rows[0]["predicted(z)"]) == pytest.approx(0.0, abs=1e-9)
    assert not rows[1]["predicted(z)"]
    shown = session.summary("per-host", view="groups", limit=2)
    assert [row["host"] for row in shown.to_dicts()] == ["h0", "h1"]
