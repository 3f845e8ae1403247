"""Fewer fields that keep most of what many said."""

from __future__ import annotations

from typing import Any

from kepler.algorithms._fitting import Seeded, fit_unsupervised
from kepler.algorithms._scores import ComponentScores
from kepler.algorithms._tables import table, with_params
from kepler.core.algorithms import Fitted, Run, Task, TrainingSet, algorithm, param
from kepler.core.errors import InvalidInput


@algorithm("PCA", task=Task.TRANSFORM, output_prefix="PC")
class PCA(Seeded):
    """Principal components ``PC_1`` ...: directions of most variance; scale the fields first.

    ``k`` says how many, or ``variance`` how much of the variance to keep. Missing values are not taken.
    Source: Pearson (1901); scikit-learn `PCA`.
    """

    k: int | None = param(
        None, "int", low=1, high=1_000_000, help="Number of components.", aliases=("n_components",)
    )
    variance: float | None = param(None, "float", low=1e-6, high=1.0, help="Share of the variance to keep.")
    whiten: bool = param(False, help="Give every component variance 1.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import decomposition

        most = min(data.x.shape)
        if self.k is not None and self.k > most:
            raise InvalidInput(
                f"Invalid value for k: {self.k} components of {data.x.shape[1]} fields and {len(data.x)} rows",
                fix=f"Use k={most} or less.",
            )
        if self.k is not None and self.variance is not None:
            raise InvalidInput("PCA takes k or variance, not both", fix="Leave one of them out.")
        # The full solver knows no chance: same rows, same components.
        wanted = self.k if self.variance is None or self.variance >= 1.0 else self.variance
        estimator: Any = decomposition.PCA(
            n_components=wanted, whiten=self.whiten, svd_solver="full", random_state=self.seed_for(run)
        )
        fitted = fit_unsupervised(
            estimator, data, run, Task.TRANSFORM, ComponentScores(estimator), copy=False
        )
        names = tuple(f"PC_{i + 1}" for i in range(estimator.n_components_))
        fitted.component_names = names
        rows = (
            (name, variance, ratio, *weights)
            for name, variance, ratio, weights in zip(
                names,
                estimator.explained_variance_,
                estimator.explained_variance_ratio_,
                estimator.components_,
                strict=True,
            )
        )
        columns = ("component", "explained_variance", "explained_variance_ratio", *data.feature_names)
        fitted.summary = with_params(self, {"default": table(columns, rows)})
        return fitted
