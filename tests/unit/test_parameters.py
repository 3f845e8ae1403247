from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler.core.algorithms import AlgorithmInfo, Param, Task
from kepler.core.errors import InvalidInput
from kepler.parameters import check_params, expected, read_value
from kepler.registry import default_registry

REGISTRY = default_registry()


def _check(name: str, **raw: str) -> dict[str, Any]:
    return check_params(REGISTRY.find(name), raw)


@pytest.mark.parametrize(
    ("name", "raw", "values"),
    [
        ("RandomForestClassifier", {"n_estimators": " 10 "}, {"n_estimators": 10}),
        ("RandomForestClassifier", {"max_features": "0.5"}, {"max_features": 0.5}),
        ("RandomForestClassifier", {"max_features": "3"}, {"max_features": 3}),
        ("RandomForestClassifier", {"max_features": "SQRT"}, {"max_features": "sqrt"}),
        ("RandomForestClassifier", {"max_features": "none"}, {"max_features": None}),
        ("RandomForestClassifier", {"max_depth": "None"}, {"max_depth": None}),
        ("RandomForestClassifier", {"bootstrap": "f"}, {"bootstrap": False}),
        ("LinearRegression", {"fit_intercept": "1"}, {"fit_intercept": True}),
        ("MLPClassifier", {"hidden_layer_sizes": "100-100-80"}, {"hidden_layer_sizes": [100, 100, 80]}),
        ("MLPClassifier", {"hidden_layer_sizes": "(50, 20)"}, {"hidden_layer_sizes": [50, 20]}),
        ("SVM", {"c": "1e3", "gamma": "0.1"}, {"C": 1000.0, "gamma": 0.1}),
        ("SVM", {"gamma": "scale"}, {"gamma": "scale"}),
        ("KMeans", {"n_clusters": "4"}, {"k": 4}),
        ("SGDClassifier", {"n_iter": "7"}, {"max_iter": 7}),
        (
            "LightGBMClassifier",
            {"feature_fraction": "0.5", "seed": "3"},
            {"colsample_bytree": 0.5, "random_state": 3},
        ),
    ],
)
def test_values_are_typed(name: str, raw: dict[str, str], values: dict[str, Any]) -> None:
    got = _check(name, **raw)
    assert got == values
    assert [type(value) for value in got.values()] == [type(value) for value in values.values()]


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        (
            "RandomForestClassifier",
            {"n_estimators": "ten"},
            "Invalid value for n_estimators: 'ten' must be an integer from 1 to 100000",
        ),
        ("RandomForestClassifier", {"n_estimators": "0"}, "'0' must be an integer from 1 to 100000"),
        ("RandomForestClassifier", {"n_estimators": "1_0"}, "'1_0' must be an integer"),
        ("RandomForestClassifier", {"n_estimators": "--5"}, "'--5' must be an integer"),
        ("RandomForestClassifier", {"n_estimators": "9" * 41}, "must be an integer"),
        ("RandomForestClassifier", {"n_estimators": "none"}, "'none' must be an integer"),
        ("RandomForestClassifier", {"criterion": "ginni"}, "must be one of gini, entropy, log_loss"),
        ("LinearRegression", {"fit_intercept": "maybe"}, "must be true or false"),
        ("Ridge", {"alpha": "nan"}, "must be a number from 0 to"),
        ("Ridge", {"alpha": "1_0"}, "must be a number"),
        ("Ridge", {"alpha": "-1"}, "must be a number"),
        ("DBSCAN", {"eps": "0"}, "must be a number of at least 1e-300"),
        ("MLPClassifier", {"hidden_layer_sizes": "10-x"}, "integers joined by '-' such as 100-50"),
        ("MLPClassifier", {"hidden_layer_sizes": "-"}, "integers joined by '-' such as 100-50"),
        ("MLPClassifier", {"hidden_layer_sizes": "-".join("9" * 21)}, "integers joined by"),
        ("PCA", {"k": "x"}, "must be an integer from 1 to 1000000, or none"),
        ("KMeans", {"k": "3", "n_clusters": "4"}, "Parameter k of KMeans is given twice"),
        (
            "Ridge",
            {"alfa": "1"},
            "Ridge has no parameter 'alfa'. The nearest is alpha. Use one of: alpha, fit_intercept, normalize.",
        ),
    ],
)
def test_a_wrong_value_is_one_sentence_that_helps(name: str, raw: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        _check(name, **raw)
    assert message in caught.value.sentence


def test_an_algorithm_without_parameters_says_so() -> None:
    with pytest.raises(InvalidInput, match="It takes none at all"):
        check_params(AlgorithmInfo("Plain", Task.REGRESSION, object, {}), {"x": "1"})


def test_text_and_upper_bounds() -> None:
    assert read_value(Param("a", "str", name="note"), " hello ") == "hello"
    assert expected(Param("a", "str", name="note")) == "a text"
    assert expected(Param(1, "int", high=3, name="n")) == "an integer of at most 3"
    with pytest.raises(InvalidInput):
        read_value(Param("a", "str", name="note"), "x" * 201)


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_an_invalid_input(text: str) -> None:
    for info in (REGISTRY.find("MLPClassifier"), REGISTRY.find("RandomForestRegressor")):
        for param in info.params.values():
            try:
                value = read_value(param, text)
            except InvalidInput:
                continue
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert param.low is None or value >= param.low
                assert param.high is None or value <= param.high


def test_every_default_is_one_of_its_own_values() -> None:
    for info in REGISTRY.all():
        for name, param in info.params.items():
            default = param.default
            text = "-".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
            value = read_value(param, text)
            assert (list(default) if isinstance(default, tuple) else default) == value, (info.name, name)
            assert param.help, (info.name, name)
