"""Forests: many trees on random parts of the rows and fields, averaged."""

from __future__ import annotations

from typing import Any

from kepler.algorithms._fitting import fit_classifier, fit_regressor
from kepler.algorithms._tables import with_params
from kepler.algorithms._trees import TreeParams, importance_tables
from kepler.core.algorithms import Fitted, Run, Task, TrainingSet, algorithm, param
from kepler.core.errors import InvalidInput

_FIELDS = ("auto", "sqrt", "log2", "none")


class _Forest(TreeParams):
    n_estimators: int = param(100, low=1, high=100_000, log=True, unit="trees", help="Number of trees.")
    max_samples: Any = param(
        None, "int|float", low=0, help="Rows (or share) drawn for each tree; with bootstrap."
    )
    scikit: str

    def options(self, run: Run) -> dict[str, Any]:
        return {
            **self.tree_options(run),
            "n_estimators": self.n_estimators,
            "max_samples": self.max_samples,
            "ccp_alpha": self.ccp_alpha,
            "n_jobs": run.threads,
        }

    def build(self, options: dict[str, Any]) -> Any:
        from sklearn import ensemble

        if options["max_samples"] is not None and not options["bootstrap"]:
            raise InvalidInput(
                "max_samples needs bootstrap=true", fix="Set bootstrap=true or leave max_samples out."
            )
        return getattr(ensemble, self.scikit)(**options)


class _ForestClassifier(_Forest):
    criterion: str = param("gini", choices=("gini", "entropy", "log_loss"), help="Measure of a split.")
    max_features: Any = param(
        "sqrt", "int|float|choice", low=0, choices=_FIELDS, help="Fields tried per split."
    )
    class_weight: str | None = param(
        None, "choice", choices=("balanced", "balanced_subsample"), help="balanced weighs rare classes up."
    )
    bootstrap: bool

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        estimator = self.build(
            {
                **self.options(run),
                "criterion": self.criterion,
                "max_features": self.fields_per_split("sqrt"),
                "class_weight": self.class_weight,
                "bootstrap": self.bootstrap,
            }
        )
        fitted = fit_classifier(estimator, data, run, dtype="float32", argmax=True)
        fitted.summary = with_params(self, importance_tables(data, estimator.feature_importances_))
        return fitted


class _ForestRegressor(_Forest):
    criterion: str = param(
        "squared_error",
        choices=("squared_error", "absolute_error", "poisson", "mse"),
        help="Measure of a split; mse is the older name of squared_error.",
    )
    max_features: Any = param(1.0, "int|float|choice", low=0, choices=_FIELDS, help="Fields tried per split.")
    bootstrap: bool

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        estimator = self.build(
            {
                **self.options(run),
                "criterion": "squared_error" if self.criterion == "mse" else self.criterion,
                "max_features": self.fields_per_split(1.0),
                "bootstrap": self.bootstrap,
            }
        )
        fitted = fit_regressor(estimator, data, run, dtype="float32")
        fitted.summary = with_params(self, importance_tables(data, estimator.feature_importances_))
        return fitted


@algorithm(
    "RandomForestClassifier", task=Task.CLASSIFICATION, aliases=("rf", "RandomForest"), native_nulls=True
)
class RandomForestClassifier(_ForestClassifier):
    """Trees on bootstrap samples of the rows; gives the mean of their probabilities.

    Missing values go the way that trained best (with nulls=native). The matrix is float32. Memory grows
    with rows x trees unless max_depth or max_leaf_nodes bounds them.
    Source: Breiman (2001); scikit-learn `RandomForestClassifier`.
    """

    scikit = "RandomForestClassifier"
    bootstrap: bool = param(True, help="Draw the rows of each tree with replacement.")


@algorithm("RandomForestRegressor", task=Task.REGRESSION, aliases=("rf", "RandomForest"), native_nulls=True)
class RandomForestRegressor(_ForestRegressor):
    """Trees on bootstrap samples of the rows; gives the mean of their values.

    Missing values go the way that trained best (with nulls=native). The matrix is float32. Memory grows
    with rows x trees unless max_depth or max_leaf_nodes bounds them.
    Source: Breiman (2001); scikit-learn `RandomForestRegressor`.
    """

    scikit = "RandomForestRegressor"
    bootstrap: bool = param(True, help="Draw the rows of each tree with replacement.")


@algorithm("ExtraTreesClassifier", task=Task.CLASSIFICATION, aliases=("et", "ExtraTrees"), native_nulls=True)
class ExtraTreesClassifier(_ForestClassifier):
    """Trees with random thresholds on all rows: quicker and smoother than a random forest, often larger.

    Missing values go the way that trained best (with nulls=native). The matrix is float32.
    Source: Geurts, Ernst and Wehenkel (2006); scikit-learn `ExtraTreesClassifier`.
    """

    scikit = "ExtraTreesClassifier"
    bootstrap: bool = param(False, help="Draw the rows of each tree with replacement.")


@algorithm("ExtraTreesRegressor", task=Task.REGRESSION, aliases=("et", "ExtraTrees"), native_nulls=True)
class ExtraTreesRegressor(_ForestRegressor):
    """Trees with random thresholds on all rows: quicker and smoother than a random forest, often larger.

    Missing values go the way that trained best (with nulls=native). The matrix is float32.
    Source: Geurts, Ernst and Wehenkel (2006); scikit-learn `ExtraTreesRegressor`.
    """

    scikit = "ExtraTreesRegressor"
    bootstrap: bool = param(False, help="Draw the rows of each tree with replacement.")
