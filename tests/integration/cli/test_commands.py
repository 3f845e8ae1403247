"""Every command that talks to the service: what it sends, prints and exits with."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.service_double import ServiceDouble
from kepler.core.errors import Denied, InvalidInput, NotReady, Overloaded
from kepler.v1 import jobs_pb2

Kepler = Callable[..., Any]


@pytest.fixture
def trained(kepler: Kepler, service: ServiceDouble, rows: Path) -> Kepler:
    for _ in range(2):
        assert kepler("train", rows, "-t", "y", "-a", "LogisticRegression", "--into", "app:m", "-q").code == 0
    return kepler


def test_train_prints_the_model_its_figures_and_notes(
    kepler: Kepler, service: ServiceDouble, rows: Path
) -> None:
    ran = kepler(
        "train", rows, "--target", "y", "--algorithm", "LogisticRegression", "--features", "a, text_*",
        "--into", "app:failure", "--param", "C=0.5", "--set", "max_iter=200", "--test-size", "0.25", "--seed", "7",
        "--tag", "nightly", "--nulls", "impute", "--categoricals", "target", "--as", "p", "--app", "ops",
    )  # fmt: skip
    assert ran.code == 0
    assert ran.out.startswith("app.ops/failure@1  LogisticRegression  2 rows\n  accuracy")
    assert "note: The seed is 42." in ran.err
    assert "warning: 2 rows were dropped." in ran.err
    sent = service.seen[0]
    assert (list(sent.features), dict(sent.params)) == (["a", "text_*"], {"C": "0.5", "max_iter": "200"})
    assert (sent.options.seed, sent.options.nulls, list(sent.options.tags)) == (7, "impute", ["nightly"])
    assert service.rows[1] == ["2", "line\nbreak", "1"]


def test_train_as_json_and_quiet(kepler: Kepler, service: ServiceDouble, rows: Path) -> None:
    ran = kepler("train", rows, "-a", "KMeans", "--json")
    assert ran.json["metrics"] == {"accuracy": 0.97}
    assert ran.json["state"] == "succeeded"
    assert "note:" not in kepler("train", rows, "-a", "KMeans", "--quiet").err


def test_train_takes_parameters_whose_names_are_options_too(
    kepler: Kepler, service: ServiceDouble, rows: Path
) -> None:
    assert kepler("train", rows, "-a", "KMeans", "--param", "features=3", "-p", "seed=1").code == 0
    assert dict(service.seen[0].params) == {"features": "3", "seed": "1"}


def test_train_from_stdin(
    kepler: Kepler, service: ServiceDouble, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(rows.read_bytes())))
    assert kepler("train", "-", "-a", "KMeans", "--into", "app:m").code == 0
    assert len(service.rows) == 2


def test_train_without_waiting_and_waiting_later(kepler: Kepler, service: ServiceDouble, rows: Path) -> None:
    assert kepler("train", rows, "-a", "KMeans", "--no-wait").code == 0
    service.jobs["job-1"].state = jobs_pb2.Job.RUNNING
    ran = kepler("jobs", "status", "job-1")
    assert "running" in ran.out
    service.jobs["job-1"].state = jobs_pb2.Job.SUCCEEDED
    assert kepler("jobs", "wait", "job-1").code == 0


def test_waiting_for_a_running_job_shows_its_end(kepler: Kepler, service: ServiceDouble, rows: Path) -> None:
    service.still_running = True
    ran = kepler("train", rows, "-a", "KMeans", "--no-wait")
    assert ran.out == "job-1 running\n"
    assert "Follow it with `kepler jobs wait job-1`" in ran.err
    assert "succeeded" in kepler("jobs", "wait", "job-1").out


def test_a_dry_run_says_so(kepler: Kepler, service: ServiceDouble, rows: Path) -> None:
    assert "nothing was trained" in kepler("train", rows, "-a", "KMeans", "--dry-run").out
    assert service.jobs == {}


def test_an_unknown_algorithm_prints_the_nearest(kepler: Kepler, service: ServiceDouble, rows: Path) -> None:
    ran = kepler("train", rows, "-a", "LogisticRegresion", "-t", "y")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert "The nearest are LogisticRegression, " in ran.err
    assert "Traceback" not in ran.err


def test_a_failed_job_is_its_error(kepler: Kepler, service: ServiceDouble, rows: Path) -> None:
    service.job_error = InvalidInput("No row is left", fix="Use nulls=impute")
    ran = kepler("train", rows, "-a", "KMeans")
    assert (ran.code, ran.err) == (2, "kepler: No row is left. Use nulls=impute.\n")
    waited = kepler("jobs", "wait", "job-1", "--json")
    assert (waited.code, waited.json["failure"]["message"]) == (2, "No row is left")
    assert "No row is left" in kepler("jobs", "status", "job-1").out


@pytest.mark.parametrize("item", ["C", "=1", "C=1"])
def test_ill_written_parameters(kepler: Kepler, service: ServiceDouble, rows: Path, item: str) -> None:
    ran = kepler("train", rows, "-a", "KMeans", "-p", "C=2", "-p", item)
    assert ran.code == 2
    assert ("given twice" if item == "C=1" else "NAME=VALUE") in ran.err


def test_predict_to_stdout_and_to_a_file(trained: Kepler, rows: Path, tmp_path: Path) -> None:
    expected = 'a,text,y,predicted(y),probability(y=1)\n1,"x, y",0,1!,0.5\n2,"line\nbreak",1,2!,0.5\n'
    ran = trained("predict", "app:m", rows, "--probabilities")
    assert (ran.code, ran.out) == (0, expected)
    assert "warning: Field x is missing." in ran.err
    out = tmp_path / "out.csv"
    ran = trained("predict", "app:m@1", rows, "--probabilities", "--output", out)
    assert (ran.code, ran.out, out.read_text()) == (0, "", expected)
    assert "2 rows scored by app.search/m@1" in ran.err
    assert sorted(item.name for item in tmp_path.iterdir()) == ["out.csv", "rows.csv"]


def test_predict_as_json(trained: Kepler, rows: Path, tmp_path: Path) -> None:
    ran = trained("predict", "app:m", rows, "--json", "--as", "p")
    assert ran.json[1] == {"a": "2", "text": "line\nbreak", "y": "1", "p": "2!"}
    ran = trained("predict", "app:m", rows, "--json", "-o", tmp_path / "out.csv")
    assert (ran.json["rows"], ran.json["model"], ran.json["columns"]) == (
        2,
        "app.search/m@2",
        ["predicted(y)"],
    )


def test_a_prediction_that_fails_leaves_no_file(kepler: Kepler, service: ServiceDouble, rows: Path) -> None:
    ran = kepler("predict", "nope", rows, "--output", rows.parent / "out.csv")
    assert ran.code == 3
    assert "There is no model 'nope'" in ran.err
    assert [item.name for item in rows.parent.iterdir()] == ["rows.csv"]
    assert kepler("predict", "nope", rows.parent / "none.csv").code == 3


def test_score(kepler: Kepler, service: ServiceDouble, rows: Path) -> None:
    base = ("score", rows, "--method", "accuracy_score", "--actual", "a", "--predicted", "y")
    assert kepler(*base).out.split() == ["method", "score", "accuracy_score", "0"]
    assert kepler(*base, "--json").json == [{"method": "accuracy_score", "score": "0"}]


def test_models_and_summary(trained: Kepler) -> None:
    lines = trained("models").out.splitlines()
    assert lines[0].split() == ["model", "aliases", "algorithm", "target", "rows", "metrics", "created"]
    assert lines[1].startswith("app.search/m@2")
    assert trained("models", "--json").json[0]["metrics"] == {"accuracy": 0.97}
    assert "coefficient" in trained("summary", "app:m").out
    assert trained("summary", "app:m", "--view", "params", "--json").json["rows"] == [
        {"feature": "a", "coefficient": "1.5"}
    ]


def test_a_service_without_models_or_jobs(kepler: Kepler, service: ServiceDouble) -> None:
    assert (kepler("models").out, kepler("models", "--json").json) == ("", [])
    assert (kepler("jobs", "list").out, kepler("jobs", "list", "--json").json) == ("", [])


def test_versions_and_aliases(trained: Kepler) -> None:
    assert len(trained("version", "list", "app:m").out.splitlines()) == 3
    assert trained("version", "promote", "app:m@1").out == "app.search/m@prod is version 1\n"
    assert trained("version", "promote", "app:m@2", "--json").json["version"] == 2
    assert trained("version", "rollback", "app:m").out == "app.search/m@prod is version 1 again\n"
    assert trained("version", "alias", "app:m@2", "candidate").code == 0
    assert [item["aliases"] for item in trained("version", "list", "app:m", "--json").json] == [
        ["candidate"],
        ["prod"],
    ]
    assert "has no alias prod any more" in trained("version", "delete-alias", "app:m", "prod").out
    assert trained("version", "alias", "app:m@1", "latest").code == 6
    assert trained("version", "rollback", "app:m", "--alias", "never").code == 7


def test_deleting_asks_first(trained: Kepler, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = trained("delete", "app:m@1")
    assert (ran.code, "Add --yes" in ran.err) == (2, True)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda text, abort: None)
    assert trained("delete", "app:m@1").out == "Deleted app.search/m, version 1\n"
    assert trained("delete", "app:m", "--yes", "--json").json == {"name": "app.search/m", "versions": [2]}


def test_jobs(trained: Kepler, service: ServiceDouble) -> None:
    ran = trained("jobs", "list", "--limit", "1")
    assert len(ran.out.splitlines()) == 2
    assert [job["id"] for job in trained("jobs", "list", "--json").json] == ["job-2", "job-1"]
    assert trained("jobs", "list", "--state", "failed").out == ""
    shown = trained("jobs", "status", "job-1").out
    assert "1.5 s" in shown
    assert trained("jobs", "status", "job-1", "--json").json["metrics"] == {"accuracy": 0.97}
    assert trained("jobs", "status", "none").code == 3
    service.jobs["job-1"].state = jobs_pb2.Job.RUNNING
    assert trained("jobs", "cancel", "job-1", "--json").json["state"] == "cancelled"
    assert trained("jobs", "wait", "job-1").code == 9


def test_algorithms(kepler: Kepler, service: ServiceDouble) -> None:
    assert "LightGBMClassifier" in kepler("algorithms").out
    shown = kepler("algorithms", "KMeans").out
    assert "n_estimators" in shown
    assert "1 to 10000" in shown
    assert kepler("algorithms", "--json").json[0]["tasks"] == ["classification"]
    assert kepler("algorithms", "KMean").code == 3


@pytest.mark.parametrize(
    ("error", "code"),
    [(Denied("No"), 4), (Overloaded("Full"), 5), (NotReady("Soon"), 7), (InvalidInput("Bad"), 2)],
)
def test_exit_codes(kepler: Kepler, service: ServiceDouble, error: Any, code: int) -> None:
    service.fail["ListModels"] = error
    ran = kepler("models")
    assert (ran.code, ran.err) == (code, f"kepler: {error.sentence}\n")


def test_nobody_there(kepler: Kepler, service: ServiceDouble) -> None:
    service.stop()
    ran = kepler("models")
    assert ran.code == 5
    assert service.address in ran.err
