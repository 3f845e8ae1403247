"""Columns to a matrix, as prediction does it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kepler.core.checked_json import Section, parse_object
from kepler.core.datasets import number_column, text_column
from kepler.core.errors import InvalidInput
from kepler.core.preparation import (
    CodesFeature,
    NumberFeature,
    OneHotFeature,
    Preparation,
    TargetFeature,
    is_number,
)
from kepler.core.records import RecordBatch

NAN = np.nan
DROP = Preparation("drop", (NumberFeature("a"), OneHotFeature("c", ("x", "y"))))


def batch(n_rows=None, **columns):
    made = {
        name: number_column(values)
        if all(v is None or isinstance(v, float) for v in values)
        else text_column(values)
        for name, values in columns.items()
    }
    return RecordBatch(made, n_rows if n_rows is not None else len(next(iter(columns.values()))))


def round_trip(preparation):
    text = json.dumps(preparation.to_json(), allow_nan=False)
    return Preparation.from_json(parse_object(text, "Preparation"))


def test_names_fields_and_types():
    assert DROP.feature_names == ("a", "c=x", "c=y")
    assert DROP.required_fields == ("a", "c")
    assert DROP.number_fields == {"a"}
    assert DROP.categorical == ()


def test_drop_leaves_rows_without_a_value_out():
    got = DROP.transform(batch(a=[1.0, None, 3.0, 4.0], c=["y", "x", "", "x"]))
    assert got.x.tolist() == [[1, 0, 1], [4, 1, 0]]
    assert got.kept.tolist() == [True, False, False, True]
    assert got.notices == ()


def test_all_rows_kept_is_none_and_order_is_c():
    got = DROP.transform(batch(a=[1.0], c=["y"]), dtype=np.float32)
    assert got.kept is None
    assert got.x.dtype == np.float32
    assert got.x.flags.c_contiguous


def test_unseen_text_gives_zero_dummies_and_says_so_once_for_all_values():
    got = DROP.transform(batch(a=[1.0, 2.0], c=["z", "w"]))
    assert got.x.tolist() == [[1, 0, 0], [2, 0, 0]]
    assert got.kept is None
    assert [notice.text for notice in got.notices] == [
        "Field 'c' has values that training has not seen: they count as none of the known ones"
    ]


def test_absent_number_is_blank_with_a_warning():
    got = DROP.transform(batch(c=["x", "y"]))
    assert got.kept.tolist() == [False, False]
    assert "lack 1 of the model's 2 fields: 'a'; predictions are blank" in got.notices[0].text


def test_absent_text_gives_zero_dummies_with_a_warning_but_null_is_blank():
    got = DROP.transform(batch(a=[1.0]))
    assert got.x.tolist() == [[1, 0, 0]]
    assert "predictions are made without them" in got.notices[0].text
    quiet = DROP.transform(batch(a=[1.0]), on_missing="null")
    assert quiet.kept.tolist() == [False]
    assert quiet.notices == ()


def test_absent_field_is_an_error_when_asked():
    with pytest.raises(InvalidInput, match=r"lack 2 of the model's 2 fields: 'a', 'c'.*on_missing=warn"):
        DROP.transform(RecordBatch({}, 3), on_missing="error")


def test_infinite_and_too_large_numbers_have_no_value():
    got = DROP.transform(batch(a=[np.inf, -np.inf, 1.0], c=["x"] * 3))
    assert got.kept.tolist() == [False, False, True]
    assert DROP.transform(batch(a=[1e300], c=["x"]), dtype=np.float32).kept.tolist() == [False]


def test_impute_puts_the_stored_values_in():
    preparation = Preparation("impute", (NumberFeature("a", 7.0), OneHotFeature("c", ("x", "y"), "y")))
    got = preparation.transform(batch(a=[None, 1.0], c=["x", ""]))
    assert got.x.tolist() == [[7, 1, 0], [1, 0, 1]]
    assert got.kept is None
    absent = preparation.transform(RecordBatch({}, 1))
    assert absent.x.tolist() == [[7, 0, 1]]


def test_native_passes_nan_on():
    preparation = Preparation("native", (NumberFeature("a"), CodesFeature("c", ("x", "y"))))
    got = preparation.transform(batch(a=[None, 1.0, 2.0], c=["y", "", "z"]))
    np.testing.assert_array_equal(got.x, [[NAN, 1], [1, NAN], [2, NAN]])
    assert preparation.categorical == (1,)
    assert "sees no value" in got.notices[0].text


def test_target_means_and_their_default():
    one = TargetFeature("c", ("x", "y"), None, ((0.25,), (0.75,)), (0.5,))
    many = TargetFeature("d", ("u",), None, ((0.1, 0.9),), (0.5, 0.5), ("no", "yes"))
    preparation = Preparation("drop", (one, many))
    assert preparation.feature_names == ("c", "d:no", "d:yes")
    got = preparation.transform(batch(c=["y", "z"], d=["u", "v"]))
    assert got.x.tolist() == [[0.75, 0.1, 0.9], [0.5, 0.5, 0.5]]
    assert round_trip(preparation) == preparation


@pytest.mark.parametrize(
    "feature",
    [
        NumberFeature("a"),
        OneHotFeature("c", ("x", "y", "z")),
        OneHotFeature("c", ()),
        CodesFeature("c", ("x", "y")),
        TargetFeature("c", ("x", "y"), None, ((0.25,), (0.75,)), (0.5,)),
        TargetFeature("c", ("x",), None, ((0.25, 0.75),), (0.5, 0.5), ("no", "yes")),
    ],
    ids=lambda feature: f"{feature.kind}-{feature.width}",
)
def test_a_feature_is_as_wide_as_it_has_names(feature):
    assert feature.width == len(feature.names)
    assert Preparation("drop", (feature,)).transform(RecordBatch({}, 2), on_missing="null").x.shape[1:] == (
        feature.width,
    )


def test_other_categories_are_other_codes():
    feature = CodesFeature("c", ("x", "y"))
    other = replace(feature, categories=("y", "x"))
    codes = [one.resolve(text_column(["x", "y", "z"]))[0].tolist() for one in (feature, other)]
    assert codes == [[0, 1, -2], [1, 0, -2]]
    assert feature != other
    assert feature == CodesFeature("c", ("x", "y"))
    assert len({feature, CodesFeature("c", ("x", "y")), other}) == 2


def test_no_rows_and_no_features():
    assert DROP.transform(RecordBatch({}, 0)).x.shape == (0, 3)
    assert Preparation("drop", ()).transform(RecordBatch({}, 2)).x.shape == (2, 0)


def test_wrong_kind_of_column():
    with pytest.raises(InvalidInput, match="'a' is a number in this model, but a row has 'high'"):
        DROP.transform(batch(a=["1", "high"], c=["x", "y"]))
    with pytest.raises(InvalidInput, match="'c' holds text in this model"):
        DROP.transform(batch(a=[1.0], c=[1.0]))


def test_json_is_strict():
    assert round_trip(DROP) == DROP
    good = DROP.to_json()
    for spoil in (
        lambda doc: doc.update(extra=1),
        lambda doc: doc.update(nulls="maybe"),
        lambda doc: doc["features"][0].update(kind="magic"),
        lambda doc: doc["features"][0].update(fill="7"),
        lambda doc: doc["features"][1].update(categories=[1]),
        lambda doc: doc["features"].append(doc["features"][0]),
        lambda doc: doc["features"].append(
            {
                "kind": "target",
                "field": "t",
                "fill": None,
                "categories": ["x"],
                "means": [[1.0, 2.0]],
                "default": [0.5],
                "labels": [],
            }
        ),
    ):
        document = json.loads(json.dumps(good))
        spoil(document)
        with pytest.raises(InvalidInput):
            Preparation.from_json(Section(document, "Preparation"))


def test_what_reads_as_a_number():
    assert [text for text in ("1", "-1.5e3", "nan", "1_0", "x", "") if is_number(text)] == [
        "1",
        "-1.5e3",
        "nan",
    ]


def test_stored_values_stay_finite_in_float32():
    preparation = Preparation(
        "impute", (NumberFeature("a", 1e300), TargetFeature("c", ("x",), None, ((-1e300,),), (0.0,)))
    )
    got = preparation.transform(batch(a=[None], c=["x"]), dtype=np.float32)
    limit = np.finfo(np.float32).max
    assert got.x.tolist() == [[limit, -limit]]
