"""Each algorithm as its library offers it: what a data scientist would write without us.

``spl`` are the parameters of the search, ``make`` the same call of the library with our default seed. Trees,
forests and boosters are handed float32, as the library or we train on it; everything else float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kepler.core.training import DEFAULT_SEED

Make = Callable[[], Any]
SEED = DEFAULT_SEED


@dataclass(frozen=True)
class Twin:
    make: Make
    spl: str = ""
    dtype: str = "float64"


def _sk(module: str, name: str, **options: Any) -> Make:
    def make() -> Any:
        import importlib

        return getattr(importlib.import_module(f"sklearn.{module}"), name)(**options)

    return make


def _other(module: str, name: str, **options: Any) -> Make:
    def make() -> Any:
        import importlib

        return getattr(importlib.import_module(module), name)(**options)

    return make


def _trees(module: str, name: str, spl: str = "n_estimators=20", **options: Any) -> Twin:
    size = {"n_estimators": 20} if "n_estimators" in spl else {}
    return Twin(_sk(module, name, random_state=SEED, **size, **options), spl, "float32")


_LGBM = {"n_estimators": 20, "random_state": SEED, "n_jobs": 1, "verbosity": -1}
_LGBM |= {"deterministic": True, "force_col_wise": True}
_XGB = {"n_estimators": 20, "random_state": SEED, "n_jobs": 1}
_CAT = {
    "iterations": 20,
    "random_seed": SEED,
    "thread_count": 1,
    "verbose": False,
    "allow_writing_files": False,
}
_MLP = {"hidden_layer_sizes": (8, 4), "max_iter": 30, "random_state": SEED}
_MLP_SPL = "hidden_layer_sizes=8-4 max_iter=30"

TWINS: dict[str, Twin] = {
    "LinearRegression": Twin(_sk("linear_model", "LinearRegression")),
    "Ridge": Twin(_sk("linear_model", "Ridge", alpha=0.5), "alpha=0.5"),
    "Lasso": Twin(_sk("linear_model", "Lasso", alpha=0.1), "alpha=0.1"),
    "ElasticNet": Twin(
        _sk("linear_model", "ElasticNet", alpha=0.01, l1_ratio=0.7), "alpha=0.01 l1_ratio=0.7"
    ),
    "LogisticRegression": Twin(_sk("linear_model", "LogisticRegression", random_state=SEED)),
    "SGDClassifier": Twin(_sk("linear_model", "SGDClassifier", random_state=SEED)),
    "SGDRegressor": Twin(_sk("linear_model", "SGDRegressor", random_state=SEED)),
    "DecisionTreeClassifier": _trees("tree", "DecisionTreeClassifier", spl=""),
    "DecisionTreeRegressor": _trees("tree", "DecisionTreeRegressor", spl=""),
    "RandomForestClassifier": _trees("ensemble", "RandomForestClassifier"),
    "RandomForestRegressor": _trees("ensemble", "RandomForestRegressor"),
    "ExtraTreesClassifier": _trees("ensemble", "ExtraTreesClassifier"),
    "ExtraTreesRegressor": _trees("ensemble", "ExtraTreesRegressor"),
    "GradientBoostingClassifier": _trees("ensemble", "GradientBoostingClassifier"),
    "GradientBoostingRegressor": _trees("ensemble", "GradientBoostingRegressor"),
    "HistGradientBoostingClassifier": _trees(
        "ensemble", "HistGradientBoostingClassifier", spl="max_iter=20", max_iter=20
    ),
    "HistGradientBoostingRegressor": _trees(
        "ensemble", "HistGradientBoostingRegressor", spl="max_iter=20", max_iter=20
    ),
    "XGBoostClassifier": Twin(_other("xgboost", "XGBClassifier", **_XGB), "n_estimators=20", "float32"),
    "XGBoostRegressor": Twin(_other("xgboost", "XGBRegressor", **_XGB), "n_estimators=20", "float32"),
    "LightGBMClassifier": Twin(_other("lightgbm", "LGBMClassifier", **_LGBM), "n_estimators=20", "float32"),
    "LightGBMRegressor": Twin(_other("lightgbm", "LGBMRegressor", **_LGBM), "n_estimators=20", "float32"),
    "CatBoostClassifier": Twin(_other("catboost", "CatBoostClassifier", **_CAT), "iterations=20", "float32"),
    "CatBoostRegressor": Twin(_other("catboost", "CatBoostRegressor", **_CAT), "iterations=20", "float32"),
    "KNeighborsClassifier": Twin(_sk("neighbors", "KNeighborsClassifier", n_neighbors=7), "k=7"),
    "KNeighborsRegressor": Twin(
        _sk("neighbors", "KNeighborsRegressor", weights="distance"), "weights=distance"
    ),
    "SVM": Twin(_sk("svm", "SVC", C=10, gamma=0.001), "C=10 gamma=0.001"),
    "SVR": Twin(_sk("svm", "SVR", epsilon=0.2), "epsilon=0.2"),
    "GaussianNB": Twin(_sk("naive_bayes", "GaussianNB")),
    "BernoulliNB": Twin(_sk("naive_bayes", "BernoulliNB", alpha=0.5, binarize=2.0), "alpha=0.5 binarize=2"),
    "MLPClassifier": Twin(_sk("neural_network", "MLPClassifier", **_MLP), _MLP_SPL),
    "MLPRegressor": Twin(_sk("neural_network", "MLPRegressor", **_MLP), _MLP_SPL),
    "KMeans": Twin(_sk("cluster", "KMeans", n_clusters=3, n_init=10, random_state=SEED), "k=3"),
    "Birch": Twin(_sk("cluster", "Birch", n_clusters=3), "k=3"),
    "DBSCAN": Twin(_sk("cluster", "DBSCAN", eps=40, min_samples=4), "eps=40 min_samples=4"),
    "PCA": Twin(_sk("decomposition", "PCA", n_components=3, svd_solver="full"), "k=3"),
    "StandardScaler": Twin(_sk("preprocessing", "StandardScaler")),
    "RobustScaler": Twin(_sk("preprocessing", "RobustScaler")),
    "IsolationForest": Twin(
        _sk("ensemble", "IsolationForest", n_estimators=20, random_state=SEED), "n_estimators=20", "float32"
    ),
    "OneClassSVM": Twin(_sk("svm", "OneClassSVM", nu=0.1, gamma=1e-4), "nu=0.1 gamma=0.0001"),
    "LocalOutlierFactor": Twin(_sk("neighbors", "LocalOutlierFactor", n_neighbors=10), "n_neighbors=10"),
}
