"""Short names of algorithms: one word for a classifier and its regressor, the target decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kepler.client.records import AlgorithmDescription
from kepler.core.errors import InvalidInput

SHORTCUTS: dict[str, tuple[str, ...]] = {
    "lightgbm": ("LightGBMClassifier", "LightGBMRegressor"),
    "xgboost": ("XGBoostClassifier", "XGBoostRegressor"),
    "catboost": ("CatBoostClassifier", "CatBoostRegressor"),
    "random_forest": ("RandomForestClassifier", "RandomForestRegressor"),
    "extra_trees": ("ExtraTreesClassifier", "ExtraTreesRegressor"),
    "decision_tree": ("DecisionTreeClassifier", "DecisionTreeRegressor"),
    "gradient_boosting": ("GradientBoostingClassifier", "GradientBoostingRegressor"),
    "hist_gradient_boosting": ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"),
    "knn": ("KNeighborsClassifier", "KNeighborsRegressor"),
    "svm": ("SVM", "SVR"),
    "mlp": ("MLPClassifier", "MLPRegressor"),
    "sgd": ("SGDClassifier", "SGDRegressor"),
    "linear_regression": ("LinearRegression",),
    "logistic_regression": ("LogisticRegression",),
    "ridge": ("Ridge",),
    "lasso": ("Lasso",),
    "elastic_net": ("ElasticNet",),
    "gaussian_nb": ("GaussianNB",),
    "bernoulli_nb": ("BernoulliNB",),
    "kmeans": ("KMeans",),
    "birch": ("Birch",),
    "dbscan": ("DBSCAN",),
    "pca": ("PCA",),
    "standard_scaler": ("StandardScaler",),
    "robust_scaler": ("RobustScaler",),
    "isolation_forest": ("IsolationForest",),
    "one_class_svm": ("OneClassSVM",),
    "local_outlier_factor": ("LocalOutlierFactor",),
}
"""Shortcut to canonical names: one, or classifier and regressor."""

_FOLDED = {name.replace("_", ""): names for name, names in SHORTCUTS.items()}
TASKS = ("classification", "regression")


def canonical(
    algorithm: str,
    task: str,
    guess: Callable[[], tuple[str, str]],
    known: Callable[[], Iterable[AlgorithmDescription]] = tuple,
) -> tuple[str, str]:
    """Canonical name for ``algorithm`` and a sentence when something was chosen; other names pass as they are.

    ``guess`` looks at the target; ``known`` asks the service, whose aliases may mean two algorithms as well.

    >>> canonical("lightgbm", "regression", lambda: ("", ""))
    ('LightGBMRegressor', '')
    >>> canonical("Novel", "auto", lambda: ("", ""))
    ('Novel', '')
    """
    if task not in ("auto", *TASKS):
        raise InvalidInput(f"There is no task {task!r}", fix=f"Use auto, {' or '.join(TASKS)}")
    names = _FOLDED.get(algorithm.replace("_", "").replace("-", "").lower())
    if names is None:
        names = _sharing(algorithm, known())
    if names is None:
        return algorithm, ""
    if len(names) == 1:
        return names[0], ""
    if task != "auto":
        return names[TASKS.index(task)], ""
    task, why = guess()
    chosen = names[TASKS.index(task)]
    other = TASKS[1 - TASKS.index(task)]
    return chosen, f"{chosen} was taken, for {why}; task={other!r} takes the other."


def _sharing(alias: str, known: Iterable[AlgorithmDescription]) -> tuple[str, str] | None:
    """The classifier and the regressor that share ``alias``, if just these two do."""
    by_task = {
        task: item.name
        for item in known
        if alias.lower() in (other.lower() for other in item.aliases)
        for task in item.tasks
    }
    if set(by_task) != set(TASKS):
        return None
    return by_task[TASKS[0]], by_task[TASKS[1]]
