"""Which writer turns which estimator into an ONNX graph."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kepler.adapters.formats.graph import GraphWriter
from kepler.core.algorithms import Fitted


@dataclass(slots=True)
class Written:
    """A graph, and where its answers may turn: those values are what the check looks at.

    ``thresholds`` holds split values by feature. ``boundary`` is the score at which an
    anomaly's sign turns. ``block_rows`` bounds the rows of one run where intermediate results are wide.
    """

    model: bytes
    thresholds: dict[int, npt.NDArray[np.float64]] = field(default_factory=dict[int, npt.NDArray[np.float64]])
    boundary: float | None = None
    block_rows: int = 0


class NotConvertible(Exception):
    """The estimator has no exact ONNX form here; the text says why."""


Writer = Callable[[Fitted, GraphWriter], Written]

_LINEAR = "kepler.adapters.formats.write_linear"
_TREES = "kepler.adapters.formats.write_trees"
_BOOSTERS = "kepler.adapters.formats.write_boosters"
_OTHERS = "kepler.adapters.formats.write_others"
_MODULES: dict[str, str] = {
    "sklearn.LinearRegression": f"{_LINEAR}:linear_regressor",
    "sklearn.Ridge": f"{_LINEAR}:linear_regressor",
    "sklearn.Lasso": f"{_LINEAR}:linear_regressor",
    "sklearn.ElasticNet": f"{_LINEAR}:linear_regressor",
    "sklearn.LogisticRegression": f"{_LINEAR}:logistic",
    "sklearn.DecisionTreeClassifier": f"{_TREES}:mean_classifier",
    "sklearn.DecisionTreeRegressor": f"{_TREES}:mean_regressor",
    "sklearn.ExtraTreeClassifier": f"{_TREES}:mean_classifier",
    "sklearn.ExtraTreeRegressor": f"{_TREES}:mean_regressor",
    "sklearn.RandomForestClassifier": f"{_TREES}:mean_classifier",
    "sklearn.RandomForestRegressor": f"{_TREES}:mean_regressor",
    "sklearn.ExtraTreesClassifier": f"{_TREES}:mean_classifier",
    "sklearn.ExtraTreesRegressor": f"{_TREES}:mean_regressor",
    "sklearn.GradientBoostingClassifier": f"{_TREES}:gradient_classifier",
    "sklearn.GradientBoostingRegressor": f"{_TREES}:gradient_regressor",
    "sklearn.HistGradientBoostingClassifier": f"{_TREES}:histogram_classifier",
    "sklearn.HistGradientBoostingRegressor": f"{_TREES}:histogram_regressor",
    "sklearn.IsolationForest": f"{_TREES}:isolation_forest",
    "sklearn.SGDRegressor": f"{_LINEAR}:linear_regressor",
    "sklearn.SGDClassifier": f"{_OTHERS}:sgd_classifier",
    "sklearn.GaussianNB": f"{_OTHERS}:gaussian_nb",
    "sklearn.BernoulliNB": f"{_OTHERS}:bernoulli_nb",
    "sklearn.MLPClassifier": f"{_OTHERS}:mlp_classifier",
    "sklearn.MLPRegressor": f"{_OTHERS}:mlp_regressor",
    "sklearn.SVC": f"{_OTHERS}:svc",
    "sklearn.SVR": f"{_OTHERS}:svr",
    "sklearn.OneClassSVM": f"{_OTHERS}:one_class_svm",
    "sklearn.KMeans": f"{_OTHERS}:k_means",
    "sklearn.Birch": f"{_OTHERS}:birch",
    "sklearn.PCA": f"{_OTHERS}:pca",
    "sklearn.StandardScaler": f"{_OTHERS}:scaler",
    "sklearn.RobustScaler": f"{_OTHERS}:scaler",
    "lightgbm.LGBMClassifier": f"{_BOOSTERS}:lightgbm",
    "lightgbm.LGBMRegressor": f"{_BOOSTERS}:lightgbm",
    "xgboost.XGBClassifier": f"{_BOOSTERS}:xgboost",
    "xgboost.XGBRegressor": f"{_BOOSTERS}:xgboost",
    "catboost.CatBoostClassifier": f"{_BOOSTERS}:catboost",
    "catboost.CatBoostRegressor": f"{_BOOSTERS}:catboost",
}


def kind_of(estimator: object) -> str:
    """Library and class of an estimator: ``sklearn.Ridge``."""
    cls = type(estimator)
    return f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}"


def write_onnx(fitted: Fitted, n_features: int) -> Written:
    """The graph of ``fitted``. Raises `NotConvertible`."""
    kind = kind_of(fitted.estimator)
    place = _MODULES.get(kind)
    if place is None:
        raise NotConvertible(f"{kind} has no exact ONNX form")
    module, _, name = place.partition(":")
    writer: Writer = getattr(importlib.import_module(module), name)
    return writer(fitted, GraphWriter(n_features, fitted.dtype))
