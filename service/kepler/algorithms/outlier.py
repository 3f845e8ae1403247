"""Outliers: rows unlike the rest, without a target. ``normal`` is 1 or -1; a higher score is stranger."""

from __future__ import annotations

from typing import Any

import numpy as np

from kepler.algorithms._fitting import Seeded, fit_unsupervised
from kepler.algorithms._scores import AnomalyScores
from kepler.algorithms._tables import table, with_params
from kepler.core.algorithms import Fitted, Run, SummaryTable, Task, TrainingSet, algorithm, param

_SHARE = "float|choice"


def _counts(normal: np.ndarray) -> dict[str, SummaryTable]:
    rows = [("normal", int((normal == 1).sum())), ("outlier", int((normal == -1).sum()))]
    return {"default": table(("kind", "rows"), rows)}


@algorithm("IsolationForest", task=Task.ANOMALY, native_nulls=True)
class IsolationForest(Seeded):
    """Random splits isolate strange rows sooner. The score lies in 0..1, about 0.5 for ordinary rows.

    Missing values go the way that trained best (with nulls=native). The matrix is float32.
    Source: Liu, Ting and Zhou (2008); scikit-learn `IsolationForest`.
    """

    n_estimators: int = param(100, low=1, high=100_000, log=True, unit="trees", help="Number of trees.")
    max_samples: Any = param(
        "auto", "int|float|choice", low=0, choices=("auto",), help="Rows (or share) of a tree."
    )
    contamination: Any = param(
        "auto",
        _SHARE,
        low=1e-9,
        high=0.5,
        choices=("auto",),
        help="Share of outliers; auto uses the score 0.5.",
    )
    max_features: Any = param(1.0, "int|float", low=0, help="Fields (or share) of a tree.")
    bootstrap: bool = param(False, help="Draw the rows with replacement.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import ensemble

        estimator = ensemble.IsolationForest(
            n_estimators=self.n_estimators,
            max_samples=self.max_samples,
            contamination=self.contamination,
            max_features=self.max_features,
            bootstrap=self.bootstrap,
            random_state=self.seed_for(run),
            n_jobs=run.threads,
        )
        scores = AnomalyScores(estimator)
        fitted = fit_unsupervised(estimator, data, run, Task.ANOMALY, scores, dtype="float32")
        fitted.summary = with_params(self, {})
        return fitted


@algorithm("OneClassSVM", task=Task.ANOMALY)
class OneClassSVM:
    """A border around most rows; what lies outside is an outlier. Scale the fields first.

    The score is the distance outside the border, negative inside. Training time grows with the square of
    the rows. Missing values are not taken. Source: Schölkopf et al. (2001); scikit-learn `OneClassSVM`.
    """

    kernel: str = param("rbf", choices=("rbf", "linear", "poly", "sigmoid"), help="Likeness of two rows.")
    nu: float = param(0.5, low=1e-9, high=1.0, help="Upper bound of the share of outliers.")
    gamma: Any = param(
        "scale",
        "float|choice",
        low=0.0,
        choices=("scale", "auto"),
        log=True,
        help="Reach of a row; higher is nearer.",
    )
    degree: int = param(3, low=0, high=50, help="Degree of the poly kernel.")
    coef0: float = param(0.0, help="Constant of the poly and sigmoid kernels.")
    shrinking: bool = param(True, help="Use the shrinking heuristic.")
    tol: float = param(1e-3, low=1e-15, high=1.0, log=True, help="Stop below this error.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import svm

        names = ("kernel", "nu", "gamma", "degree", "coef0", "shrinking", "tol")
        estimator = svm.OneClassSVM(**{name: getattr(self, name) for name in names})
        fitted = fit_unsupervised(estimator, data, run, Task.ANOMALY, AnomalyScores(estimator))
        fitted.summary = with_params(self, {})
        return fitted


@algorithm("LocalOutlierFactor", task=Task.ANOMALY, savable=False, aliases=("LOF",))
class LocalOutlierFactor:
    """A row in a thinner neighbourhood than its neighbours' is an outlier; the score is that ratio.

    Answers only for the rows it was given: it cannot be saved. Missing values are not taken.
    Source: Breunig et al. (2000); scikit-learn `LocalOutlierFactor`.
    """

    n_neighbors: int = param(20, low=1, high=100_000, unit="rows", help="Size of the neighbourhood.")
    algorithm: str = param("auto", choices=("auto", "ball_tree", "kd_tree", "brute"), help="How it is found.")
    leaf_size: int = param(30, low=1, high=1_000_000, unit="rows", help="Rows in a leaf of the search tree.")
    metric: str = param(
        "minkowski", choices=("minkowski", "euclidean", "manhattan", "chebyshev", "cosine"), help="Distance."
    )
    p: float = param(2.0, low=1.0, high=100.0, help="Power of the distance: 1 city block, 2 Euclid.")
    contamination: Any = param(
        "auto", _SHARE, low=1e-9, high=0.5, choices=("auto",), help="Share of outliers."
    )
    anomaly_score: bool = param(True, help="Give the score beside the verdict.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import neighbors

        names = ("n_neighbors", "algorithm", "leaf_size", "metric", "p", "contamination")
        options = {name: getattr(self, name) for name in names}
        estimator = neighbors.LocalOutlierFactor(**options, n_jobs=run.threads)
        fitted = fit_unsupervised(estimator, data, run, Task.ANOMALY, None)
        factor = -estimator.negative_outlier_factor_
        normal = np.where(estimator.negative_outlier_factor_ < estimator.offset_, -1, 1).astype(np.int64)
        fitted.training_scores = {"normal": normal, **({"score": factor} if self.anomaly_score else {})}
        fitted.summary = with_params(self, _counts(normal))
        return fitted
