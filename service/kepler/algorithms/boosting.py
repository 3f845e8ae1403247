"""Boosted trees of scikit-learn: each tree corrects the sum of those before it."""

from __future__ import annotations

from typing import Any

import numpy as np

from kepler.algorithms._fitting import Seeded, fit_classifier, fit_regressor
from kepler.algorithms._tables import with_params
from kepler.algorithms._trees import TreeParams, importance_tables
from kepler.core.algorithms import Fitted, Run, Task, TrainingSet, algorithm, param
from kepler.core.errors import InvalidInput

_FIELDS = ("auto", "sqrt", "log2")
_OLD_LOSSES = {"deviance": "log_loss", "ls": "squared_error", "lad": "absolute_error"}


class _Gradient(TreeParams):
    n_estimators: int = param(100, low=1, high=100_000, log=True, unit="trees", help="Number of rounds.")
    learning_rate: float = param(0.1, low=0.0, high=10.0, log=True, help="Weight of each tree.")
    max_depth: int | None = param(
        3, "int|choice", low=1, high=1_000, choices=("none",), help="Most questions in a row."
    )
    subsample: float = param(1.0, low=1e-6, high=1.0, help="Share of the rows drawn for each tree.")
    max_features: Any = param(
        None, "int|float|choice", low=0, choices=_FIELDS, help="Fields tried per split."
    )
    n_iter_no_change: int | None = param(None, "int", low=1, help="Stop after this many rounds without gain.")
    validation_fraction: float = param(0.1, low=1e-6, high=0.999999, help="Rows kept aside to see that gain.")
    tol: float = param(1e-4, low=0.0, help="Least gain that counts.")
    loss: str

    def options(self, run: Run, auto: str | None) -> dict[str, Any]:
        return {
            **self.tree_options(run),
            "ccp_alpha": self.ccp_alpha,
            "n_estimators": self.n_estimators,
            "learning_rate": self.learning_rate,
            "subsample": self.subsample,
            "max_features": self.fields_per_split(auto),
            "n_iter_no_change": self.n_iter_no_change,
            "validation_fraction": self.validation_fraction,
            "tol": self.tol,
            "loss": _OLD_LOSSES.get(self.loss, self.loss),
        }


@algorithm("GradientBoostingClassifier", task=Task.CLASSIFICATION, aliases=("gbm", "GradientBoosting"))
class GradientBoostingClassifier(_Gradient):
    """Boosted shallow trees for two classes or many. HistGradientBoostingClassifier is far quicker on many rows.

    Missing values are not taken. The matrix is float32.
    Source: Friedman (2001); scikit-learn `GradientBoostingClassifier`.
    """

    loss: str = param(
        "log_loss",
        choices=("log_loss", "exponential", "deviance"),
        help="deviance is the older name of log_loss.",
    )

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import ensemble

        estimator = ensemble.GradientBoostingClassifier(**self.options(run, "sqrt"))
        fitted = fit_classifier(estimator, data, run, dtype="float32")
        fitted.summary = with_params(self, importance_tables(data, estimator.feature_importances_))
        return fitted


