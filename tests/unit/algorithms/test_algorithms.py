"""What the contract tests don't reach: parameters that change the path, refusals, summaries, dotted names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Imported while collecting: cold, on a busy machine, these alone can take a unit test's ten seconds.
import catboost  # noqa: F401
import lightgbm  # noqa: F401
import numpy as np
import pytest
import sklearn.ensemble
import sklearn.linear_model  # noqa: F401
import xgboost  # noqa: F401

from kepler.adapters.formats import SafeModelFormats
from kepler.algorithms import _dotted
from kepler.core.algorithms import Fitted, Task, TrainingSet
from kepler.core.errors import InvalidInput, MissingExtra
from kepler.core.extras import need
from kepler.registry import default_registry
from kepler.testing import RecordingRun, check_algorithm, example_rows

REGISTRY = default_registry()


def _fit(
    name: str, run: RecordingRun | None = None, data: TrainingSet | None = None, **values: Any
) -> Fitted:
    info = REGISTRY.find(name)
    return REGISTRY.create(info, values).fit(data or example_rows(info.task), run or RecordingRun())


def test_a_missing_library_names_the_line_that_installs_it() -> None:
    with pytest.raises(MissingExtra) as caught:
        need("kepler_no_such_library", extra="boosters")
    assert caught.value.fix == "Install it with: pip install 'kepler-for-splunk[boosters]'"
    assert caught.value.cause == ""


def test_a_library_that_misses_its_own_needs_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_there.py").write_text("import kepler_no_such_library\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingExtra) as caught:
        need("half_there", extra="boosters")
    assert caught.value.cause == "It needs kepler_no_such_library, which is missing"


@pytest.mark.parametrize("name", ["LinearRegression", "Ridge", "Lasso", "ElasticNet"])
def test_normalize_is_scaling_the_fields_first(name: str) -> None:
    data = example_rows(Task.REGRESSION)
    scaled = TrainingSet(data.x * [1.0, 10.0, 100.0, 0.1, 0.0] + 5.0, data.y, data.feature_names)
    values = {} if name == "LinearRegression" else {"alpha": 0.01}
    fitted = _fit(name, data=scaled, normalize=True, **values)
    centre = scaled.x.mean(axis=0)
    length = np.sqrt(((scaled.x - centre) ** 2).sum(axis=0))
    length[length == 0.0] = 1.0
    x = (scaled.x - centre) / length
    direct = REGISTRY.create(REGISTRY.find(name), values).fit(
        TrainingSet(x, data.y, data.feature_names), RecordingRun()
    )
    np.testing.assert_allclose(fitted.score(scaled.x)["value"], direct.score(x)["value"], rtol=1e-9)


def test_a_warning_of_the_library_becomes_one_notice() -> None:
    run = RecordingRun()
    _fit("MLPClassifier", run, max_iter=2, hidden_layer_sizes=[3])
    assert run.notices == [
        (
            "warn",
            "MLPClassifier: it had not converged when its iterations ran out; raise max_iter or scale the fields first.",
        )
    ]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("LogisticRegression", {"penalty": "l1", "solver": "lbfgs"}, "Solver lbfgs has no l1 penalty"),
        (
            "RandomForestClassifier",
            {"max_samples": 10, "bootstrap": False},
            "max_samples needs bootstrap=true",
        ),
        ("RandomForestClassifier", {"max_features": 0}, "could not be trained on these rows"),
        ("KMeans", {"k": 1000}, "cannot make 1000 clusters of 240 rows"),
        ("Birch", {"k": 1000}, "cannot make 1000 clusters"),
        ("PCA", {"k": 9}, "9 components of 5 fields and 240 rows"),
        ("PCA", {"k": 2, "variance": 0.5}, "k or variance, not both"),
        ("RobustScaler", {"quantile_low": 80.0}, "quantile_low is not below quantile_high"),
        (
            "CatBoostRegressor",
            {"border_count": 65535, "depth": 16, "loss_function": "nonsense"},
            "CatBoost could not be trained",
        ),
    ],
)
def test_parameters_that_cannot_go_together_are_refused(
    name: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        _fit(name, **values)


@pytest.mark.parametrize("name", ["LogisticRegression", "XGBoostClassifier", "CatBoostClassifier"])
def test_a_target_of_one_class_is_refused(name: str) -> None:
    data = TrainingSet(np.ones((4, 1)), np.zeros(4, dtype=np.int64), ("a",), ("only",))
    with pytest.raises(InvalidInput, match="target has only 'only'"):
        _fit(name, data=data)


@pytest.mark.parametrize("name", ["LinearRegression", "KMeans", "GaussianNB"])
def test_no_rows_are_refused(name: str) -> None:
    data = TrainingSet(np.ones((0, 2)), np.zeros(0), ("a", "b"), ("p",))
    with pytest.raises(InvalidInput):
        _fit(name, data=data)


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("LogisticRegression", {"penalty": "elasticnet", "max_iter": 2000}),
    ("LogisticRegression", {"penalty": "l1", "fit_intercept": False, "max_iter": 2000}),
    ("SGDClassifier", {"loss": "log", "penalty": None}),
    ("SGDClassifier", {"loss": "modified_huber"}),
    ("DecisionTreeClassifier", {"max_features": "auto", "splitter": "random"}),
    ("DecisionTreeRegressor", {"criterion": "mse", "max_features": "auto"}),
    ("RandomForestRegressor", {"criterion": "mse", "max_features": "auto", "n_estimators": 3}),
    ("GradientBoostingClassifier", {"loss": "deviance", "max_features": "auto", "n_estimators": 3}),
    ("GradientBoostingRegressor", {"loss": "ls", "n_estimators": 3}),
    (
        "HistGradientBoostingRegressor",
        {"loss": "quantile", "quantile": 0.9, "max_iter": 3, "early_stopping": "true"},
    ),
    ("XGBoostClassifier", {"scale_pos_weight": 2.0, "tree_method": "exact", "n_estimators": 3}),
    ("MLPClassifier", {"activation": "identity", "solver": "lbfgs", "hidden_layer_sizes": [4]}),
    ("Birch", {"k": None}),
    ("PCA", {"variance": 1.0}),
    ("StandardScaler", {"with_mean": False, "with_std": False}),
    ("RobustScaler", {"with_centering": False, "with_scaling": False}),
    ("IsolationForest", {"max_features": 2, "max_samples": 32, "n_estimators": 5, "contamination": 0.2}),
    ("OneClassSVM", {"kernel": "linear", "nu": 0.2}),
    ("LocalOutlierFactor", {"anomaly_score": False}),
    ("BernoulliNB", {"binarize": None}),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("name", "values"), VARIANTS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(VARIANTS)])
def test_other_parameters_keep_the_contract_too(name: str, values: dict[str, Any]) -> None:
    if values.get("binarize", 0) is None:
        data = example_rows(Task.CLASSIFICATION)
        fitted = _fit(
            name,
            data=TrainingSet((data.x > 0).astype(float), data.y, data.feature_names, data.classes),
            **values,
        )
        assert fitted.score(np.eye(5))["probabilities"].shape == (5, 2)
        return
    check_algorithm(REGISTRY, REGISTRY.find(name), SafeModelFormats(), params=values)


def test_seed_is_the_run_s_unless_given() -> None:
    x = example_rows(Task.CLASSIFICATION, seed=1).x.astype("float32")

    def scores(seed: int, **values: Any) -> Any:
        return _fit("ExtraTreesClassifier", RecordingRun(seed=seed), n_estimators=3, **values).score(x)[
            "probabilities"
        ]

    assert not np.array_equal(scores(1), scores(2))
    np.testing.assert_array_equal(scores(1, random_state=5), scores(2, random_state=5))


def test_summaries_say_what_was_learned() -> None:
    line = _fit("LinearRegression")
    assert line.summary["default"].columns == ("feature", "coefficient")
    assert [row[0] for row in line.summary["default"].rows] == [
        "flow",
        "heat",
        "load",
        "noise",
        "speed",
        "_intercept",
    ]
    two = _fit("LogisticRegression").summary["default"]
    assert two.columns == ("class", "feature", "coefficient")
    assert {row[0] for row in two.rows} == {"class 1"}
    many = _fit("LogisticRegression", data=example_rows(Task.CLASSIFICATION, n_classes=3)).summary["default"]
    assert {row[0] for row in many.rows} == {"class 0", "class 1", "class 2"}
    forest = _fit("RandomForestClassifier", n_estimators=5).summary["importance"].rows
    assert forest[0][0] == "flow"
    assert sum(float(row[1]) for row in forest) == pytest.approx(1.0)
    assert _fit("DecisionTreeClassifier").summary["default"].rows[0][0].startswith("|--- ")
    centres = _fit("KMeans", k=2).summary["default"]
    assert centres.columns[:3] == ("cluster", "rows", "flow")
    assert sum(int(row[1]) for row in centres.rows) == 240
    assert _fit("PCA", k=2).summary["default"].rows[0][0] == "PC_1"
    layers = _fit("MLPRegressor", hidden_layer_sizes=[4], solver="lbfgs", max_iter=500)
    assert layers.summary["default"].rows == (("1", "5", "4"), ("2", "4", "1"))
    assert dict(layers.summary["params"].rows)["hidden_layer_sizes"] == "4"


def test_names_of_components() -> None:
    assert _fit("PCA", k=2).component_names == ("PC_1", "PC_2")
    assert _fit("StandardScaler").component_names[0] == "SS_flow"
    assert _fit("RobustScaler").component_names[0] == "RS_flow"


def test_missing_values_stay_missing_through_a_scaler(tmp_path: Path) -> None:
    fitted = _fit("StandardScaler")
    formats = SafeModelFormats()
    x = example_rows(Task.TRANSFORM).x
    scorer = formats.load(formats.save(fitted, x, tmp_path), tmp_path)
    x[0, 1] = np.nan
    assert np.isnan(scorer.score(x)["components"][0]).tolist() == [False, True, False, False, False]


def test_dotted_names_are_scikit_learn_s_public_estimators_and_nothing_else() -> None:
    assert REGISTRY.find("sklearn.linear_model.Lars").name == "sklearn.linear_model.Lars"
    assert REGISTRY.find("SKLEARN.ensemble.adaboostclassifier").name == "sklearn.ensemble.AdaBoostClassifier"
    for name in (
        "sklearn.linear_model.Larz",
        "sklearn.os.system",
        "sklearn.linear_model._base.LinearRegression",
    ):
        with pytest.raises(InvalidInput, match="no public estimator of this name"):
            REGISTRY.find(name)
    with pytest.raises(InvalidInput, match=r"The nearest are sklearn\.linear_model\.Lars"):
        REGISTRY.find("sklearn.linear_model.Larz")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("sklearn.ensemble.StackingClassifier", "It needs estimators"),
        ("sklearn.neighbors.KernelDensity", "It is no classifier"),
        ("sklearn.semi_supervised.SelfTrainingClassifier", "It needs another estimator inside"),
    ],
)
def test_dotted_names_that_no_search_can_train(name: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        REGISTRY.find(name)


def test_dotted_parameters_come_from_scikit_learn() -> None:
    info = REGISTRY.find("sklearn.linear_model.Lars")
    assert {"n_jobs", "verbose", "copy_X"}.isdisjoint(info.params)
    assert REGISTRY.check_params(
        info, {"fit_intercept": "f", "n_nonzero_coefs": "2", "random_state": "1"}
    ) == {
        "fit_intercept": False,
        "n_nonzero_coefs": 2,
        "random_state": 1,
    }
    with pytest.raises(InvalidInput, match="n_nonzero_coefs: '0' must be an integer of at least 1"):
        REGISTRY.check_params(info, {"n_nonzero_coefs": "0"})
    fitted = _fit("sklearn.linear_model.Lars", n_nonzero_coefs=2)
    assert int((fitted.estimator.coef_ != 0).sum()) == 2
    assert dict(fitted.summary["params"].rows)["n_nonzero_coefs"] == "2"
    assert REGISTRY.find("sklearn.linear_model.RidgeClassifier").task is Task.CLASSIFICATION
    solver = REGISTRY.find("sklearn.linear_model.Ridge").params["solver"]
    assert "saga" in solver.choices


@pytest.mark.parametrize(
    "name",
    [
        "sklearn.cluster.HDBSCAN",
        "sklearn.cluster.MiniBatchKMeans",
        "sklearn.covariance.EllipticEnvelope",
        "sklearn.decomposition.FastICA",
        "sklearn.ensemble.IsolationForest",
        "sklearn.linear_model.BayesianRidge",
        "sklearn.manifold.TSNE",
        "sklearn.neighbors.LocalOutlierFactor",
        "sklearn.tree.ExtraTreeClassifier",
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_dotted_estimators_of_every_kind(name: str) -> None:
    values = {"max_iter": 250} if name.endswith("TSNE") else {}
    check_algorithm(REGISTRY, REGISTRY.find(name), SafeModelFormats(), params=values)


def test_a_transformer_that_wants_a_target_says_so() -> None:
    with pytest.raises(InvalidInput, match="could not be trained on these rows"):
        _fit("sklearn.preprocessing.TargetEncoder")


def test_defaults_that_no_text_can_say_are_left_alone() -> None:
    assert _dotted._param("x", (1, 2), ["array-like"]) is None
    assert _dotted._param("x", None, [None]) is None
    assert _dotted._plain((1, 2)) == "(1, 2)"
