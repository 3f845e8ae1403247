"""Scores through save and load equal the library called directly, on the same matrix and seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kepler.adapters.formats import SafeModelFormats
from kepler.registry import default_registry
from kepler.testing import RecordingRun, example_rows

SEED = 42


def _sklearn(path: str, **options: Any) -> Callable[[], Any]:
    def make() -> Any:
        from importlib import import_module

        module, _, name = path.rpartition(".")
        return getattr(import_module(module), name)(**options)

    return make


CASES: list[tuple[str, dict[str, Any], Callable[[], Any]]] = [
    ("LinearRegression", {}, _sklearn("sklearn.linear_model.LinearRegression")),
    ("Ridge", {"alpha": 0.5}, _sklearn("sklearn.linear_model.Ridge", alpha=0.5)),
    ("Lasso", {"alpha": 0.1}, _sklearn("sklearn.linear_model.Lasso", alpha=0.1)),
    ("ElasticNet", {"alpha": 0.1}, _sklearn("sklearn.linear_model.ElasticNet", alpha=0.1)),
    ("LogisticRegression", {}, _sklearn("sklearn.linear_model.LogisticRegression")),
    ("LogisticRegression", {"penalty": None}, _sklearn("sklearn.linear_model.LogisticRegression", C=np.inf)),
    ("SGDClassifier", {"loss": "log"}, _sklearn("sklearn.linear_model.SGDClassifier", loss="log_loss", random_state=SEED)),
    ("SGDClassifier", {"loss": "modified_huber"}, _sklearn("sklearn.linear_model.SGDClassifier", loss="modified_huber", random_state=SEED)),
    ("SGDRegressor", {}, _sklearn("sklearn.linear_model.SGDRegressor", random_state=SEED)),
    ("DecisionTreeClassifier", {"max_depth": 4}, _sklearn("sklearn.tree.DecisionTreeClassifier", max_depth=4, random_state=SEED)),
    ("DecisionTreeRegressor", {}, _sklearn("sklearn.tree.DecisionTreeRegressor", random_state=SEED)),
    ("RandomForestClassifier", {"n_estimators": 10}, _sklearn("sklearn.ensemble.RandomForestClassifier", n_estimators=10, random_state=SEED)),
    ("RandomForestRegressor", {"n_estimators": 10}, _sklearn("sklearn.ensemble.RandomForestRegressor", n_estimators=10, random_state=SEED)),
    ("ExtraTreesClassifier", {"n_estimators": 10}, _sklearn("sklearn.ensemble.ExtraTreesClassifier", n_estimators=10, random_state=SEED)),
    ("GradientBoostingClassifier", {"n_estimators": 10}, _sklearn("sklearn.ensemble.GradientBoostingClassifier", n_estimators=10, random_state=SEED)),
    ("GradientBoostingClassifier", {"n_estimators": 10, "loss": "exponential"}, _sklearn("sklearn.ensemble.GradientBoostingClassifier", n_estimators=10, loss="exponential", random_state=SEED)),
    ("GradientBoostingRegressor", {"loss": "lad", "n_estimators": 10}, _sklearn("sklearn.ensemble.GradientBoostingRegressor", loss="absolute_error", n_estimators=10, random_state=SEED)),
    ("HistGradientBoostingClassifier", {"max_iter": 10}, _sklearn("sklearn.ensemble.HistGradientBoostingClassifier", max_iter=10, random_state=SEED)),
    ("HistGradientBoostingRegressor", {"max_iter": 10, "loss": "poisson"}, _sklearn("sklearn.ensemble.HistGradientBoostingRegressor", max_iter=10, loss="poisson", random_state=SEED)),
    ("LightGBMClassifier", {"n_estimators": 20}, _sklearn("lightgbm.LGBMClassifier", n_estimators=20, random_state=SEED, n_jobs=1, verbosity=-1)),
    ("LightGBMClassifier", {"n_estimators": 20, "boosting_type": "dart"}, _sklearn("lightgbm.LGBMClassifier", n_estimators=20, boosting_type="dart", random_state=SEED, n_jobs=1, verbosity=-1)),
    ("LightGBMRegressor", {"n_estimators": 20, "objective": "poisson"}, _sklearn("lightgbm.LGBMRegressor", n_estimators=20, objective="poisson", random_state=SEED, n_jobs=1, verbosity=-1)),
    ("XGBoostClassifier", {"n_estimators": 20}, _sklearn("xgboost.XGBClassifier", n_estimators=20, random_state=SEED, n_jobs=1)),
    ("XGBoostRegressor", {"n_estimators": 20}, _sklearn("xgboost.XGBRegressor", n_estimators=20, random_state=SEED, n_jobs=1)),
    ("XGBoostRegressor", {"n_estimators": 20, "objective": "count:poisson"}, _sklearn("xgboost.XGBRegressor", n_estimators=20, objective="count:poisson", random_state=SEED, n_jobs=1)),
    ("CatBoostClassifier", {"iterations": 20}, _sklearn("catboost.CatBoostClassifier", iterations=20, random_seed=SEED, thread_count=1, verbose=False, allow_writing_files=False)),
    ("CatBoostRegressor", {"iterations": 20}, _sklearn("catboost.CatBoostRegressor", iterations=20, random_seed=SEED, thread_count=1, verbose=False, allow_writing_files=False)),
    ("KNeighborsClassifier", {}, _sklearn("sklearn.neighbors.KNeighborsClassifier")),
    ("KNeighborsRegressor", {"metric": "manhattan"}, _sklearn("sklearn.neighbors.KNeighborsRegressor", metric="manhattan")),
    ("SVM", {}, _sklearn("sklearn.svm.SVC")),
    ("SVM", {"kernel": "poly"}, _sklearn("sklearn.svm.SVC", kernel="poly")),
    ("SVM", {"kernel": "sigmoid"}, _sklearn("sklearn.svm.SVC", kernel="sigmoid")),
    ("SVR", {"kernel": "linear"}, _sklearn("sklearn.svm.SVR", kernel="linear")),
    ("GaussianNB", {}, _sklearn("sklearn.naive_bayes.GaussianNB")),
    ("BernoulliNB", {"binarize": 0.2}, _sklearn("sklearn.naive_bayes.BernoulliNB", binarize=0.2)),
    ("MLPClassifier", {"hidden_layer_sizes": [8], "solver": "lbfgs", "activation": "tanh"}, _sklearn("sklearn.neural_network.MLPClassifier", hidden_layer_sizes=(8,), solver="lbfgs", activation="tanh", random_state=SEED)),
    ("MLPRegressor", {"hidden_layer_sizes": [8], "solver": "lbfgs", "activation": "logistic"}, _sklearn("sklearn.neural_network.MLPRegressor", hidden_layer_sizes=(8,), solver="lbfgs", activation="logistic", random_state=SEED)),
    ("KMeans", {"k": 4}, _sklearn("sklearn.cluster.KMeans", n_clusters=4, n_init=10, random_state=SEED)),
    ("Birch", {"k": 4}, _sklearn("sklearn.cluster.Birch", n_clusters=4)),
    ("PCA", {"k": 3}, _sklearn("sklearn.decomposition.PCA", n_components=3)),
    ("PCA", {"variance": 0.7, "whiten": True}, _sklearn("sklearn.decomposition.PCA", n_components=0.7, whiten=True)),
    ("StandardScaler", {"with_mean": False}, _sklearn("sklearn.preprocessing.StandardScaler", with_mean=False)),
    ("RobustScaler", {}, _sklearn("sklearn.preprocessing.RobustScaler")),
    ("IsolationForest", {"contamination": 0.1}, _sklearn("sklearn.ensemble.IsolationForest", contamination=0.1, random_state=SEED)),
    ("OneClassSVM", {"nu": 0.1}, _sklearn("sklearn.svm.OneClassSVM", nu=0.1)),
]  # fmt: skip
REGISTRY = default_registry()


def _direct(estimator: Any, x: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, method in (
        ("predict", "predict"),
        ("proba", "predict_proba"),
        ("score", "score_samples"),
        ("components", "transform"),
    ):
        if hasattr(estimator, method):
            found[key] = np.asarray(getattr(estimator, method)(x))
    return found


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    ("name", "params", "library"), CASES, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(CASES)]
)
def test_the_numbers_are_the_library_s(
    name: str, params: dict[str, Any], library: Callable[[], Any], n_classes: int, tmp_path: Path
) -> None:
    info = REGISTRY.find(name)
    if n_classes == 3 and info.task != "classification":
        pytest.skip("classes are the classifiers' concern")
    if n_classes == 3 and params.get("loss") == "exponential":
        pytest.skip("this loss knows two classes only")
    data = example_rows(info.task, n_classes=n_classes, rows=300)
    unseen = example_rows(info.task, n_classes=n_classes, rows=200, seed=99).x
    fitted = REGISTRY.create(info, params).fit(data, RecordingRun(seed=SEED))
    formats = SafeModelFormats()
    got = formats.load(formats.save(fitted, data.x, tmp_path), tmp_path).score(unseen.astype(fitted.dtype))

    estimator = library()
    x = data.x.astype(fitted.dtype)
    estimator.fit(x) if data.y is None else estimator.fit(x, data.y)
    expected = _direct(estimator, unseen.astype(fitted.dtype))

    if info.task == "classification":
        np.testing.assert_array_equal(got["label"], expected["predict"].reshape(-1))
        assert ("probabilities" in got) == ("proba" in expected)
        if "proba" in expected:
            np.testing.assert_allclose(got["probabilities"], expected["proba"], rtol=0, atol=1e-6)
    elif info.task == "regression":
        np.testing.assert_allclose(got["value"], expected["predict"].reshape(-1), rtol=1e-6, atol=1e-6)
    elif info.task == "clustering":
        np.testing.assert_array_equal(got["cluster"], expected["predict"])
    elif info.task == "anomaly":
        np.testing.assert_array_equal(got["normal"], expected["predict"])
    else:
        np.testing.assert_allclose(got["components"], expected["components"], rtol=1e-6, atol=1e-6)
