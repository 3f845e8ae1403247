"""Which fields of a header a training means."""

import pytest

from kepler.core.datasets import expand_fields, number_column, text_column
from kepler.core.errors import InvalidInput

HEADER = ["_time", "y", "SS_b", "a", "__mv_a", "b", "SS_a", "_raw", "a(b)"]


def test_star_means_every_field_but_target_internal_and_multivalue():
    assert expand_fields(["*"], HEADER, exclude=["y"]) == ("SS_b", "a", "b", "SS_a", "a(b)")


def test_order_is_that_of_the_patterns_then_of_the_header_and_each_comes_once():
    assert expand_fields(["b", "SS_*", "*_a", "b"], HEADER) == ("b", "SS_b", "SS_a")


def test_exact_name_may_mean_an_internal_field_and_a_pattern_that_says_so():
    assert expand_fields(["_time", "_r*"], HEADER) == ("_time", "_raw")
    assert expand_fields(["a(b)"], HEADER) == ("a(b)",)


def test_multivalue_shadows_are_meant_by_no_pattern():
    with pytest.raises(InvalidInput, match="No field matches '__mv_"):
        expand_fields(["__mv_*"], HEADER)


def test_a_field_named_like_a_pattern_is_that_field():
    assert expand_fields(["x*"], ["x*", "x1"]) == ("x*",)


def test_missing_field_names_the_nearest():
    with pytest.raises(InvalidInput, match=r"Field 'SS_c' is not in the rows.*Did you mean 'SS_"):
        expand_fields(["SS_c"], HEADER)


@pytest.mark.parametrize(
    ("patterns", "header", "sentence"),
    [
        (["z*"], ["a"], "No field matches 'z\\*'. The rows have 'a'"),
        (["z*"], ["_time"], "The rows have no fields"),
        ([], ["a"], "No field to learn from is named"),
        (["y"], ["y", "a"], "both the target and a feature"),
        (["z"], [], "The rows have no fields"),
        (["z*"], list("abcdefghij"), "and more"),
    ],
)
def test_nothing_to_learn_from(patterns, header, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        expand_fields(patterns, header, exclude=["y"])


def test_small_columns():
    text = text_column(["b", None, "", "a", "b"])
    assert text.codes.tolist() == [0, -1, -1, 1, 0]
    assert number_column([1.0, None]).missing.tolist() == [False, True]
