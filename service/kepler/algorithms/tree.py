"""Single decision trees."""

from __future__ import annotations

from typing import Any

from kepler.algorithms._fitting import fit_classifier, fit_regressor
from kepler.algorithms._tables import with_params
from kepler.algorithms._trees import TreeParams, tree_tables
from kepler.core.algorithms import Fitted, Run, Task, TrainingSet, algorithm, param


class _SingleTree(TreeParams):
    splitter: str = param("best", choices=("best", "random"), help="How each split is chosen.")

    def options(self, run: Run) -> dict[str, Any]:
        return {**self.tree_options(run), "splitter": self.splitter, "ccp_alpha": self.ccp_alpha}


@algorithm("DecisionTreeClassifier", task=Task.CLASSIFICATION, aliases=("tree", "dt"), native_nulls=True)
class DecisionTreeClassifier(_SingleTree):
    """One tree of yes/no questions that ends in a class.

    Missing values go the way that trained best (with nulls=native). The matrix is float32.
    Source: Breiman et al. (1984); scikit-learn `DecisionTreeClassifier`.
    """

    criterion: str = param("gini", choices=("gini", "entropy", "log_loss"), help="Measure of a split.")
    max_features: Any = param(
        None, "int|float|choice", low=0, choices=("auto", "sqrt", "log2"), help="Fields tried per split."
    )
    class_weight: str | None = param(
        None, "choice", choices=("balanced",), help="balanced weighs rare classes up."
    )

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import tree

        estimator = tree.DecisionTreeClassifier(
            **self.options(run),
            criterion=self.criterion,
            class_weight=self.class_weight,
            max_features=self.fields_per_split("sqrt"),
        )
        fitted = fit_classifier(estimator, data, run, dtype="float32", argmax=True)
        fitted.summary = with_params(self, tree_tables(data, estimator, fitted.class_index))
        return fitted


@algorithm("DecisionTreeRegressor", task=Task.REGRESSION, aliases=("tree", "dt"), native_nulls=True)
class DecisionTreeRegressor(_SingleTree):
    """One tree of yes/no questions that ends in a number.

    Missing values go the way that trained best (with nulls=native). The matrix is float32.
    Source: Breiman et al. (1984); scikit-learn `DecisionTreeRegressor`.
    """

    criterion: str = param(
        "squared_error",
        choices=("squared_error", "friedman_mse", "absolute_error", "poisson", "mse"),
        help="Measure of a split; mse is the older name of squared_error.",
    )
    max_features: Any = param(
        None, "int|float|choice", low=0, choices=("auto", "sqrt", "log2"), help="Fields tried per split."
    )

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import tree

        criterion = "squared_error" if self.criterion in ("mse", "friedman_mse") else self.criterion
        estimator = tree.DecisionTreeRegressor(
            **self.options(run), criterion=criterion, max_features=self.fields_per_split(None)
        )
        fitted = fit_regressor(estimator, data, run, dtype="float32")
        fitted.summary = with_params(self, tree_tables(data, estimator))
        return fitted
