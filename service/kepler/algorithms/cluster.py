"""Clustering: rows that belong together, without a target."""

from __future__ import annotations

from typing import Any

import numpy as np

from kepler.algorithms._fitting import Seeded, fit_unsupervised, go_on_unsupervised
from kepler.algorithms._scores import CentreScores
from kepler.algorithms._tables import table, with_params
from kepler.core.algorithms import Fitted, Run, SummaryTable, Task, TrainingSet, algorithm, param
from kepler.core.errors import InvalidInput


def _centres(data: TrainingSet, centres: np.ndarray, labels: np.ndarray) -> SummaryTable:
    counts = np.bincount(labels, minlength=len(centres))
    rows = ((k, counts[k], *centre) for k, centre in enumerate(centres))
    return table(("cluster", "rows", *data.feature_names), rows)


def _need_rows(name: str, data: TrainingSet, k: int) -> None:
    if len(data.x) < k:
        raise InvalidInput(f"{name} cannot make {k} clusters of {len(data.x)} rows", fix="Lower k.")


@algorithm("KMeans", task=Task.CLUSTERING)
class KMeans(Seeded):
    """k clusters around their means; scale the fields first.

    ``distance`` is to the centre of the row's cluster. Missing values are not taken.
    Source: Lloyd (1982), Arthur and Vassilvitskii (2007); scikit-learn `KMeans`.
    """

    k: int = param(
        8, low=1, high=100_000, unit="clusters", help="Number of clusters.", aliases=("n_clusters",)
    )
    n_init: Any = param(10, low=1, high=1_000, help="Starts, of which the best is kept.")
    max_iter: int = param(300, low=1, high=1_000_000, help="Most iterations of a start.")
    tol: float = param(1e-4, low=0.0, high=1.0, log=True, help="Stop when the centres move less.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import cluster

        _need_rows("KMeans", data, self.k)
        estimator: Any = cluster.KMeans(
            n_clusters=self.k,
            n_init=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            random_state=self.seed_for(run),
        )
        fitted = fit_unsupervised(estimator, data, run, Task.CLUSTERING, CentreScores(estimator))
        tables = {"default": _centres(data, estimator.cluster_centers_, estimator.labels_)}
        fitted.summary = with_params(self, tables)
        return fitted


@algorithm("Birch", task=Task.CLUSTERING)
class Birch:
    """Summarizes rows in a tree of subclusters, then groups those into k; for many rows.

    Missing values are not taken. Source: Zhang, Ramakrishnan and Livny (1996); scikit-learn `Birch`.
    """

    k: Any = param(
        3, "int|choice", low=1, high=100_000, choices=("none",), unit="clusters",
        help="Number of clusters; none gives the subclusters.", aliases=("n_clusters",),
    )  # fmt: skip
    threshold: float = param(0.5, low=1e-12, log=True, help="Largest radius of a subcluster.")
    branching_factor: int = param(50, low=2, high=100_000, help="Most subclusters of a node.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        _need_rows("Birch", data, self.k or 1)
        estimator = self._make()
        fitted = fit_unsupervised(estimator, data, run, Task.CLUSTERING, CentreScores(estimator))
        fitted.summary = with_params(self, {})
        return fitted

    def partial_fit(self, data: TrainingSet, run: Run, earlier: Any) -> Fitted:
        """Go on from ``earlier``: its tree grows, then its subclusters are grouped anew into k."""
        if earlier is None:
            _need_rows("Birch", data, self.k or 1)
        fitted = go_on_unsupervised(self._make(), data, run, Task.CLUSTERING, CentreScores, earlier)
        fitted.summary = with_params(self, {})
        return fitted

    def _make(self) -> Any:
        from sklearn import cluster

        k: Any = self.k
        return cluster.Birch(n_clusters=k, threshold=self.threshold, branching_factor=self.branching_factor)


@algorithm("DBSCAN", task=Task.CLUSTERING, savable=False)
class DBSCAN:
    """Clusters are dense regions; rows in none of them get cluster -1.

    Answers only for the rows it was given: it cannot be saved. Missing values are not taken. Memory grows
    with the number of pairs within ``eps``. Source: Ester et al. (1996); scikit-learn `DBSCAN`.
    """

    eps: float = param(0.5, low=1e-300, log=True, help="How near is a neighbour.")
    min_samples: int = param(
        5, low=1, high=10_000_000, unit="rows", help="Neighbours that make a region dense."
    )

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import cluster

        estimator: Any = cluster.DBSCAN(eps=self.eps, min_samples=self.min_samples, n_jobs=run.threads)
        fitted = fit_unsupervised(estimator, data, run, Task.CLUSTERING, None)
        fitted.training_scores = {"cluster": np.asarray(estimator.labels_, dtype=np.int64)}
        labels, counts = np.unique(estimator.labels_, return_counts=True)
        fitted.summary = with_params(
            self, {"default": table(("cluster", "rows"), zip(labels, counts, strict=True))}
        )
        return fitted
