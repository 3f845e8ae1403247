"""The SDK against a service that speaks the protocol over real gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import kepler as kp
from fakes.service_double import ServiceDouble
from kepler import sdk_session
from kepler.core.errors import (
    Cancelled,
    Conflict,
    InternalError,
    InvalidInput,
    KeplerError,
    NotFound,
    NotReady,
)
from kepler.sdk import Session
from kepler.v1 import jobs_pb2

ROWS = {"a": [1, 2, 3], "y": [0, 1, 0]}


@pytest.fixture
def service() -> Iterator[ServiceDouble]:
    with ServiceDouble() as double:
        yield double


@pytest.fixture
def session(service: ServiceDouble) -> Iterator[Session]:
    with kp.connect(service.address, user="ana") as session:
        yield session


def test_train_and_predict_from_a_file(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('a,text,y\n1,"x, y",0\n2,"line\nbreak",1\n')
    model = kp.train(path, algorithm="LogisticRegression", target="y", into="app:failure", progress=False)
    assert model.metrics == {"accuracy": 0.97}
    assert (model.name, model.version, model.algorithm) == ("app.search/failure@1", 1, "LogisticRegression")
    assert {notice.text for notice in model.notices} == {"The seed is 42.", "2 rows were dropped."}
    assert "accuracy=0.97" in repr(model)
    assert model.summary().columns == ("feature", "coefficient")

    scored = kp.predict("app:failure", path, probabilities=True)
    assert scored.columns == ("predicted(y)", "probability(y=1)")
    assert (len(scored), scored.model) == (2, "app.search/failure@1")
    assert scored.column() == ["1!", "2!"]
    assert scored.column("probability(y=1)") == ["0.5", "0.5"]
    assert "2 predictions of app.search/failure@1" in repr(scored)
    assert [notice.text for notice in scored.notices] == ["Field x is missing."]
    out = scored.to_csv(tmp_path / "out.csv")
    assert out.read_text() == (
        'a,text,y,predicted(y),probability(y=1)\n1,"x, y",0,1!,0.5\n2,"line\nbreak",1,2!,0.5\n'
    )
    assert scored.to_dicts()[1]["text"] == "line\nbreak"
    assert list(scored.to_pandas()["predicted(y)"]) == ["1!", "2!"]
    assert model.predict({"a": [7], "text": ["t"]}).column() == ["7!"]


def test_data_that_changed_since_is_not_put_together(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,y\n1,0\n")
    kp.train(path, algorithm="LogisticRegression", target="y", into="app:m")
    scored = kp.predict("app:m", path)
    path.write_text("a,y\n")
    with pytest.raises(Conflict, match="changed since"):
        scored.to_dicts()
    path.write_text("a,y\n1,0\n2,1\n")
    with pytest.raises(InvalidInput, match="1 results came back for 2 records"):
        scored.to_dicts()
    scored._parts.clear()
    with pytest.raises(Conflict, match="changed since"):
        scored.to_dicts()


@pytest.mark.parametrize(
    ("values", "task", "expected"),
    [
        ([0, 1, 0], "auto", "LightGBMClassifier"),
        (["no", "yes", "no"], "auto", "LightGBMClassifier"),
        ([0.5, 1.5, 2.5], "auto", "LightGBMRegressor"),
        ([0, 1, 0], "regression", "LightGBMRegressor"),
    ],
)
def test_a_shortcut_takes_what_the_target_asks_for(
    session: Session, service: ServiceDouble, values: list[object], task: str, expected: str
) -> None:
    model = kp.train.lightgbm({"a": [1, 2, 3], "y": values}, target="y", task=task, n_estimators=5)
    assert service.seen[0].algorithm == expected
    assert dict(service.seen[0].params) == {"n_estimators": "5"}
    chosen = [notice.text for notice in model.notices if "was taken" in notice.text]
    assert bool(chosen) == (task == "auto")


def test_many_whole_numbers_are_values(session: Session, service: ServiceDouble) -> None:
    kp.train.random_forest({"a": list(range(30)), "y": list(range(30))}, target="y")
    assert service.seen[0].algorithm == "RandomForestRegressor"


def test_an_alias_that_the_service_shares_between_two_is_decided_too(
    session: Session, service: ServiceDouble
) -> None:
    kp.train(ROWS, algorithm="RF", target="y")
    kp.train(ROWS, algorithm="rf", target="y", task="regression")
    assert [item.algorithm for item in service.seen] == ["RandomForestClassifier", "RandomForestRegressor"]


def test_algorithms_of_the_service_are_shortcuts_too(session: Session, service: ServiceDouble) -> None:
    kp.train.KMeans(ROWS)
    session.train.random_forest_classifier(ROWS, target="y")
    assert [item.algorithm for item in service.seen] == ["KMeans", "RandomForestClassifier"]
    with pytest.raises(AttributeError, match="no algorithm 'warp_drive'"):
        _ = kp.train.warp_drive
    with pytest.raises(AttributeError):
        _ = kp.train._private
    assert "lightgbm" in dir(kp.train)
    assert "LightGBMClassifier" in repr(kp.train.light_gbm_classifier)


def test_options_arrive(session: Session, service: ServiceDouble) -> None:
    kp.train(
        ROWS,
        algorithm="kmeans",
        features="a, b_*",
        by=["y"],
        nulls="impute",
        categoricals="target",
        seed=7,
        test_size=0.2,
        kfold_cv=3,
        partial_fit=True,
        probabilities=True,
        output="predictions",
        tags=["x"],
        hidden=(10, 5),
    )
    sent = service.seen[0]
    assert (list(sent.features), list(sent.by), dict(sent.params)) == (
        ["a", "b_*"],
        ["y"],
        {"hidden": "10-5"},
    )
    options = sent.options
    assert (options.nulls, options.categoricals, options.seed, options.test_size) == (
        "impute",
        "target",
        7,
        0.2,
    )
    assert (options.kfold_cv, options.partial_fit, options.probabilities) == (3, True, True)
    assert (options.output, list(options.tags)) == ("predictions", ["x"])
    assert len(sent.request_id) == 32


def test_predictions_of_the_training_rows(session: Session) -> None:
    model = kp.train(ROWS, algorithm="LogisticRegression", target="y", output="predictions")
    assert model.predictions() == [{"predicted(y)": "1!"}, {"predicted(y)": "2!"}, {"predicted(y)": "3!"}]


def test_a_training_that_keeps_nothing_has_no_name(session: Session) -> None:
    model = kp.train(ROWS, algorithm="KMeans")
    with pytest.raises(NotReady, match="into= was not given"):
        _ = model.name


def test_a_dry_run_trains_nothing(session: Session, service: ServiceDouble) -> None:
    model = kp.train(ROWS, algorithm="KMeans", dry_run=True)
    assert model.algorithm == "KMeans"
    assert model.notices
    assert service.jobs == {}


def test_not_waiting_and_waiting_later(session: Session, service: ServiceDouble) -> None:
    model = kp.train(ROWS, algorithm="KMeans", into="app:m", wait=False)
    model.job = session.client.job(model.job.id)
    service.jobs[model.job.id].state = jobs_pb2.Job.RUNNING
    service.jobs[model.job.id].model = ""
    model.job = session.job(model.job.id)
    with pytest.raises(NotReady, match=r"running.*Call wait"):
        _ = model.name
    service.jobs[model.job.id].state = jobs_pb2.Job.SUCCEEDED
    service.jobs[model.job.id].model = "app.search/m@1"
    assert model.wait(progress=True).version == 1


def test_a_failed_job_raises_its_error(session: Session, service: ServiceDouble) -> None:
    service.job_error = InvalidInput("No row is left", fix="Use nulls=impute")
    with pytest.raises(InvalidInput, match="No row is left"):
        kp.train(ROWS, algorithm="KMeans")


def test_a_cancelled_job_and_one_that_says_nothing(session: Session, service: ServiceDouble) -> None:
    model = kp.train(ROWS, algorithm="KMeans", wait=False)
    service.jobs[model.job.id].state = jobs_pb2.Job.RUNNING
    model.cancel()
    with pytest.raises(Cancelled, match="job-1"):
        model.wait()
    service.jobs[model.job.id].state = jobs_pb2.Job.FAILED
    model.job = session.job(model.job.id)
    with pytest.raises(InternalError, match="says no more"):
        model.wait()


def test_an_unknown_algorithm_names_the_nearest(session: Session) -> None:
    with pytest.raises(InvalidInput, match="nearest are LogisticRegression"):
        kp.train(ROWS, algorithm="LogisticRegresion", target="y")


def test_a_target_or_task_that_is_not_there(session: Session) -> None:
    with pytest.raises(InvalidInput, match=r"no column 'z'.*a, y"):
        kp.train.lightgbm(ROWS, target="z")
    with pytest.raises(InvalidInput, match="no task 'guessing'"):
        kp.train.lightgbm(ROWS, target="y", task="guessing")


def test_models_jobs_and_the_rest(session: Session) -> None:
    for _ in range(2):
        kp.train(ROWS, algorithm="LogisticRegression", target="y", into="app:m")
    assert [model.full_name for model in kp.models()] == ["app.search/m@2"]
    assert session.model("app:m@1").version == 1
    assert len(session.versions("app:m")) == 2
    session.set_alias("app:m@1", "prod")
    session.set_alias("app:m@2", "prod")
    assert session.rollback("app:m", "prod").version == 1
    assert [job.id for job in kp.jobs(limit=1)] == ["job-2"]
    assert kp.job("job-1").rows == 3
    assert kp.summary("app:m").to_dicts() == [{"feature": "a", "coefficient": "1.5"}]
    assert kp.train.algorithms("KMeans")[0].tasks == ("clustering",)
    table = kp.score(ROWS, method="accuracy_score", actual="a", predicted=["y"], params={"normalize": True})
    assert table.rows == (("accuracy_score", "0"),)
    assert session.algorithms("KMeans") == kp.train.algorithms("KMeans")
    assert session.delete("app:m") == (2, 1)
    assert session.who_am_i().user == "ana"
    assert session.client.address in repr(session)


def test_errors_are_all_of_one_family(session: Session) -> None:
    with pytest.raises(KeplerError) as caught:
        kp.predict("nope", ROWS)
    assert isinstance(caught.value, NotFound)


def test_the_default_connection_is_made_when_needed(
    service: ServiceDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPLER_ADDRESS", service.address)
    sdk_session.set_default(None)
    kp.train(ROWS, algorithm="KMeans", into="app:m")
    assert len(kp.models()) == 1
    sdk_session.default_client().close()
    sdk_session.set_default(None)
