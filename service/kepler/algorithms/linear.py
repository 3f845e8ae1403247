"""Linear and logistic regression, ridge, lasso, elastic net."""

from __future__ import annotations

from typing import Any

import numpy as np

from kepler.algorithms._fitting import Seeded, fit_classifier, fit_regressor
from kepler.algorithms._tables import coefficient_table, with_params
from kepler.core.algorithms import Fitted, Run, Task, TrainingSet, algorithm, param

MAX_PENALTY = 1e12


class _LinearRegressor:
    """A straight-line model; ``normalize`` is MLTK's, which scikit-learn dropped."""

    fit_intercept: bool = param(True, help="Fit a constant term.")
    normalize: bool = param(False, help="Centre each field and divide it by its length before fitting.")

    def estimator(self, run: Run) -> Any:
        raise TypeError(f"{type(self).__name__} defines no estimator")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        estimator = self.estimator(run)
        if self.normalize and self.fit_intercept:
            fitted = _fit_normalized(estimator, data, run)
        else:
            fitted = fit_regressor(estimator, data, run, order="K")
        tables = {"default": coefficient_table(data, estimator.coef_, estimator.intercept_)}
        fitted.summary = with_params(self, tables)
        return fitted


def _fit_normalized(estimator: Any, data: TrainingSet, run: Run) -> Fitted:
    """Fit on fields of mean 0 and length 1, then write the weights back in the fields' own units."""
    centre = data.x.mean(axis=0)
    length = np.sqrt(((data.x - centre) ** 2).sum(axis=0))
    length[length == 0.0] = 1.0
    scaled = TrainingSet((data.x - centre) / length, data.y, data.feature_names, data.classes)
    fitted = fit_regressor(estimator, scaled, run, order="K")
    estimator.coef_ = estimator.coef_ / length
    estimator.intercept_ = float(estimator.intercept_ - centre @ estimator.coef_)
    return fitted


@algorithm("LinearRegression", task=Task.REGRESSION, aliases=("linear", "ols"))
class LinearRegression(_LinearRegressor):
    """Ordinary least squares: the line with the least sum of squared errors.

    Missing values are not taken. Cost grows with rows x fields squared.
    Source: scikit-learn `LinearRegression`.
    """

    def estimator(self, run: Run) -> Any:
        from sklearn import linear_model

        # It gets a copy of its own already.
        return linear_model.LinearRegression(
            fit_intercept=self.fit_intercept, copy_X=False, n_jobs=run.threads
        )


@algorithm("Ridge", task=Task.REGRESSION, aliases=("RidgeRegression",))
class Ridge(_LinearRegressor):
    """Least squares with a penalty on the squared weights, which steadies correlated fields.

    Missing values are not taken. Source: Hoerl and Kennard (1970); scikit-learn `Ridge`.
    """

    alpha: float = param(1.0, low=0.0, high=MAX_PENALTY, log=True, help="Strength of the penalty.")

    def estimator(self, run: Run) -> Any:
        from sklearn import linear_model

        return linear_model.Ridge(
            alpha=self.alpha, fit_intercept=self.fit_intercept, copy_X=False, random_state=run.seed
        )


@algorithm("Lasso", task=Task.REGRESSION)
class Lasso(_LinearRegressor):
    """Least squares with a penalty on the absolute weights: unhelpful fields get weight 0.

    Missing values are not taken. Source: Tibshirani (1996); scikit-learn `Lasso`.
    """

    alpha: float = param(1.0, low=0.0, high=MAX_PENALTY, log=True, help="Strength of the penalty.")
    max_iter: int = param(1000, low=1, high=1_000_000, unit="passes", help="Most passes over the fields.")
    tol: float = param(1e-4, low=0.0, high=1.0, log=True, help="Stop when the dual gap is below this.")

    def estimator(self, run: Run) -> Any:
        from sklearn import linear_model

        return linear_model.Lasso(
            alpha=self.alpha, fit_intercept=self.fit_intercept, max_iter=self.max_iter, tol=self.tol
        )


@algorithm("ElasticNet", task=Task.REGRESSION)
class ElasticNet(_LinearRegressor):
    """Least squares with a mix of ridge's and lasso's penalties.

    Missing values are not taken. Source: Zou and Hastie (2005); scikit-learn `ElasticNet`.
    """

    alpha: float = param(1.0, low=0.0, high=MAX_PENALTY, log=True, help="Strength of the penalty.")
    l1_ratio: float = param(0.5, low=0.0, high=1.0, help="Share of lasso's penalty; 1 is lasso, 0 is ridge.")
    max_iter: int = param(1000, low=1, high=1_000_000, unit="passes", help="Most passes over the fields.")
    tol: float = param(1e-4, low=0.0, high=1.0, log=True, help="Stop when the dual gap is below this.")

    def estimator(self, run: Run) -> Any:
        from sklearn import linear_model

        return linear_model.ElasticNet(
            alpha=self.alpha,
            l1_ratio=self.l1_ratio,
            fit_intercept=self.fit_intercept,
            max_iter=self.max_iter,
            tol=self.tol,
        )


@algorithm("LogisticRegression", task=Task.CLASSIFICATION, aliases=("linear", "logistic"))
class LogisticRegression(Seeded):
    """Linear classifier that gives probabilities; two classes or many.

    Missing values are not taken. Fields of very different sizes slow it down: scale them first.
    Source: scikit-learn `LogisticRegression`.
    """

    fit_intercept: bool = param(True, help="Fit a constant term.")
    C: float = param(1.0, low=1e-12, high=MAX_PENALTY, log=True, help="Inverse strength of the penalty.")
    penalty: str | None = param("l2", choices=("l2", "l1", "elasticnet", "none"), help="Which penalty.")
    l1_ratio: float = param(0.5, low=0.0, high=1.0, help="Share of the l1 penalty; with elasticnet only.")
    solver: str = param(
        "auto",
        choices=("auto", "lbfgs", "newton-cg", "newton-cholesky", "saga"),
        help="Optimizer; auto takes lbfgs, or saga for l1 and elasticnet.",
    )
    class_weight: str | None = param(
        None, "choice", choices=("balanced",), help="balanced weighs rare classes up."
    )
    max_iter: int = param(100, low=1, high=1_000_000, help="Most iterations of the optimizer.")
    tol: float = param(1e-4, low=1e-15, high=1.0, log=True, help="Stop when the gradient is below this.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import linear_model

        sparse = self.penalty in ("l1", "elasticnet")
        solver = ("saga" if sparse else "lbfgs") if self.solver == "auto" else self.solver
        if sparse and solver != "saga":
            from kepler.core.errors import InvalidInput

            raise InvalidInput(
                f"Solver {solver} has no {self.penalty} penalty", fix="Use solver=saga or auto."
            )
        estimator = linear_model.LogisticRegression(
            C=np.inf if self.penalty is None else self.C,
            l1_ratio={"l1": 1.0, "elasticnet": self.l1_ratio}.get(self.penalty or "", 0.0),
            solver=solver,
            fit_intercept=self.fit_intercept,
            class_weight=self.class_weight,
            max_iter=self.max_iter,
            tol=self.tol,
            random_state=self.seed_for(run),
        )
        fitted = fit_classifier(estimator, data, run)
        coefficients = coefficient_table(data, estimator.coef_, estimator.intercept_, fitted.class_index)
        fitted.summary = with_params(self, {"default": coefficients})
        return fitted
