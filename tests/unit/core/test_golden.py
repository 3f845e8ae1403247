"""Recorded answers."""

import json

import numpy as np
import pytest

from kepler.core.checked_json import Section
from kepler.core.errors import InvalidInput
from kepler.core.golden import GoldenVectors

X = np.array([[1.0, np.nan], [3.0, 4.0]])
RAW = {"label": np.array([0, 1]), "probabilities": np.array([[0.25, 0.75], [0.5, 0.5]])}


@pytest.fixture
def golden():
    return GoldenVectors.of(X, RAW)


def test_round_trip(golden):
    document = json.loads(json.dumps(golden.to_json(), allow_nan=False))
    again = GoldenVectors.from_json(Section(document, "golden"))
    assert again == golden
    np.testing.assert_array_equal(again.matrix(np.float64), X)
    assert again.matrix(np.float32).dtype == np.float32


def test_difference(golden):
    assert golden.difference(RAW) == 0.0
    off = {**RAW, "probabilities": RAW["probabilities"] + 0.01}
    assert golden.difference(off) == pytest.approx(0.01)


@pytest.mark.parametrize(
    "changed",
    [
        {"label": np.array([1, 1])},
        {"probabilities": np.array([[0.25, np.nan], [0.5, 0.5]])},
        {"probabilities": np.zeros((2, 3))},
        {"more": np.zeros(2)},
    ],
)
def test_what_can_never_agree(golden, changed):
    assert golden.difference({**RAW, **changed}) == np.inf


def test_empty_has_the_shape_of_the_outputs(golden):
    empty = golden.empty()
    assert empty["label"].shape == (0,)
    assert empty["label"].dtype == np.int64
    assert empty["probabilities"].shape == (0, 2)


@pytest.mark.parametrize(
    "changed",
    [
        {"inputs": [[1.0], [1.0, 2.0]]},
        {"inputs": [[1.0, 2.0]]},
        {"tolerance": 2.0},
        {"outputs": {"label": [[1.0], [1.0, 2.0]]}},
        {"outputs": {"label": [["x"], [1.0]]}},
        {"inputs": [1.0, 2.0]},
    ],
)
def test_strict(golden, changed):
    with pytest.raises(InvalidInput):
        GoldenVectors.from_json(Section({**golden.to_json(), **changed}, "golden"))
