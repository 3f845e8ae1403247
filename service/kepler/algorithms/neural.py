"""Small neural networks of scikit-learn."""

from __future__ import annotations

from typing import Any

from kepler.algorithms._fitting import Seeded, fit_classifier, fit_regressor, go_on_classifier, once_only
from kepler.algorithms._tables import table, with_params
from kepler.core.algorithms import Fitted, Run, Task, TrainingSet, algorithm, param
from kepler.core.errors import InvalidInput


class _Perceptron(Seeded):
    hidden_layer_sizes: Any = param(
        (100,), "sizes", low=1, high=10_000, unit="units", help="Units of each hidden layer, such as 100-50."
    )
    activation: str = param(
        "relu", choices=("relu", "tanh", "logistic", "identity"), help="Of the hidden layers."
    )
    solver: str = param("adam", choices=("adam", "lbfgs", "sgd"), help="Optimizer.")
    alpha: float = param(1e-4, low=0.0, high=1e6, log=True, help="L2 penalty.")
    batch_size: Any = param(
        "auto", "int|choice", low=1, choices=("auto",), unit="rows", help="Rows per step."
    )
    learning_rate: str = param("constant", choices=("constant", "invscaling", "adaptive"), help="With sgd.")
    learning_rate_init: float = param(1e-3, low=1e-12, high=100.0, log=True, help="First learning rate.")
    max_iter: int = param(200, low=1, high=1_000_000, unit="passes", help="Most passes over the rows.")
    tol: float = param(1e-4, low=0.0, high=1.0, log=True, help="Stop when passes gain less.")
    momentum: float = param(0.9, low=0.0, high=1.0, help="With sgd.")
    early_stopping: bool = param(False, help="Stop when a tenth of the rows, kept aside, gains no more.")

    def options(self, run: Run) -> dict[str, Any]:
        names = (
            "activation", "solver", "alpha", "batch_size", "learning_rate", "learning_rate_init", "max_iter", "tol",
            "momentum", "early_stopping",
        )  # fmt: skip
        sizes = tuple(self.hidden_layer_sizes)
        chosen = {name: getattr(self, name) for name in names}
        return {**chosen, "hidden_layer_sizes": sizes, "random_state": self.seed_for(run)}

    def tables(self, estimator: Any) -> dict[str, Any]:
        layers = [(i + 1, *weights.shape) for i, weights in enumerate(estimator.coefs_)]
        return with_params(self, {"default": table(("layer", "inputs", "outputs"), layers)})


@algorithm("MLPClassifier", task=Task.CLASSIFICATION, aliases=("mlp",))
class MLPClassifier(_Perceptron):
    """Layers of units with a soft choice of class at the end; scale the fields first.

    Missing values are not taken. Source: scikit-learn `MLPClassifier`.
    """

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import neural_network

        estimator = neural_network.MLPClassifier(**self.options(run))
        fitted = fit_classifier(estimator, data, run)
        fitted.summary = self.tables(estimator)
        return fitted

    def partial_fit(self, data: TrainingSet, run: Run, earlier: Any) -> Fitted:
        """Go on from ``earlier`` with one pass over the rows."""
        from sklearn import neural_network

        if self.solver == "lbfgs":
            raise InvalidInput(
                "MLPClassifier with solver=lbfgs needs all rows at once, so partial_fit does not go with it",
                fix="Use solver=adam or solver=sgd, or leave out partial_fit.",
            )
        if self.early_stopping:
            raise InvalidInput(
                "early_stopping needs passes over rows kept aside, so partial_fit does not go with it",
                fix="Leave out one of them.",
            )
        once_only(run, self)
        made = neural_network.MLPClassifier(**self.options(run))
        fitted = go_on_classifier(made, data, run, earlier)
        fitted.summary = self.tables(fitted.estimator)
        return fitted


@algorithm("MLPRegressor", task=Task.REGRESSION, aliases=("mlp",))
class MLPRegressor(_Perceptron):
    """Layers of units with a number at the end; scale the fields first.

    Missing values are not taken. Source: scikit-learn `MLPRegressor`.
    """

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        from sklearn import neural_network

        estimator = neural_network.MLPRegressor(**self.options(run))
        fitted = fit_regressor(estimator, data, run)
        fitted.summary = self.tables(estimator)
        return fitted
