"""Support vector machines."""

from __future__ import annotations

from typing import Any

from kepler.algorithms._fitting import fit_classifier, fit_regressor
from kepler.algorithms._tables import with_params
from kepler.core.algorithms import Fitted, Run, Task, TrainingSet, algorithm, param


class _Kernel:
    C: float = param(1.0, low=1e-12, high=1e12, log=True, help="Price of a row on the wrong side.")
    kernel: str = param("rbf", choices=("rbf", "linear", "poly", "sigmoid"), help="Likeness of two rows.")
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
    max_iter: int = param(-1, low=-1, high=100_000_000, help="Most iterations; -1 is no bound.")

    def options(self) -> dict[str, Any]:
        names = ("C", "kernel", "gamma", "degree", "coef0", "shrinking", "tol", "max_iter")
        return {name: getattr(self, name) for name in names}


@algorithm("SVM", task=Task.CLASSIFICATION, aliases=("SVC",))
class SVM(_Kernel):
    """Classifier with the widest margin between classes; scale the fields first.

    No probabilities. Training time grows with the square of the rows and more. Missing values are not taken.
    Source: Cortes and Vapnik (1995); scikit-learn `SVC`.
    """

    class_weight: str | None = param(
        None, "choice", choices=("balanced",), help="balanced weighs rare classes up."
    )

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import svm

        fitted = fit_classifier(svm.SVC(**self.options(), class_weight=self.class_weight), data, run)
        fitted.summary = with_params(self, {})
        return fitted


@algorithm("SVR", task=Task.REGRESSION)
class SVR(_Kernel):
    """Regression that forgives errors below epsilon; scale the fields first.

    Training time grows with the square of the rows and more. Missing values are not taken.
    Source: Drucker et al. (1997); scikit-learn `SVR`.
    """

    epsilon: float = param(0.1, low=0.0, help="Errors below this cost nothing.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import svm

        fitted = fit_regressor(svm.SVR(**self.options(), epsilon=self.epsilon), data, run)
        fitted.summary = with_params(self, {})
        return fitted
