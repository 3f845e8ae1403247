"""Fields on one scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from kepler.algorithms._fitting import fit_unsupervised, go_on_unsupervised
from kepler.algorithms._scores import ComponentScores
from kepler.algorithms._tables import table, with_params
from kepler.core.algorithms import Fitted, Run, Task, TrainingSet, algorithm, param
from kepler.core.errors import InvalidInput


@algorithm("StandardScaler", task=Task.TRANSFORM, output_prefix="SS", native_nulls=True)
class StandardScaler:
    """``SS_x``: each field minus its mean, divided by its standard deviation.

    A missing value stays missing. Source: scikit-learn `StandardScaler`.
    """

    with_mean: bool = param(True, help="Subtract the mean.")
    with_std: bool = param(True, help="Divide by the standard deviation.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        estimator = self._make()
        fitted = fit_unsupervised(
            estimator, data, run, Task.TRANSFORM, ComponentScores(estimator), copy=False
        )
        return self._described(fitted, data)

    def partial_fit(self, data: TrainingSet, run: Run, earlier: Any) -> Fitted:
        """Go on from ``earlier``; mean and deviation are those of all rows so far."""
        fitted = go_on_unsupervised(self._make(), data, run, Task.TRANSFORM, ComponentScores, earlier)
        return self._described(fitted, data)

    def _make(self) -> Any:
        from sklearn import preprocessing

        return preprocessing.StandardScaler(with_mean=self.with_mean, with_std=self.with_std)

    def _described(self, fitted: Fitted, data: TrainingSet) -> Fitted:
        estimator = fitted.estimator
        fitted.component_names = tuple(f"SS_{name}" for name in data.feature_names)
        width = len(data.feature_names)
        mean: Any = estimator.mean_ if estimator.mean_ is not None else np.full(width, np.nan)
        scale: Any = estimator.scale_ if estimator.scale_ is not None else np.ones(width)
        rows = zip(data.feature_names, mean, scale, strict=True)
        fitted.summary = with_params(self, {"default": table(("feature", "mean", "scale"), rows)})
        return fitted


@algorithm("RobustScaler", task=Task.TRANSFORM, output_prefix="RS", native_nulls=True)
class RobustScaler:
    """``RS_x``: each field minus its median, divided by the distance of its quantiles.

    A missing value stays missing. Source: scikit-learn `RobustScaler`.
    """

    with_centering: bool = param(True, help="Subtract the median.")
    with_scaling: bool = param(True, help="Divide by the distance of the quantiles.")
    quantile_low: float = param(25.0, low=0.0, high=100.0, unit="percent", help="Lower quantile.")
    quantile_high: float = param(75.0, low=0.0, high=100.0, unit="percent", help="Upper quantile.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import preprocessing

        if self.quantile_low >= self.quantile_high:
            raise InvalidInput("quantile_low is not below quantile_high", fix="Use for example 25 and 75.")
        estimator: Any = preprocessing.RobustScaler(
            with_centering=self.with_centering,
            with_scaling=self.with_scaling,
            quantile_range=(self.quantile_low, self.quantile_high),
        )
        fitted = fit_unsupervised(
            estimator, data, run, Task.TRANSFORM, ComponentScores(estimator), copy=False
        )
        fitted.component_names = tuple(f"RS_{name}" for name in data.feature_names)
        width = len(data.feature_names)
        centre: Any = estimator.center_ if estimator.center_ is not None else np.zeros(width)
        scale: Any = estimator.scale_ if estimator.scale_ is not None else np.ones(width)
        rows = zip(data.feature_names, centre, scale, strict=True)
        fitted.summary = with_params(self, {"default": table(("feature", "center", "scale"), rows)})
        return fitted
