"""Names and values of new columns."""

import numpy as np
import pytest

from kepler.core.algorithms import Task
from kepler.core.checked_json import Section
from kepler.core.errors import InvalidInput
from kepler.core.outputs import NumberOutput, OutputPlan, TextOutput


def plan(task, algorithm="Any", raw=(), **more):
    return OutputPlan.of(task, algorithm=algorithm, params=more.pop("params", {}), raw=raw, **more)


CLASSES = plan(Task.CLASSIFICATION, raw=("label", "probabilities"), target="y", labels=("0", "yes"))
RAW = {"label": np.array([1, 0]), "probabilities": np.array([[0.2, 0.8], [0.9, 0.1]])}


def test_classes_come_back_as_they_were_written():
    (predicted,) = CLASSES.build(RAW, None)
    assert isinstance(predicted, TextOutput)
    assert predicted.name == "predicted(y)"
    assert [predicted.labels[code] for code in predicted.codes] == ["yes", "0"]


def test_probabilities_per_class_and_as_renames_the_first_only():
    assert CLASSES.columns(as_name="p", probabilities=True) == ("p", "probability(y=0)", "probability(y=yes)")
    outputs = CLASSES.build(RAW, np.array([True, False, True]), probabilities=True)
    assert outputs[0].codes.tolist() == [1, -1, 0]
    assert outputs[2].values.tolist() == [0.8, 0.0, 0.1]
    assert outputs[2].blank.tolist() == [False, True, False]


def test_no_probabilities():
    without = plan(Task.CLASSIFICATION, raw=("label",), target="y", labels=("a", "b"))
    assert without.columns(probabilities=True) == ("predicted(y)",)
    with pytest.raises(InvalidInput, match="SVM gives no probabilities"):
        without.check_probabilities("SVM")
    CLASSES.check_probabilities("LogisticRegression")


@pytest.mark.parametrize(
    ("made", "columns"),
    [
        (plan(Task.REGRESSION, raw=("value",), target="y"), ("predicted(y)",)),
        (plan(Task.CLUSTERING, raw=("cluster",)), ("cluster",)),
        (plan(Task.CLUSTERING, "KMeans", raw=("cluster", "distance")), ("cluster", "cluster_distance")),
        (plan(Task.ANOMALY, "OneClassSVM", raw=("normal", "score")), ("isNormal",)),
        (plan(Task.ANOMALY, "LocalOutlierFactor", raw=("normal", "score")), ("is_outlier", "anomaly_score")),
        (plan(Task.ANOMALY, "IsolationForest", raw=("normal", "score")), ("isOutlier", "anomaly_score")),
        (
            plan(
                Task.ANOMALY, "LocalOutlierFactor", raw=("normal", "score"), params={"anomaly_score": False}
            ),
            ("is_outlier",),
        ),
        (plan(Task.TRANSFORM, "PCA", raw=("components",), components=("PC_1", "PC_2")), ("PC_1", "PC_2")),
    ],
)
def test_toolkit_names(made, columns):
    assert made.columns() == columns
    assert OutputPlan.from_json(Section(made.to_json(), "outputs"), made.task) == made


def test_signs_of_anomalies():
    raw = {"normal": np.array([1, -1]), "score": np.array([0.1, 0.9])}
    normal = plan(Task.ANOMALY, "OneClassSVM", raw=tuple(raw)).build(raw, None)
    assert normal[0].values.tolist() == [1, -1]
    outlier, score = plan(Task.ANOMALY, "IsolationForest", raw=tuple(raw)).build(raw, None)
    assert outlier.values.tolist() == [-1, 1]
    assert outlier.values.dtype == np.int64
    assert score.values.tolist() == [0.1, 0.9]


@pytest.mark.parametrize("prefix", ["SS", "SS_"])
def test_as_replaces_the_prefix_of_components(prefix):
    scaled = plan(Task.TRANSFORM, raw=("components",), components=("SS_a", "SS_b c"), prefix=prefix)
    assert scaled.columns(as_name="z") == ("z_a", "z_b c")
    first, second = scaled.build({"components": np.array([[1.0, 2.0]])}, None)
    assert isinstance(first, NumberOutput)
    assert (first.values.tolist(), second.values.tolist()) == ([1.0], [2.0])


def test_json_is_strict():
    document = CLASSES.to_json()
    for spoil in ({"flag": "x"}, {"more": 1}, {"labels": "ab"}):
        with pytest.raises(InvalidInput):
            OutputPlan.from_json(Section({**document, **spoil}, "outputs"), Task.CLASSIFICATION)
