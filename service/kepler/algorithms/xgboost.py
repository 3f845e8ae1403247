"""XGBoost: boosted trees with second-order gains."""

from __future__ import annotations

from typing import Any

from kepler.algorithms._fitting import Seeded, fit_classifier, fit_regressor
from kepler.algorithms._tables import with_params
from kepler.algorithms._trees import importance_tables
from kepler.core.algorithms import Fitted, Run, Task, TrainingSet, algorithm, param
from kepler.core.errors import InvalidInput
from kepler.core.extras import need


class _XGBoost(Seeded):
    library = "xgboost"

    n_estimators: int = param(
        100,
        low=1,
        high=100_000,
        log=True,
        unit="trees",
        help="Number of rounds.",
        aliases=("num_boost_round",),
    )
    learning_rate: float = param(
        0.3, low=0.0, high=10.0, log=True, help="Weight of each tree.", aliases=("eta",)
    )
    max_depth: int = param(6, low=0, high=64, help="Most questions in a row; 0 is no bound.")
    max_leaves: int = param(
        0, low=0, high=131_072, unit="leaves", help="Most leaves of a tree; 0 is no bound."
    )
    min_child_weight: float = param(1.0, low=0.0, help="Least sum of hessians in a leaf.")
    gamma: float = param(0.0, low=0.0, help="Least gain of a split.", aliases=("min_split_loss",))
    subsample: float = param(1.0, low=1e-6, high=1.0, help="Share of the rows drawn for each tree.")
    colsample_bytree: float = param(1.0, low=1e-6, high=1.0, help="Share of the fields drawn for each tree.")
    colsample_bylevel: float = param(
        1.0, low=1e-6, high=1.0, help="Share of those fields drawn for each depth."
    )
    reg_alpha: float = param(0.0, low=0.0, help="L1 penalty on leaf values.", aliases=("alpha",))
    reg_lambda: float = param(1.0, low=0.0, help="L2 penalty on leaf values.", aliases=("lambda",))
    max_bin: int = param(256, low=2, high=65_535, help="Bins per field.")
    tree_method: str = param("hist", choices=("hist", "exact", "approx"), help="How splits are found.")

    def options(self, data: TrainingSet, run: Run) -> dict[str, Any]:
        names = (
            "n_estimators", "learning_rate", "max_depth", "max_leaves", "min_child_weight", "gamma", "subsample",
            "colsample_bytree", "colsample_bylevel", "reg_alpha", "reg_lambda", "tree_method",
        )  # fmt: skip
        chosen = {name: getattr(self, name) for name in names}
        if self.tree_method != "exact":
            chosen["max_bin"] = self.max_bin
        if data.categorical:
            if self.tree_method == "exact":
                raise InvalidInput(
                    "XGBoost's tree_method=exact takes no text fields as they are (categoricals=native)",
                    fix="Use tree_method=hist, or categoricals=onehot or target.",
                )
            kinds = ["c" if at in data.categorical else "q" for at in range(data.x.shape[1])]
            chosen |= {"enable_categorical": True, "feature_types": kinds}
        return {**chosen, "random_state": self.seed_for(run) % 2**31, "n_jobs": run.threads, "verbosity": 0}


@algorithm(
    "XGBoostClassifier",
    task=Task.CLASSIFICATION,
    aliases=("XGBClassifier", "xgboost", "xgb"),
    extra="boosters",
    native_nulls=True,
    native_categoricals=True,
)
class XGBoostClassifier(_XGBoost):
    """Boosted trees for two classes or many; takes missing values as they are.

    The matrix is float32. Source: Chen and Guestrin (2016); `xgboost.XGBClassifier`.
    """

    scale_pos_weight: float = param(1.0, low=0.0, help="Weight of the second class; with two classes.")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        xgboost = need("xgboost", extra="boosters")
        options = self.options(data, run)
        if self.scale_pos_weight != 1.0:
            options["scale_pos_weight"] = self.scale_pos_weight
        estimator = xgboost.XGBClassifier(**options)
        fitted = fit_classifier(estimator, data, run, dtype="float32", native_format="xgboost", argmax=True)
        fitted.summary = with_params(self, importance_tables(data, estimator.feature_importances_))
        return fitted


@algorithm(
    "XGBoostRegressor",
    task=Task.REGRESSION,
    aliases=("XGBRegressor", "xgboost", "xgb"),
    extra="boosters",
    native_nulls=True,
    native_categoricals=True,
)
class XGBoostRegressor(_XGBoost):
    """Boosted trees for numbers; takes missing values as they are.

    The matrix is float32. Source: Chen and Guestrin (2016); `xgboost.XGBRegressor`.
    """

    objective: str = param(
        "reg:squarederror",
        choices=(
            "reg:squarederror",
            "reg:absoluteerror",
            "reg:pseudohubererror",
            "count:poisson",
            "reg:gamma",
        ),
        help="What is made small.",
    )

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        xgboost = need("xgboost", extra="boosters")
        estimator = xgboost.XGBRegressor(**self.options(data, run), objective=self.objective)
        fitted = fit_regressor(estimator, data, run, dtype="float32", native_format="xgboost")
        fitted.summary = with_params(self, importance_tables(data, estimator.feature_importances_))
        return fitted
