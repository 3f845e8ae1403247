"""Held-out rows and folds, folds compared with scikit-learn's."""

import numpy as np
import pytest

from kepler.core.errors import InvalidInput
from kepler.core.splits import folds, holdout


def test_share_of_each_class_is_held_out():
    classes = np.array([0] * 80 + [1] * 20)
    held = holdout(100, 0.25, 7, classes)
    assert np.count_nonzero(held[:80]) == 20
    assert np.count_nonzero(held[80:]) == 5
    assert np.array_equal(held, holdout(100, 0.25, 7, classes))
    assert not np.array_equal(held, holdout(100, 0.25, 8, classes))


def test_a_class_of_one_row_stays_for_learning():
    held = holdout(5, 0.9, 0, np.array([0, 0, 0, 0, 1]))
    assert not held[4]
    assert np.count_nonzero(held) == 3


def test_nothing_to_hold_out():
    with pytest.raises(InvalidInput, match=r"test_size=0.1 of 3 rows leaves none"):
        holdout(3, 0.1, 0)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("n_rows", [20, 23])
def test_folds_are_scikit_learns(count, n_rows):
    from sklearn.model_selection import KFold, StratifiedKFold

    y = np.random.default_rng(n_rows).permutation(([2] * 9 + [0] * 6 + [1] * 5 + [2, 1, 0])[:n_rows])
    for mine, theirs in (
        (folds(n_rows, count), KFold(count).split(y)),
        (folds(n_rows, count, y), StratifiedKFold(count).split(y, y)),
    ):
        for k, (_, test) in enumerate(theirs):
            assert np.flatnonzero(mine == k).tolist() == test.tolist()


def test_too_few_rows():
    with pytest.raises(InvalidInput, match="kfold_cv=5 needs at least 5 rows and there are 4"):
        folds(4, 5)
    with pytest.raises(InvalidInput, match="needs a class with at least 3 rows"):
        folds(4, 3, np.array([0, 0, 1, 1]))
