"""The field to predict."""

import numpy as np
import pytest

from kepler.core.algorithms import Task
from kepler.core.datasets import TrainingTable, WideText, number_column, text_column
from kepler.core.errors import InvalidInput
from kepler.core.targets import read_target


def classes(values, kept=None, known=()):
    table = TrainingTable({"y": text_column(values)}, len(values))
    return read_target(table, "y", Task.CLASSIFICATION, kept, known=known)


def test_numbers_are_ordered_as_numbers_and_written_as_they_were():
    got = classes(["10", "2", "10", "-1"])
    assert got.classes == ("-1", "2", "10")
    assert got.y.tolist() == [2, 1, 2, 0]


def test_texts_of_one_number_are_one_class():
    got = classes(["1.0", "1", "0", "0.00"])
    assert got.classes == ("0", "1")
    assert got.y.tolist() == [1, 1, 0, 0]


def test_anything_else_is_ordered_as_text():
    assert classes(["b", "10", "2"]).classes == ("10", "2", "b")
    assert classes(["nan", "1"]).classes == ("1", "nan")


def test_only_kept_rows_have_classes():
    got = classes(["a", "b", "c"], np.array([True, False, True]))
    assert got.classes == ("a", "c")
    assert got.y.tolist() == [0, 1]
    assert got.every(2).y.tolist() == [0]


def test_one_class_or_too_many_are_refused():
    with pytest.raises(InvalidInput, match="has only the value 'a'"):
        classes(["a", "a"])
    with pytest.raises(InvalidInput, match="has 101 distinct values and a classifier takes at most 100"):
        classes([f"c{i}" for i in range(101)])
    table = TrainingTable({"y": WideText(np.array([False]))}, 1)
    with pytest.raises(InvalidInput, match="more than 20,000"):
        read_target(table, "y", Task.CLASSIFICATION, None)


def test_known_classes_stay():
    got = classes(["2", "10.0"], known=("2", "5", "10"))
    assert got.y.tolist() == [0, 2]
    assert classes(["b"], known=("a", "b")).y.tolist() == [1]
    with pytest.raises(
        InvalidInput, match=r"has the value 'new', which the model does not know\. It knows 2, 5"
    ):
        classes(["2", "new"], known=("2", "5"))


def test_regression_needs_numbers():
    table = TrainingTable({"y": number_column([1.0, None, 3.0])}, 3)
    kept = np.array([True, False, True])
    assert read_target(table, "y", Task.REGRESSION, kept).y.tolist() == [1.0, 3.0]
    table = TrainingTable({"y": text_column(["1", "high"])}, 2, bad_numbers={"y": "high"})
    with pytest.raises(InvalidInput, match="not a number in every row, but for example 'high'"):
        read_target(table, "y", Task.REGRESSION, None)
