"""``algorithm=`` is the algorithm where nothing else names one, and a parameter of it otherwise."""

from __future__ import annotations

from kepler_app.grammar import parse_train


def test_a_parameter_called_algorithm_reaches_the_algorithm() -> None:
    request = parse_train(["LocalOutlierFactor", "a", "b", "algorithm=kd_tree", "n_neighbors=10"])
    assert request.algorithm == "LocalOutlierFactor"
    assert request.features == ["a", "b"]
    assert request.params == {"algorithm": "kd_tree", "n_neighbors": "10"}


def test_both_at_once() -> None:
    request = parse_train(["algo=knn", "algorithm=brute", "target=y", "features=a"])
    assert (request.algorithm, request.params) == ("knn", {"algorithm": "brute"})


def test_it_names_the_algorithm_where_all_is_named() -> None:
    request = parse_train(["algorithm=LinearRegression", "target=y", "features=a,b"])
    assert (request.algorithm, request.target, request.params) == ("LinearRegression", "y", {})
