"""Nearest neighbours: the answer of the rows most like this one."""

from __future__ import annotations

from typing import Any

from kepler.algorithms._fitting import fit_classifier, fit_regressor
from kepler.algorithms._tables import with_params
from kepler.core.algorithms import Fitted, Run, Task, TrainingSet, algorithm, param


class _Neighbors:
    n_neighbors: int = param(
        5, low=1, high=100_000, unit="rows", help="How many neighbours answer.", aliases=("k",)
    )
    weights: str = param(
        "uniform", choices=("uniform", "distance"), help="distance lets nearer ones weigh more."
    )
    algorithm: str = param(
        "auto", choices=("auto", "ball_tree", "kd_tree", "brute"), help="How they are found."
    )
    leaf_size: int = param(30, low=1, high=1_000_000, unit="rows", help="Rows in a leaf of the search tree.")
    p: float = param(2.0, low=1.0, high=100.0, help="Power of the distance: 1 city block, 2 Euclid.")
    metric: str = param(
        "minkowski", choices=("minkowski", "euclidean", "manhattan", "chebyshev", "cosine"), help="Distance."
    )

    def options(self, run: Run) -> dict[str, Any]:
        names = ("n_neighbors", "weights", "algorithm", "leaf_size", "p", "metric")
        return {**{name: getattr(self, name) for name in names}, "n_jobs": run.threads}


@algorithm("KNeighborsClassifier", task=Task.CLASSIFICATION, aliases=("KNNClassifier", "knn"))
class KNeighborsClassifier(_Neighbors):
    """The most frequent class among the nearest training rows; scale the fields first.

    Keeps every training row in the model: size and time to answer grow with them. Missing values are not
    taken. Source: scikit-learn `KNeighborsClassifier`.
    """

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import neighbors

        fitted = fit_classifier(neighbors.KNeighborsClassifier(**self.options(run)), data, run)
        fitted.summary = with_params(self, {})
        return fitted


@algorithm("KNeighborsRegressor", task=Task.REGRESSION, aliases=("KNNRegressor", "knn"))
class KNeighborsRegressor(_Neighbors):
    """The mean of the nearest training rows; scale the fields first.

    Keeps every training row in the model: size and time to answer grow with them. Missing values are not
    taken. Source: scikit-learn `KNeighborsRegressor`.
    """

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import neighbors

        fitted = fit_regressor(neighbors.KNeighborsRegressor(**self.options(run)), data, run)
        fitted.summary = with_params(self, {})
        return fitted
