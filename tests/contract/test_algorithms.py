"""Every registered algorithm keeps the contract of `kepler.testing.check_algorithm`."""

from __future__ import annotations

import pytest

from kepler.adapters.formats import SafeModelFormats
from kepler.core.algorithms import AlgorithmInfo, Task
from kepler.registry import default_registry
from kepler.testing import check_algorithm

REGISTRY = default_registry()
# Fewer rounds where the default is many: the contract is the same and the tests stay quick.
QUICK = {
    "CatBoostClassifier": {"iterations": 20},
    "CatBoostRegressor": {"iterations": 20},
    "RandomForestClassifier": {"n_estimators": 10},
    "RandomForestRegressor": {"n_estimators": 10},
    "ExtraTreesClassifier": {"n_estimators": 10},
    "ExtraTreesRegressor": {"n_estimators": 10},
    "GradientBoostingClassifier": {"n_estimators": 10},
    "GradientBoostingRegressor": {"n_estimators": 10},
    "HistGradientBoostingClassifier": {"max_iter": 10},
    "HistGradientBoostingRegressor": {"max_iter": 10},
    "LightGBMClassifier": {"n_estimators": 20},
    "LightGBMRegressor": {"n_estimators": 20},
    "XGBoostClassifier": {"n_estimators": 20},
    "XGBoostRegressor": {"n_estimators": 20},
    "IsolationForest": {"n_estimators": 20},
    "MLPClassifier": {"hidden_layer_sizes": [8, 4], "max_iter": 30},
    "MLPRegressor": {"hidden_layer_sizes": [8, 4], "max_iter": 30},
}
ANY_COLUMN_ORDER = {
    "LinearRegression", "Ridge", "Lasso", "ElasticNet", "LogisticRegression", "GaussianNB", "BernoulliNB",
    "KNeighborsClassifier", "KNeighborsRegressor", "SVM", "SVR", "OneClassSVM",
}  # fmt: skip
DOTTED = (
    "sklearn.linear_model.Lars",
    "sklearn.ensemble.AdaBoostClassifier",
    "sklearn.cluster.MiniBatchKMeans",
)
CASES = [(info, k) for info in REGISTRY.all() for k in ((2, 3) if info.task is Task.CLASSIFICATION else (2,))]


@pytest.mark.parametrize(("info", "n_classes"), CASES, ids=[f"{info.name}-{k}" for info, k in CASES])
def test_it_keeps_the_contract(info: AlgorithmInfo, n_classes: int) -> None:
    check_algorithm(REGISTRY, info, SafeModelFormats(), params=QUICK.get(info.name), n_classes=n_classes)


@pytest.mark.parametrize("name", DOTTED)
def test_a_dotted_estimator_keeps_it_too(name: str) -> None:
    check_algorithm(REGISTRY, REGISTRY.find(name), SafeModelFormats())