@algorithm("GradientBoostingRegressor", task=Task.REGRESSION, aliases=("gbm", "GradientBoosting"))
class GradientBoostingRegressor(_Gradient):
    """Boosted shallow trees for numbers. HistGradientBoostingRegressor is far quicker on many rows.

    Missing values are not taken. The matrix is float32.
    Source: Friedman (2001); scikit-learn `GradientBoostingRegressor`.
    """

    loss: str = param(
        "squared_error",
        choices=("squared_error", "absolute_error", "huber", "quantile", "ls", "lad"),
        help="ls and lad are the older names of squared_error and absolute_error.",
    )
    alpha: float = param(0.9, low=1e-6, high=0.999999, help="Quantile of the huber and quantile losses.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import ensemble

        estimator = ensemble.GradientBoostingRegressor(**self.options(run, None), alpha=self.alpha)
        fitted = fit_regressor(estimator, data, run, dtype="float32")
        fitted.summary = with_params(self, importance_tables(data, estimator.feature_importances_))
        return fitted


class _Histogram(Seeded):
    learning_rate: float = param(0.1, low=1e-6, high=10.0, log=True, help="Weight of each tree.")
    max_iter: int = param(
        100, low=1, high=100_000, log=True, unit="trees", help="Number of rounds.", aliases=("n_estimators",)
    )
    max_leaf_nodes: int | None = param(
        31, "int|choice", low=2, high=65_536, choices=("none",), unit="leaves", help="Most leaves of a tree."
    )
    max_depth: int | None = param(None, "int", low=1, high=1_000, help="Most questions in a row.")
    min_samples_leaf: int = param(20, low=1, high=10_000_000, unit="rows", help="Fewest rows in a leaf.")
    l2_regularization: float = param(0.0, low=0.0, help="Penalty on large leaf values.")
    max_features: float = param(1.0, low=1e-6, high=1.0, help="Share of the fields tried per split.")
    max_bins: int = param(255, low=2, high=255, help="Bins per field.")
    early_stopping: str = param(
        "auto", choices=("auto", "true", "false"), help="Stop when rows kept aside gain no more."
    )
    n_iter_no_change: int = param(10, low=1, help="Rounds without gain before it stops.")
    validation_fraction: float = param(0.1, low=1e-6, high=0.999999, help="Rows kept aside to see that gain.")
    tol: float = param(1e-7, low=0.0, help="Least gain that counts.")

    def options(self, data: TrainingSet, run: Run) -> dict[str, Any]:
        names = (
            "learning_rate", "max_iter", "max_leaf_nodes", "max_depth", "min_samples_leaf", "l2_regularization",
            "max_features", "max_bins", "n_iter_no_change", "validation_fraction", "tol",
        )  # fmt: skip
        stopping = {"auto": "auto", "true": True, "false": False}[self.early_stopping]
        chosen = {name: getattr(self, name) for name in names}
        for at in data.categorical:
            codes = data.x[:, at]
            found = len(np.unique(codes[np.isfinite(codes)]))
            if found > self.max_bins:
                raise InvalidInput(
                    f"Field '{data.feature_names[at]}' has {found:,} different texts, and scikit-learn's histogram "
                    f"boosting takes at most max_bins={self.max_bins} as they are (categoricals=native)",
                    fix="Use categoricals=target, or LightGBM or CatBoost.",
                )
        # The matrix is numbers throughout: nothing is to be guessed a category from its type.
        return {
            **chosen,
            "early_stopping": stopping,
            "random_state": self.seed_for(run),
            "categorical_features": list(data.categorical) or None,
        }


def _savable(estimator: Any) -> None:
    """Make what scikit-learn puts before the trees, where fields are categories, one that a safe file can hold.

    It encodes the categories and, for the numbers, calls a function that only checks them and makes them
    float64: the encoder's columns beside them do the same.
    """
    before = getattr(estimator, "_preprocessor", None)
    if before is not None:
        before.named_transformers_["numerical"].func = None
        before.transformers = [
            (name, part.set_params(func=None) if name == "numerical" else part, columns)
            for name, part, columns in before.transformers
        ]


@algorithm(
    "HistGradientBoostingClassifier",
    task=Task.CLASSIFICATION,
    aliases=("hgb", "HistGradientBoosting"),
    native_nulls=True,
    native_categoricals=True,
)
class HistGradientBoostingClassifier(_Histogram):
    """Boosted trees on binned fields: quick on many rows, takes missing values as they are.

    The matrix is float32. Source: scikit-learn `HistGradientBoostingClassifier`, after LightGBM.
    """

    class_weight: str | None = param(
        None, "choice", choices=("balanced",), help="balanced weighs rare classes up."
    )

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import ensemble

        estimator = ensemble.HistGradientBoostingClassifier(
            **self.options(data, run), class_weight=self.class_weight
        )
        fitted = fit_classifier(estimator, data, run, dtype="float32")
        _savable(estimator)
        fitted.summary = with_params(self, {})
        return fitted


@algorithm(
    "HistGradientBoostingRegressor",
    task=Task.REGRESSION,
    aliases=("hgb", "HistGradientBoosting"),
    native_nulls=True,
    native_categoricals=True,
)
class HistGradientBoostingRegressor(_Histogram):
    """Boosted trees on binned fields: quick on many rows, takes missing values as they are.

    The matrix is float32. Source: scikit-learn `HistGradientBoostingRegressor`, after LightGBM.
    """

    loss: str = param(
        "squared_error",
        choices=("squared_error", "absolute_error", "gamma", "poisson", "quantile"),
        help="What is made small.",
    )
    quantile: float = param(0.5, low=0.0, high=1.0, help="Quantile of the quantile loss.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import ensemble

        quantile = self.quantile if self.loss == "quantile" else None
        estimator = ensemble.HistGradientBoostingRegressor(
            **self.options(data, run), loss=self.loss, quantile=quantile
        )
        fitted = fit_regressor(estimator, data, run, dtype="float32")
        _savable(estimator)
        fitted.summary = with_params(self, {})
        return fitted
