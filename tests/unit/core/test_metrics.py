"""Metrics, compared with scikit-learn's."""

import numpy as np
import pytest

from kepler.core import metrics

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_classification(n_classes):
    from sklearn import metrics as theirs

    y = RNG.integers(0, n_classes, 300)
    predicted = np.where(RNG.random(300) < 0.7, y, RNG.integers(0, n_classes - 1, 300))
    score = np.round(RNG.random(300), 1)  # ties
    got = metrics.classification(y, predicted, n_classes, score if n_classes == 2 else None)
    expected = {
        "accuracy": theirs.accuracy_score(y, predicted),
        "precision": theirs.precision_score(y, predicted, average="weighted", zero_division=0),
        "recall": theirs.recall_score(y, predicted, average="weighted", zero_division=0),
        "f1": theirs.f1_score(y, predicted, average="weighted"),
    }
    if n_classes == 2:
        expected["roc_auc"] = theirs.roc_auc_score(y, score)
    assert got == pytest.approx(expected, abs=1e-12)


def test_auc_is_left_out_where_one_class_is_missing():
    got = metrics.classification(np.array([1, 1]), np.array([1, 0]), 2, np.array([0.9, 0.2]))
    assert set(got) == {"accuracy", "precision", "recall", "f1"}


def test_regression():
    from sklearn import metrics as theirs

    y = RNG.normal(size=100)
    predicted = y + RNG.normal(size=100)
    assert metrics.regression(y, predicted) == pytest.approx(
        {
            "r2": theirs.r2_score(y, predicted),
            "rmse": theirs.root_mean_squared_error(y, predicted),
            "mae": theirs.mean_absolute_error(y, predicted),
        }
    )
    assert set(metrics.regression(np.ones(3), np.zeros(3))) == {"rmse", "mae"}


def test_silhouette():
    from sklearn.metrics import silhouette_score

    x = np.concatenate([RNG.normal(size=(40, 3)), RNG.normal(5, 1, size=(30, 3)), [[100.0, 0, 0]]])
    labels = np.array([0] * 40 + [1] * 30 + [-1])
    got = metrics.clustering(x, labels, 0)
    assert got["clusters"] == 2.0
    assert got["silhouette"] == pytest.approx(silhouette_score(x, labels), abs=1e-9)


def test_silhouette_of_many_rows_is_a_bounded_sample_and_seeded():
    x = RNG.normal(size=(5000, 2))
    labels = (x[:, 0] > 0).astype(int)
    assert metrics.clustering(x, labels, 3) == metrics.clustering(x, labels, 3)


def test_silhouette_is_left_out_where_it_is_undefined():
    x = RNG.normal(size=(4, 2))
    assert set(metrics.clustering(x, np.zeros(4, dtype=int), 0)) == {"clusters"}
    assert metrics.silhouette(x, np.arange(4)) is None
    assert metrics.silhouette(np.full((4, 1), np.nan), np.array([0, 0, 1, 1])) is None


def test_anomaly_and_nothing():
    assert metrics.anomaly(np.array([1, -1, 1, 1])) == {"outlier_share": 0.25}
    none = np.array([], dtype=int)
    assert (
        metrics.anomaly(none) == metrics.regression(none, none) == metrics.classification(none, none, 2) == {}
    )
