"""Outputs are named and valued as the service names and values them; thresholds make alerts."""

import numpy as np
import pytest

from kepler.core.algorithms import Task
from kepler.core.outputs import NumberOutput
from kepler.core.outputs import OutputPlan as ServicePlan
from kepler_edge.checked import Section
from kepler_edge.errors import InvalidInput
from kepler_edge.outputs import OutputPlan, Renderer

CASES = {
    "two classes": (Task.CLASSIFICATION, "X", {"target": "y", "labels": ("0", "1")},
                    {"label": np.array([1]), "probabilities": np.array([[0.2, 0.8]])}),
    "label alone": (Task.CLASSIFICATION, "LinearSVC", {"target": "y", "labels": ("a", "b")}, {"label": np.array([0])}),
    "regression": (Task.REGRESSION, "X", {"target": "t"}, {"value": np.array([2.5])}),
    "clusters": (Task.CLUSTERING, "KMeans", {}, {"cluster": np.array([3]), "distance": np.array([0.25])}),
    "no distance": (Task.CLUSTERING, "Birch", {}, {"cluster": np.array([3])}),
    "outlier": (Task.ANOMALY, "IsolationForest", {}, {"normal": np.array([-1]), "score": np.array([0.7])}),
    "normal": (Task.ANOMALY, "OneClassSVM", {}, {"normal": np.array([1]), "score": np.array([0.7])}),
    "transform": (Task.TRANSFORM, "PCA", {"components": ("PC_1", "PC_2"), "prefix": "PC_"},
                  {"components": np.array([[1.5, -2.0]])}),
}  # fmt: skip


def renderer(case, thresholds=None):
    task, algorithm, more, raw = CASES[case]
    service = ServicePlan.of(task, algorithm=algorithm, params={}, raw=tuple(raw), **more)
    plan = OutputPlan.of(Section(service.to_json(), "outputs"), str(task))
    return service, Renderer(plan, list(raw), thresholds or {}), raw


@pytest.mark.parametrize("case", CASES)
def test_the_outputs_are_the_services(case):
    service, edge, raw = renderer(case)
    expected = {}
    for output in service.build(raw, None, probabilities=service.has_probabilities):
        if isinstance(output, NumberOutput):
            expected[output.name] = output.values[0].item()
        else:
            expected[output.name] = output.labels[output.codes[0]]
    rendered = edge.render(list(raw.values()))
    assert rendered.out == expected
    assert {name: type(value) for name, value in rendered.out.items()} == {
        name: type(value) for name, value in expected.items()
    }
    assert not rendered.nan
    assert edge.blank.out == dict.fromkeys(expected)


@pytest.mark.parametrize(
    ("case", "thresholds", "alert"),
    [
        ("two classes", {}, False),
        ("two classes", {"1": 0.8}, True),
        ("two classes", {"1": 0.81}, False),
        ("two classes", {"probability(y=0)": 0.2}, True),
        ("regression", {"value": 2.5}, True),
        ("regression", {"predicted(t)": 2.51}, False),
        ("clusters", {"distance": 0.25}, True),
        ("outlier", {}, True),
        ("normal", {}, False),
        ("outlier", {"score": 0.71}, False),
        ("outlier", {"anomaly_score": 0.7}, True),
        ("transform", {"PC_2": -2.0, "PC_1": 9.0}, True),
    ],
)
def test_a_threshold_is_reached_at_its_value(case, thresholds, alert):
    _, edge, raw = renderer(case, thresholds)
    assert edge.render(list(raw.values())).alert is alert


@pytest.mark.parametrize(
    ("case", "name"), [("two classes", "label"), ("outlier", "normal"), ("regression", "x")]
)
def test_a_threshold_about_no_number_is_refused(case, name):
    with pytest.raises(InvalidInput, match="about no number"):
        renderer(case, {name: 1.0})


def test_numbers_that_are_none_are_blank_and_counted():
    _, edge, _ = renderer("two classes", {"1": 0.0})
    rendered = edge.render([np.array([7]), np.array([[np.nan, np.inf]])])
    assert rendered.out == dict.fromkeys(rendered.out)
    assert rendered.nan
    assert not rendered.alert


def test_many_classes_show_only_those_with_a_threshold():
    labels = tuple(f"c{at}" for at in range(30))
    raw = {"label": np.array([2]), "probabilities": np.full((1, 30), 1 / 30)}
    service = ServicePlan.of(
        Task.CLASSIFICATION, algorithm="X", params={}, raw=tuple(raw), target="y", labels=labels
    )
    plan = OutputPlan.of(Section(service.to_json(), "outputs"), "classification")
    out = Renderer(plan, list(raw), {"c7": 0.5}).render(list(raw.values())).out
    assert list(out) == ["predicted(y)", "probability(y=c7)"]
    with pytest.raises(InvalidInput, match="gives no 'probabilities'"):
        Renderer(plan, ["label"], {"c7": 0.5})
