"""LightGBM: boosted trees grown leaf by leaf on binned fields."""

from __future__ import annotations

from typing import Any

from kepler.algorithms._fitting import Seeded, fit_classifier, fit_regressor
from kepler.algorithms._tables import with_params
from kepler.algorithms._trees import importance_tables
from kepler.core.algorithms import Fitted, Run, Task, TrainingSet, algorithm, param
from kepler.core.extras import need


class _LightGBM(Seeded):
    library = "lightgbm"

    n_estimators: int = param(
        100,
        low=1,
        high=100_000,
        log=True,
        unit="trees",
        help="Number of rounds.",
        aliases=("num_iterations", "num_boost_round"),
    )
    learning_rate: float = param(
        0.1, low=1e-6, high=10.0, log=True, help="Weight of each tree.", aliases=("eta",)
    )
    num_leaves: int = param(
        31,
        low=2,
        high=131_072,
        log=True,
        unit="leaves",
        help="Most leaves of a tree.",
        aliases=("max_leaves", "max_leaf_nodes"),
    )
    max_depth: int = param(-1, low=-1, high=1_000, help="Most questions in a row; -1 is no bound.")
    min_child_samples: int = param(
        20,
        low=0,
        high=10_000_000,
        unit="rows",
        help="Fewest rows in a leaf.",
        aliases=("min_data_in_leaf", "min_samples_leaf"),
    )
    min_child_weight: float = param(1e-3, low=0.0, help="Least sum of hessians in a leaf.")
    min_split_gain: float = param(0.0, low=0.0, help="Least gain of a split.", aliases=("min_gain_to_split",))
    subsample: float = param(
        1.0, low=1e-6, high=1.0, help="Share of the rows drawn.", aliases=("bagging_fraction",)
    )
    subsample_freq: int = param(
        0, low=0, help="Draw rows every so many rounds; 0 never.", aliases=("bagging_freq",)
    )
    colsample_bytree: float = param(
        1.0,
        low=1e-6,
        high=1.0,
        help="Share of the fields drawn for each tree.",
        aliases=("feature_fraction", "max_features"),
    )
    reg_alpha: float = param(0.0, low=0.0, help="L1 penalty on leaf values.", aliases=("lambda_l1",))
    reg_lambda: float = param(0.0, low=0.0, help="L2 penalty on leaf values.", aliases=("lambda_l2",))
    max_bin: int = param(255, low=2, high=65_535, help="Bins per field.")
    boosting_type: str = param(
        "gbdt", choices=("gbdt", "dart"), help="dart drops trees at random.", aliases=("boosting",)
    )
    extra_trees: bool = param(False, help="Try one random threshold per field.")

    def options(self, run: Run) -> dict[str, Any]:
        names = (
            "n_estimators", "learning_rate", "num_leaves", "max_depth", "min_child_samples", "min_child_weight",
            "min_split_gain", "subsample", "subsample_freq", "colsample_bytree", "reg_alpha", "reg_lambda",
            "max_bin", "boosting_type", "extra_trees",
        )  # fmt: skip
        chosen = {name: getattr(self, name) for name in names}
        # Without these two LightGBM times row-wise against column-wise and the winner decides the rounding.
        steady = {"deterministic": True, "force_col_wise": True}
        return {
            **chosen,
            **steady,
            "random_state": self.seed_for(run),
            "n_jobs": run.threads,
            "verbosity": -1,
        }


def _importance(estimator: Any) -> Any:
    gain = estimator.booster_.feature_importance(importance_type="gain")
    return gain / gain.sum() if gain.sum() > 0 else gain


def _categories(data: TrainingSet) -> dict[str, Any]:
    """Which columns hold codes of categories; without a value it follows the branch of all other categories."""
    return {"categorical_feature": list(data.categorical)} if data.categorical else {}


@algorithm(
    "LightGBMClassifier",
    task=Task.CLASSIFICATION,
    aliases=("LGBMClassifier", "lightgbm", "lgbm"),
    extra="boosters",
    native_nulls=True,
    native_categoricals=True,
)
class LightGBMClassifier(_LightGBM):
    """Boosted trees for two classes or many; quick on large sets, takes missing values as they are.

    The matrix is float32. Source: Ke et al. (2017); `lightgbm.LGBMClassifier`.
    """

    class_weight: str | None = param(
        None, "choice", choices=("balanced",), help="balanced weighs rare classes up."
    )

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        lightgbm = need("lightgbm", extra="boosters")
        estimator = lightgbm.LGBMClassifier(**self.options(run), class_weight=self.class_weight)
        fitted = fit_classifier(
            estimator,
            data,
            run,
            dtype="float32",
            native_format="lightgbm",
            argmax=True,
            options=_categories(data),
        )
        fitted.summary = with_params(self, importance_tables(data, _importance(estimator)))
        return fitted


@algorithm(
    "LightGBMRegressor",
    task=Task.REGRESSION,
    aliases=("LGBMRegressor", "lightgbm", "lgbm"),
    extra="boosters",
    native_nulls=True,
    native_categoricals=True,
)
class LightGBMRegressor(_LightGBM):
    """Boosted trees for numbers; quick on large sets, takes missing values as they are.

    The matrix is float32. Source: Ke et al. (2017); `lightgbm.LGBMRegressor`.
    """

    objective: str = param(
        "regression",
        choices=("regression", "regression_l1", "huber", "fair", "quantile", "poisson", "gamma", "tweedie"),
        help="What is made small.",
    )
    alpha: float = param(0.9, low=1e-6, high=0.999999, help="Quantile, or where huber turns linear.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        lightgbm = need("lightgbm", extra="boosters")
        estimator = lightgbm.LGBMRegressor(**self.options(run), objective=self.objective, alpha=self.alpha)
        fitted = fit_regressor(
            estimator, data, run, dtype="float32", native_format="lightgbm", options=_categories(data)
        )
        fitted.summary = with_params(self, importance_tables(data, _importance(estimator)))
        return fitted
