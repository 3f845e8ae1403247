"""CatBoost: boosted symmetric trees."""

from __future__ import annotations

from typing import Any

import numpy as np

from kepler.algorithms._fitting import (
    Seeded,
    dense_classes,
    fit_classifier,
    fit_regressor,
    matrix,
    quiet_fit,
)
from kepler.algorithms._scores import BoosterScores, catboost_rows
from kepler.algorithms._tables import with_params
from kepler.algorithms._trees import importance_tables
from kepler.core.algorithms import Fitted, Run, Task, TrainingSet, algorithm, declared_by, param
from kepler.core.errors import InvalidInput
from kepler.core.extras import need


class _CatBoost(Seeded):
    library = "catboost"

    iterations: int = param(
        1000,
        low=1,
        high=100_000,
        log=True,
        unit="trees",
        help="Number of rounds.",
        aliases=("n_estimators", "num_boost_round"),
    )
    learning_rate: float | None = param(
        None,
        "float",
        low=1e-6,
        high=1.0,
        log=True,
        help="Weight of each tree; left out, chosen from the rows.",
        aliases=("eta",),
    )
    depth: int = param(6, low=1, high=16, help="Questions in a row.", aliases=("max_depth",))
    l2_leaf_reg: float = param(3.0, low=0.0, help="L2 penalty on leaf values.", aliases=("reg_lambda",))
    random_strength: float = param(1.0, low=0.0, help="Noise added to the gains of splits.")
    bagging_temperature: float = param(1.0, low=0.0, help="How unequal the rows' random weights are.")
    rsm: float = param(
        1.0, low=1e-6, high=1.0, help="Share of the fields tried per split.", aliases=("colsample_bylevel",)
    )
    border_count: int = param(254, low=1, high=65_535, help="Borders per field.", aliases=("max_bin",))

    def options(self, run: Run) -> dict[str, Any]:
        names = (
            "iterations", "learning_rate", "depth", "l2_leaf_reg", "random_strength", "bagging_temperature",
            "rsm", "border_count",
        )  # fmt: skip
        declared = declared_by(type(self))[0].params
        # CatBoost chooses its learning rate only while others, l2_leaf_reg among them, are left unsaid.
        values = {name: getattr(self, name) for name in names}
        chosen = {name: value for name, value in values.items() if value != declared[name].default}
        fixed = {"thread_count": run.threads, "verbose": False, "allow_writing_files": False}
        return {**chosen, **fixed, "random_seed": self.seed_for(run) % 2**31}

    def train(self, fit: Any, estimator: Any, data: TrainingSet, run: Run) -> Fitted:
        catboost = need("catboost", extra="boosters")
        try:
            fitted: Fitted
            if data.categorical:
                fitted = _fit_categories(estimator, data, run)
            else:
                fitted = fit(estimator, data, run, dtype="float32", native_format="catboost")
        except catboost.CatBoostError as error:
            raise InvalidInput(
                "CatBoost could not be trained on these rows",
                cause=str(error).strip().splitlines()[-1][-300:],
            ) from error
        shares = estimator.get_feature_importance(thread_count=run.threads) / 100.0
        fitted.summary = with_params(self, importance_tables(data, shares))
        return fitted


def _fit_categories(estimator: Any, data: TrainingSet, run: Run) -> Fitted:
    """Fit with text fields as CatBoost's own categories (categoricals=native)."""
    catboost = need("catboost", extra="boosters")
    name = type(estimator).__name__
    task = Task.CLASSIFICATION if data.classes else Task.REGRESSION
    x = matrix(data, "float32")
    y, class_index = np.asarray(data.y, dtype=np.float64), ()
    if data.classes:
        y, class_index = dense_classes(data, name)
    n_classes = max(len(data.classes), class_index[-1] + 1) if class_index else 0
    with quiet_fit(run, name):
        estimator.fit(catboost.Pool(catboost_rows(x, data.categorical), label=y))
    kind = "Probability" if data.classes else "RawFormulaVal"
    scores = BoosterScores(
        lambda rows: estimator.predict(
            catboost_rows(rows, data.categorical), prediction_type=kind, thread_count=run.threads
        ),
        task,
        class_index,
        n_classes,
    )
    return Fitted(
        task,
        estimator,
        scores,
        dtype="float32",
        native_format="catboost",
        n_classes=n_classes,
        class_index=class_index,
    )


@algorithm(
    "CatBoostClassifier",
    task=Task.CLASSIFICATION,
    aliases=("catboost",),
    extra="boosters",
    native_nulls=True,
    native_categoricals=True,
)
class CatBoostClassifier(_CatBoost):
    """Boosted symmetric trees for two classes or many; takes missing values as they are.

    The matrix is float32. Source: Prokhorenkova et al. (2018); `catboost.CatBoostClassifier`.
    """

    auto_class_weights: str | None = param(
        None,
        "choice",
        choices=("Balanced", "SqrtBalanced"),
        help="Weigh rare classes up.",
        aliases=("class_weight",),
    )

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        catboost = need("catboost", extra="boosters")
        estimator = catboost.CatBoostClassifier(
            **self.options(run), auto_class_weights=self.auto_class_weights
        )
        return self.train(fit_classifier, estimator, data, run)


@algorithm(
    "CatBoostRegressor",
    task=Task.REGRESSION,
    aliases=("catboost",),
    extra="boosters",
    native_nulls=True,
    native_categoricals=True,
)
class CatBoostRegressor(_CatBoost):
    """Boosted symmetric trees for numbers; takes missing values as they are.

    The matrix is float32. Source: Prokhorenkova et al. (2018); `catboost.CatBoostRegressor`.
    """

    loss_function: str = param(
        "RMSE", choices=("RMSE", "MAE", "Quantile"), help="What is made small.", aliases=("objective",)
    )

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        catboost = need("catboost", extra="boosters")
        estimator = catboost.CatBoostRegressor(**self.options(run), loss_function=self.loss_function)
        return self.train(fit_regressor, estimator, data, run)
