"""The check must fail for each promise that an algorithm breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Imported while collecting: cold, on a busy machine, these alone can take a unit test's ten seconds.
import catboost  # noqa: F401
import lightgbm  # noqa: F401
import numpy as np
import pytest
import sklearn.ensemble
import sklearn.linear_model  # noqa: F401
import xgboost  # noqa: F401

from kepler.adapters.formats import SafeModelFormats
from kepler.core.algorithms import Fitted, Run, Task, TrainingSet, algorithm, declared_by
from kepler.core.errors import InvalidInput
from kepler.registry import Registry, default_registry
from kepler.testing import check_algorithm

OURS = default_registry()
Change = Callable[[Fitted, TrainingSet], Any]


def _broken(base: str, change: Change, **declared: Any) -> None:
    info = OURS.find(base)

    class Broken:
        """Breaks one promise."""

        def fit(self, data: TrainingSet, run: Run) -> Fitted:
            fitted = OURS.create(info, {}).fit(data, run)
            return change(fitted, data) or fitted

    made = declared_by(algorithm("Broken", task=declared.pop("task", info.task), **declared)(Broken))[0]
    check_algorithm(Registry([made]), made, SafeModelFormats())


def _score(fitted: Fitted, new: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    asked = fitted.score
    fitted.score = lambda x: new(asked(x))


def _random(fitted: Fitted, data: TrainingSet) -> None:
    shift = np.random.default_rng().random()
    _score(fitted, lambda given: {"value": given["value"] + shift})


def _moody(fitted: Fitted, data: TrainingSet) -> None:
    rng = np.random.default_rng()
    _score(fitted, lambda given: {"value": given["value"] + rng.random()})


def _batchwise(fitted: Fitted, data: TrainingSet) -> None:
    asked = fitted.score
    fitted.score = lambda x: {"value": asked(x)["value"] + len(x)}


def _change_rows(fitted: Fitted, data: TrainingSet) -> None:
    data.x[0, 0] += 1.0


def _change_target(fitted: Fitted, data: TrainingSet) -> None:
    assert data.y is not None
    data.y[0] += 1


def _other_task(fitted: Fitted, data: TrainingSet) -> None:
    fitted.task = Task.ANOMALY


def _no_summary(fitted: Fitted, data: TrainingSet) -> None:
    fitted.summary = {}


def _no_output(fitted: Fitted, data: TrainingSet) -> None:
    _score(fitted, lambda given: {"other": given["value"]})


def _fewer(fitted: Fitted, data: TrainingSet) -> None:
    _score(fitted, lambda given: {key: item[1:] for key, item in given.items()})


def _bad_class(fitted: Fitted, data: TrainingSet) -> None:
    _score(fitted, lambda given: {**given, "label": given["label"] + 5})


def _bad_sum(fitted: Fitted, data: TrainingSet) -> None:
    _score(fitted, lambda given: {**given, "probabilities": given["probabilities"] * 0.5})


def _bad_verdict(fitted: Fitted, data: TrainingSet) -> None:
    _score(fitted, lambda given: {**given, "normal": given["normal"] * 2})


def _bad_names(fitted: Fitted, data: TrainingSet) -> None:
    fitted.component_names = ("one",)


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        ("LinearRegression", _random, "another answer for the same seed"),
        ("LinearRegression", _moody, "another answer for the same seed"),
        ("LinearRegression", _batchwise, "scores one row unlike many"),
        ("LinearRegression", _change_rows, "changed the rows it was given"),
        ("LinearRegression", _change_target, "changed the target it was given"),
        ("LinearRegression", _other_task, "says another task"),
        ("LinearRegression", _no_summary, "no default and params tables"),
        ("LinearRegression", _no_output, r"gives \['other'\]"),
        ("LinearRegression", _fewer, "another number of rows"),
        ("GaussianNB", _bad_class, "classes that do not exist"),
        ("GaussianNB", _bad_sum, "don't add to 1"),
        ("OneClassSVM", _bad_verdict, "neither 1 nor -1"),
        ("PCA", _bad_names, "another number of components"),
    ],
)
def test_a_broken_promise_is_named(base: str, change: Change, message: str) -> None:
    with pytest.raises(AssertionError, match=f"Broken .*{message}"):
        _broken(base, change)


def test_answers_may_differ_where_chance_is_declared() -> None:
    with pytest.raises(AssertionError, match="changes its answer when asked twice"):
        _broken("LinearRegression", _moody, deterministic=False)


def _nothing(fitted: Fitted, data: TrainingSet) -> None:
    return None


def test_missing_values_are_as_declared() -> None:
    with pytest.raises(AssertionError, match="refuses missing values although"):
        _broken("LinearRegression", _nothing, native_nulls=True)
    with pytest.raises(AssertionError, match="takes missing values and does not declare it"):
        _broken("DecisionTreeRegressor", _nothing)


def test_what_says_it_cannot_be_saved_must_not_be_saved() -> None:
    with pytest.raises(AssertionError, match="no answer for its training rows"):
        _broken("KMeans", _nothing, savable=False)

    def savable(fitted: Fitted, data: TrainingSet) -> None:
        fitted.training_scores, fitted.native_format = fitted.score(data.x), ""

    _broken("KMeans", savable, savable=False)

    class Careless(SafeModelFormats):
        def save(self, *args: Any) -> Any:
            return None

    info = OURS.find("DBSCAN")
    with pytest.raises(AssertionError, match="DBSCAN was saved although"):
        check_algorithm(OURS, info, Careless())


def test_fields_in_another_order() -> None:
    def by_place(fitted: Fitted, data: TrainingSet) -> None:
        fitted.score = lambda x: {"value": np.asarray(x[:, 0], dtype=np.float64)}

    info = OURS.find("LinearRegression")

    class FirstField:
        """Gives back its first field."""

        def fit(self, data: TrainingSet, run: Run) -> Fitted:
            if np.isnan(data.x).any():
                raise InvalidInput("missing values")
            fitted = OURS.create(info, {}).fit(data, run)
            by_place(fitted, data)
            return fitted

    made = declared_by(algorithm("FirstField", task=Task.REGRESSION)(FirstField))[0]
    with pytest.raises(AssertionError, match="depends on the order of fields"):
        check_algorithm(Registry([made]), made, SafeModelFormats(), column_order=True)
