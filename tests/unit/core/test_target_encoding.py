"""Means of the target per category."""

import numpy as np

from kepler.core.target_encoding import SMOOTHING_ROWS, TargetMeans


def test_smoothing_pulls_rare_categories_to_the_mean():
    codes = np.array([0] * 90 + [1] * 10, dtype=np.int32)
    y = np.array([0.0] * 90 + [1.0] * 10)
    means, default = TargetMeans.of(y, ()).encode(codes, 2)
    assert default.tolist() == [0.1]
    np.testing.assert_allclose(
        means[:, 0], [(0 + SMOOTHING_ROWS * 0.1) / 100, (10 + SMOOTHING_ROWS * 0.1) / 20]
    )


def test_two_classes_make_one_column_and_more_make_one_each():
    assert TargetMeans.of(np.array([0, 1]), ("n", "y")).values.tolist() == [[0.0], [1.0]]
    three = TargetMeans.of(np.array([0, 2]), ("a", "b", "c"))
    assert three.values.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert three.labels == ("a", "b", "c")


def test_out_of_fold_never_uses_the_rows_own_target():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 5, 200).astype(np.int32)
    y = rng.normal(size=200)
    before = TargetMeans.of(y, ()).out_of_fold(codes, 5, seed=1)
    changed = y.copy()
    changed[7] += 1e6
    after = TargetMeans.of(changed, ()).out_of_fold(codes, 5, seed=1)
    assert before[7] == after[7]
    assert (before != after).any()


def test_missing_codes_get_the_mean_and_no_rows_no_error():
    means = TargetMeans.of(np.array([1.0, 3.0] * 10), ())
    out = means.out_of_fold(np.full(20, -1, dtype=np.int32), 1, seed=0)
    assert ((out > 1) & (out < 3)).all()
    empty = TargetMeans.of(np.array([]), ())
    assert empty.encode(np.array([], dtype=np.int32), 1)[1].tolist() == [0.0]
