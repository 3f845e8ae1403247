"""What training drops, keeps and says."""

import numpy as np
import pytest

from kepler.core.datasets import NumberBlock, TrainingTable, WideText, number_column, text_column
from kepler.core.errors import InvalidInput
from kepler.core.preparation import CodesFeature, NumberFeature, OneHotFeature, TargetFeature
from kepler.core.preparing import PrepareOptions, learn, select, training_matrix
from kepler.core.records import NumberColumn
from kepler.core.target_encoding import TargetMeans


def table(infinite=None, **columns):
    made = {}
    for name, values in columns.items():
        numeric = all(value is None or isinstance(value, float) for value in values)
        made[name] = number_column(values) if numeric and not name.startswith("t") else text_column(values)
    return TrainingTable(made, len(next(iter(columns.values()))), infinite or {})


def texts(notices):
    return [notice.text for notice in notices]


def test_rows_with_a_null_in_a_used_field_go_and_are_counted():
    rows = table(a=[1.0, None, None, 4.0], b=[1.0, 2.0, None, 4.0], y=[1.0, 1.0, 1.0, None])
    got = select(rows, ["a", "b"], "y", "drop")
    assert got.kept.tolist() == [True, False, False, False]
    assert got.n_kept == 1
    assert texts(got.notices) == [
        "dropped 3 of 4 rows: null in 'a' (2), 'y' (1), 'b' (1) (nulls=drop; nulls=impute keeps them)"
    ]


def test_one_field_needs_no_count_of_its_own():
    got = select(table(a=[1.0, None], b=[1.0, 1.0]), ["a", "b"], "", "drop")
    assert texts(got.notices) == ["dropped 1 of 2 rows: null in 'a' (nulls=drop; nulls=impute keeps them)"]


def test_all_null_fields_go_first():
    got = select(table(a=[None, None], b=[1.0, 2.0]), ["a", "b"], "", "drop")
    assert got.fields == ("b",)
    assert got.kept is None
    assert texts(got.notices) == ["dropped field 'a': null in all of 2 rows"]


def test_rows_need_a_target_whatever_nulls_says():
    got = select(table(a=[None, 1.0, 2.0], y=[1.0, None, 1.0]), ["a"], "y", "impute")
    assert got.kept.tolist() == [True, False, True]
    assert texts(got.notices) == ["dropped 1 of 3 rows: null in 'y' (rows need a target)"]


def test_infinite_values_are_said():
    got = select(table(infinite={"a": 1200}, a=[1.0]), ["a"], "", "drop")
    assert texts(got.notices) == ["read 1,200 infinite values in 'a' as missing"]


