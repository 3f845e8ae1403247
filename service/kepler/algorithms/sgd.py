"""Linear models trained by stochastic gradient descent, a row at a time."""

from __future__ import annotations

from typing import Any

from kepler.algorithms._fitting import (
    Seeded,
    fit_classifier,
    fit_regressor,
    go_on_classifier,
    go_on_regressor,
    once_only,
)
from kepler.algorithms._tables import coefficient_table, with_params
from kepler.core.algorithms import Fitted, Run, Task, TrainingSet, algorithm, param
from kepler.core.errors import InvalidInput

_RATES = ("constant", "optimal", "invscaling", "adaptive")


class _Descent(Seeded):
    penalty: str | None = param("l2", choices=("l2", "l1", "elasticnet", "none"), help="Which penalty.")
    alpha: float = param(1e-4, low=0.0, high=1e6, log=True, help="Strength of the penalty.")
    l1_ratio: float = param(0.15, low=0.0, high=1.0, help="Share of the l1 penalty; with elasticnet.")
    fit_intercept: bool = param(True, help="Fit a constant term.")
    max_iter: int = param(
        1000, low=1, high=1_000_000, unit="passes", help="Most passes over the rows.", aliases=("n_iter",)
    )
    tol: float | None = param(
        1e-3, "float|choice", low=0.0, choices=("none",), help="Stop when a pass gains less."
    )
    epsilon: float = param(0.1, low=0.0, help="Where huber and the epsilon-insensitive losses turn.")
    eta0: float = param(0.01, low=1e-12, high=1e6, log=True, help="First learning rate.")
    power_t: float = param(0.5, low=0.0, high=10.0, help="Exponent of invscaling.")
    average: bool = param(False, help="Average the weights over the passes.")
    learning_rate: str
    loss: str

    def options(self, run: Run) -> dict[str, Any]:
        names = (
            "penalty", "alpha", "l1_ratio", "fit_intercept", "max_iter", "tol", "epsilon", "eta0", "power_t",
            "average", "learning_rate",
        )  # fmt: skip
        return {**{name: getattr(self, name) for name in names}, "random_state": self.seed_for(run)}


@algorithm("SGDClassifier", task=Task.CLASSIFICATION, aliases=("sgd",))
class SGDClassifier(_Descent):
    """Linear classifier for many rows; scale the fields first.

    Probabilities with log_loss and modified_huber only. Missing values are not taken.
    Source: scikit-learn `SGDClassifier`.
    """

    loss: str = param(
        "hinge",
        choices=("hinge", "log_loss", "log", "modified_huber", "squared_hinge", "perceptron"),
        help="What is made small; log is the older name of log_loss.",
    )
    learning_rate: str = param("optimal", choices=_RATES, help="How the learning rate falls.")
    class_weight: str | None = param(
        None, "choice", choices=("balanced",), help="balanced weighs rare classes up."
    )

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        return self._described(fit_classifier(self._make(run), data, run), data)

    def partial_fit(self, data: TrainingSet, run: Run, earlier: Any) -> Fitted:
        """Go on from ``earlier`` with one pass over the rows."""
        if self.class_weight is not None:
            raise InvalidInput(
                "SGDClassifier cannot balance classes it has not all seen (class_weight with partial_fit)",
                fix="Leave out class_weight or partial_fit.",
            )
        once_only(run, self)
        return self._described(go_on_classifier(self._make(run), data, run, earlier), data)

    def _make(self, run: Run) -> Any:
        from sklearn import linear_model

        loss = "log_loss" if self.loss == "log" else self.loss
        return linear_model.SGDClassifier(
            **self.options(run), loss=loss, class_weight=self.class_weight, n_jobs=run.threads
        )

    def _described(self, fitted: Fitted, data: TrainingSet) -> Fitted:
        learned = fitted.estimator
        coefficients = coefficient_table(data, learned.coef_, learned.intercept_, fitted.class_index)
        fitted.summary = with_params(self, {"default": coefficients})
        return fitted


@algorithm("SGDRegressor", task=Task.REGRESSION, aliases=("sgd",))
class SGDRegressor(_Descent):
    """Linear regression for many rows; scale the fields first, or it diverges.

    Missing values are not taken. Source: scikit-learn `SGDRegressor`.
    """

    loss: str = param(
        "squared_error",
        choices=("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"),
        help="What is made small.",
    )
    learning_rate: str = param("invscaling", choices=_RATES, help="How the learning rate falls.")
    power_t: float = param(0.25, low=0.0, high=10.0, help="Exponent of invscaling.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        return self._described(fit_regressor(self._make(run), data, run), data)

    def partial_fit(self, data: TrainingSet, run: Run, earlier: Any) -> Fitted:
        """Go on from ``earlier`` with one pass over the rows."""
        once_only(run, self)
        return self._described(go_on_regressor(self._make(run), data, run, earlier), data)

    def _make(self, run: Run) -> Any:
        from sklearn import linear_model

        return linear_model.SGDRegressor(**self.options(run), loss=self.loss)

    def _described(self, fitted: Fitted, data: TrainingSet) -> Fitted:
        coefficients = coefficient_table(data, fitted.estimator.coef_, fitted.estimator.intercept_)
        fitted.summary = with_params(self, {"default": coefficients})
        return fitted
