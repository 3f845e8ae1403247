"""What training rows looked like."""

import json

import numpy as np
import pytest

from kepler.core.checked_json import Section
from kepler.core.datasets import TrainingTable, WideText, number_column, text_column
from kepler.core.errors import InvalidInput
from kepler.core.profile import QUANTILES, FieldProfile, profile_of


def profiles(rows=None, **columns):
    n_rows = len(next(iter(columns.values())))
    return profile_of(TrainingTable(columns, n_rows), tuple(columns), rows)


def round_trip(profile):
    document = json.loads(json.dumps(profile.to_json(), allow_nan=False))
    return FieldProfile.from_json(Section(document, "profile"))


def test_numbers():
    (got,) = profiles(a=number_column([*map(float, range(101)), None])).values()
    assert (got.count, got.nulls, got.mean, got.min, got.max) == (102, 1, 50.0, 0.0, 100.0)
    assert got.quantiles == tuple(pytest.approx(100 * q) for q in QUANTILES)
    assert round_trip(got) == got


def test_text():
    (got,) = profiles(t=text_column(["b", "a", "a", "", "c", "b"])).values()
    assert got == FieldProfile("text", 6, 1, distinct=3, top=(("a", 2), ("b", 2), ("c", 1)))
    assert round_trip(got) == got


def test_only_some_rows():
    rows = np.array([True, False, True])
    got = profiles(
        rows,
        a=number_column([1.0, 9.0, 3.0]),
        t=text_column(["x", "y", "x"]),
        w=WideText(np.array([True, True, False])),
    )
    assert got["a"].mean == 2.0
    assert got["t"].top == (("x", 2),)
    assert got["w"] == FieldProfile("text", 2, 1)


def test_extremes_stay_json():
    got = profiles(a=number_column([None]), b=number_column([1.7e308, 1.7e308, -1.7e308]))
    assert got["a"] == FieldProfile("number", 1, 1)
    assert got["b"].max == 1.7e308
    for profile in got.values():
        assert round_trip(profile) == profile
    assert round_trip(profiles(w=WideText(np.array([True])))["w"]).nulls == 1


def test_strict():
    with pytest.raises(InvalidInput):
        FieldProfile.from_json(Section({"kind": "text", "count": -1}, "profile"))
    with pytest.raises(InvalidInput):
        FieldProfile.from_json(Section({**FieldProfile("number", 1, 0).to_json(), "mean": "x"}, "profile"))