def test_many_fields_with_nulls_are_summed_up():
    columns = {f"f{i}": [1.0, 1.0] for i in range(7)}
    for name in columns:
        columns[name] = [None, 1.0]
    assert "and 2 more fields" in select(table(**columns), list(columns), "", "drop").notices[0].text


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"a": [], "y": []}, "There are no rows to learn from"),
        ({"a": [None], "y": [1.0]}, "No field to learn from has any value"),
        ({"a": [1.0], "y": [None]}, "The target 'y' has no value in any of 1 rows"),
        (
            {"a": [1.0, None], "b": [None, 1.0], "y": [1.0, 1.0]},
            "No row is left: each of 2 rows has a null.*impute",
        ),
    ],
)
def test_nothing_left(columns, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        select(table(**columns), [name for name in columns if name != "y"], "y", "drop")


def test_numbers_first_then_dummies_in_text_order():
    rows = table(t=["b", "a", "b"], a=[1.0, 2.0, 3.0])
    preparation, notices = learn(rows, ["t", "a"], None, PrepareOptions("X"))
    assert preparation.features == (NumberFeature("a"), OneHotFeature("t", ("a", "b")))
    assert preparation.feature_names == ("a", "t=a", "t=b")
    assert notices == ()
    assert training_matrix(preparation, rows, None, 3).tolist() == [[1, 0, 1], [2, 1, 0], [3, 0, 1]]


def test_only_rows_used_count():
    rows = table(t=["b", "a", "c"], a=[1.0, 2.0, 300.0])
    preparation, _ = learn(
        rows, ["t", "a"], np.array([True, True, False]), PrepareOptions("X", nulls="impute")
    )
    assert preparation.features == (NumberFeature("a", 1.5), OneHotFeature("t", ("a", "b"), "a"))


def test_more_than_100_texts_are_dropped_at_101():
    hundred = [f"v{i:03}" for i in range(100)]
    assert len(learn(table(t=hundred), ["t"], None, PrepareOptions("X"))[0].feature_names) == 100
    rows = table(t=[*hundred, "w"], a=[1.0] * 101)
    preparation, notices = learn(rows, ["t", "a"], None, PrepareOptions("X"))
    assert preparation.required_fields == ("a",)
    assert texts(notices) == [
        "dropped field 't': 101 distinct text values, limit 100 (categoricals=onehot; categoricals=target keeps it)"
    ]


def test_wide_text_is_dropped_and_a_field_without_value_in_the_rows_used():
    rows = table(a=[1.0, 2.0], t=["x", ""])
    rows.columns["w"] = WideText(np.array([False, False]))
    _, notices = learn(rows, ["a", "w", "t"], np.array([False, True]), PrepareOptions("X"))
    assert texts(notices) == [
        "dropped field 'w': more than 20,000 distinct text values, limit 100 (categoricals=onehot)",
        "dropped field 't': no text value is left in the rows used",
    ]
    with pytest.raises(InvalidInput, match="all of 'w' were dropped"):
        learn(rows, ["w"], None, PrepareOptions("X"))


def test_impute_of_a_field_without_value_in_the_rows_used_is_zero():
    preparation, _ = learn(
        table(a=[1.0, None]), ["a"], np.array([False, True]), PrepareOptions("X", nulls="impute")
    )
    assert preparation.features == (NumberFeature("a", 0.0),)


def test_native_and_target_encodings():
    rows = table(t=["b", "a", "b", ""])
    native, _ = learn(rows, ["t"], None, PrepareOptions("X", categoricals="native"))
    assert native.features == (CodesFeature("t", ("a", "b")),)
    means = TargetMeans.of(np.array([1.0, 0.0, 1.0, 0.0]), ())
    target, _ = learn(rows, ["t"], None, PrepareOptions("X", categoricals="target"), means)
    (feature,) = target.features
    assert isinstance(feature, TargetFeature)
    assert feature.default == (0.5,)
    np.testing.assert_allclose(feature.means, [[5 / 11], [7 / 12]])


def test_matrix_frees_columns_when_told():
    rows = table(a=[1.0, 2.0], t=["x", "y"])
    preparation, _ = learn(rows, ["a", "t"], None, PrepareOptions("X"))
    x = training_matrix(preparation, rows, np.array([False, True]), 1, consume=True)
    assert x.tolist() == [[2, 0, 1]]
    assert x.T.flags.c_contiguous
    assert rows.columns == {}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"nulls": "native"}, "X cannot learn from missing values"),
        ({"categoricals": "native"}, "X cannot take text fields as they are"),
        ({"categoricals": "target"}, "needs a target, and X has none"),
    ],
)
def test_what_an_algorithm_cannot_honour(options, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        PrepareOptions("X", **options).check(has_target=False)
    PrepareOptions("X", "native", "native", True, True).check(has_target=False)


class TestInPlace:
    """Numbers that lie in one block become the matrix where they are, with the values a copy would have."""

    FIELDS = ("a", "b", "c", "y")
    VALUES = ((1.0, np.nan, 3.0, 4.0), (np.nan,) * 4, (5.0, 6.0, np.nan, 8.0), (1.0, 2.0, 3.0, 4.0))

    def tables(self, **text):
        """The same rows twice: in a block, and as columns of their own."""
        values = np.array(self.VALUES)
        plain = {name: number_column(row) for name, row in zip(self.FIELDS, self.VALUES, strict=True)}
        held = {name: NumberColumn(row) for name, row in zip(self.FIELDS, values, strict=True)}
        more = {name: text_column(cells) for name, cells in text.items()}
        block = NumberBlock(self.FIELDS, values)
        return TrainingTable({**held, **more}, 4, block=block), TrainingTable({**plain, **more}, 4)

    def both(self, fields, kept, nulls="native", **text):
        held, plain = self.tables(**text)
        values = held.block.values
        preparation, _ = learn(plain, fields, kept, PrepareOptions("A", nulls, native_nulls=True))
        n_kept = 4 if kept is None else int(kept.sum())
        made = training_matrix(preparation, held, kept, n_kept, consume=True)
        np.testing.assert_array_equal(made, training_matrix(preparation, plain, kept, n_kept))
        assert made.flags.f_contiguous
        assert not set(fields) & set(held.columns)
        return np.shares_memory(made, values)

    @pytest.mark.parametrize("kept", [None, np.array([True, False, True, True])])
    @pytest.mark.parametrize("fields", [["a", "b", "c"], ["a", "c"], ["c"]])
    @pytest.mark.parametrize("nulls", ["native", "impute"])
    def test_in_order(self, fields, kept, nulls):
        assert self.both(fields, kept, nulls)

    def test_what_is_not_in_order_or_not_numbers_alone_is_copied(self):
        assert not self.both(["c", "a"], None)
        assert not self.both(["a", "t"], None, t=["x", "y", "x", "y"])

    def test_a_field_from_elsewhere_is_copied(self):
        held, _ = self.tables()
        held.columns["z"] = number_column([1.0, 2.0, 3.0, 4.0])
        preparation, _ = learn(held, ["z"], None, PrepareOptions("A"))
        made = training_matrix(preparation, held, None, 4, consume=True)
        assert made[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0]

    def test_who_does_not_consume_gets_a_copy(self):
        held, _ = self.tables()
        preparation, _ = learn(held, ["a"], None, PrepareOptions("A"))
        made = training_matrix(preparation, held, None, 4)
        assert not np.shares_memory(made, held.block.values)
        assert "a" in held.columns
