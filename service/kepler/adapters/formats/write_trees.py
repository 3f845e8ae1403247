"""ONNX graphs of scikit-learn's trees, forests, boosted trees and isolation forests."""

from __future__ import annotations

from typing import Any

import numpy as np

from kepler.adapters.formats.forest import Forest
from kepler.adapters.formats.graph import GraphWriter
from kepler.adapters.formats.writers import NotConvertible, Written
from kepler.core.algorithms import Fitted


def _add(forest: Forest, tree: Any, value: Any, target: int = 0, features: Any = None) -> None:
    """One ``sklearn.tree._tree.Tree``; ``features`` maps its columns to the matrix's."""
    nodes = tree.__getstate__()["nodes"]
    feature = np.maximum(nodes["feature"], 0)
    forest.add(
        feature if features is None else np.asarray(features)[feature],
        nodes["threshold"],
        nodes["left_child"],
        nodes["right_child"],
        nodes["missing_go_to_left"],
        value,
        target,
    )


def _members(estimator: Any) -> list[Any]:
    return list(estimator.estimators_) if hasattr(estimator, "estimators_") else [estimator]


def mean_regressor(fitted: Fitted, graph: GraphWriter) -> Written:
    members = _members(fitted.estimator)
    forest = Forest(1)
    for member in members:
        _add(forest, member.tree_, member.tree_.value[:, 0, 0])
    total = forest.write(graph)
    # Divided here and not in the leaves: then sums of whole numbers stay exact, as they are in the library.
    graph.output(
        "value", graph.flat(graph.op("Div", total, graph.constant([[float(len(members))]]))), np.float64
    )
    return Written(graph.to_bytes(), forest.thresholds())


def mean_classifier(fitted: Fitted, graph: GraphWriter) -> Written:
    members = _members(fitted.estimator)
    n_met = len(fitted.class_index)
    forest = Forest(1 if n_met == 2 else n_met)
    for member in members:
        value = member.tree_.value[:, 0, :]
        _add(forest, member.tree_, value[:, 1] if n_met == 2 else value)
    total = forest.write(graph)
    mean = graph.op("Div", total, graph.constant([[float(len(members))]]))
    if n_met == 2:
        label = graph.flat(graph.cast(graph.op("Greater", mean, graph.constant([[0.5]])), np.int64))
        mean = graph.pair(mean)
    else:
        label = graph.op("ArgMax", total, axis=1, keepdims=0)
    graph.classes(label, mean, fitted.class_index, fitted.n_classes)
    return Written(graph.to_bytes(), forest.thresholds())


def _boosted(graph: GraphWriter, forest: Forest, start: Any) -> str:
    return graph.op("Add", forest.write(graph), graph.constant(np.reshape(start, (1, -1))))


def _boosted_classes(graph: GraphWriter, raw: str, fitted: Fitted, forest: Forest) -> Written:
    if len(fitted.class_index) == 2:
        graph.binary(raw, fitted.class_index, fitted.n_classes)
    else:
        label = graph.op("ArgMax", raw, axis=1, keepdims=0)
        graph.classes(label, graph.op("Softmax", raw, axis=1), fitted.class_index, fitted.n_classes)
    return Written(graph.to_bytes(), forest.thresholds())


def _gradient_forest(estimator: Any, n_features: int) -> tuple[Forest, Any]:
    forest = Forest(estimator.estimators_.shape[1])
    for stage in estimator.estimators_:
        for target, member in enumerate(stage):
            _add(forest, member.tree_, member.tree_.value[:, 0, 0] * estimator.learning_rate, target)
    # What boosting starts from does not depend on the row.
    return forest, estimator._raw_predict_init(np.zeros((1, n_features), np.float32))


def gradient_regressor(fitted: Fitted, graph: GraphWriter) -> Written:
    forest, start = _gradient_forest(fitted.estimator, graph.n_features)
    graph.output("value", graph.flat(_boosted(graph, forest, start)), np.float64)
    return Written(graph.to_bytes(), forest.thresholds())


def gradient_classifier(fitted: Fitted, graph: GraphWriter) -> Written:
    forest, start = _gradient_forest(fitted.estimator, graph.n_features)
    raw = _boosted(graph, forest, start)
    if fitted.estimator.loss == "exponential":
        raw = graph.op("Mul", raw, graph.constant([[2.0]]))
    return _boosted_classes(graph, raw, fitted, forest)


def _histogram_forest(estimator: Any) -> Forest:
    forest = Forest(len(estimator._predictors[0]) if estimator._predictors else 1)
    for stage in estimator._predictors:
        for target, member in enumerate(stage):
            nodes = member.nodes
            if nodes["is_categorical"].any():
                raise NotConvertible("splits on categories have no exact ONNX form")
            leaf = nodes["is_leaf"].astype(bool)
            left = np.where(leaf, -1, nodes["left"].astype(np.int64))
            right = np.where(leaf, -1, nodes["right"].astype(np.int64))
            forest.add(
                nodes["feature_idx"],
                nodes["num_threshold"],
                left,
                right,
                nodes["missing_go_to_left"],
                nodes["value"],
                target,
            )
    return forest


def histogram_regressor(fitted: Fitted, graph: GraphWriter) -> Written:
    forest = _histogram_forest(fitted.estimator)
    value = _boosted(graph, forest, fitted.estimator._baseline_prediction)
    if fitted.estimator.loss in ("poisson", "gamma"):
        value = graph.op("Exp", value)
    graph.output("value", graph.flat(value), np.float64)
    return Written(graph.to_bytes(), forest.thresholds())


def histogram_classifier(fitted: Fitted, graph: GraphWriter) -> Written:
    forest = _histogram_forest(fitted.estimator)
    raw = _boosted(graph, forest, fitted.estimator._baseline_prediction)
    return _boosted_classes(graph, raw, fitted, forest)


def isolation_forest(fitted: Fitted, graph: GraphWriter) -> Written:
    """Liu et al. (2008): 2 ** -(mean path length / expected path length)."""
    from sklearn.ensemble._iforest import _average_path_length

    estimator = fitted.estimator
    forest = Forest(1)
    members = zip(
        estimator.estimators_,
        estimator.estimators_features_,
        estimator._decision_path_lengths,
        estimator._average_path_length_per_tree,
        strict=True,
    )
    for member, features, lengths, average in members:
        _add(forest, member.tree_, lengths + average - 1.0, features=features)
    expected = float(_average_path_length([estimator._max_samples])[0]) * len(estimator.estimators_)
    mean = graph.op("Div", forest.write(graph), graph.constant([[expected or 1.0]]))
    score = graph.op("Pow", graph.constant([[2.0]]), graph.op("Neg", mean))
    boundary = -float(estimator.offset_)
    anomaly_outputs(graph, score, boundary)
    return Written(graph.to_bytes(), forest.thresholds(), boundary)


def anomaly_outputs(graph: GraphWriter, score: str, boundary: float) -> None:
    """``score`` (n_rows, 1), higher is stranger; beyond ``boundary`` a row is an outlier, -1."""
    outlier = graph.op("Greater", score, graph.constant([[boundary]]))
    normal = graph.op("Where", outlier, graph.constant([[-1]], np.int64), graph.constant([[1]], np.int64))
    graph.output("normal", graph.flat(normal), np.int64)
    graph.output("score", graph.flat(score), np.float64)
