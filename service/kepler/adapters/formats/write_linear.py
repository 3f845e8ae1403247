"""ONNX graphs of linear models."""

from __future__ import annotations

import numpy as np

from kepler.adapters.formats.graph import GraphWriter
from kepler.adapters.formats.writers import Written
from kepler.core.algorithms import Fitted


def linear_regressor(fitted: Fitted, graph: GraphWriter) -> Written:
    weights = np.asarray(fitted.estimator.coef_, dtype=np.float64).reshape(-1, 1)
    offset = np.asarray(fitted.estimator.intercept_, dtype=np.float64).reshape(1, 1)
    graph.output("value", graph.flat(graph.affine(graph.x, weights, offset)), np.float64)
    return Written(graph.to_bytes())


def logistic(fitted: Fitted, graph: GraphWriter) -> Written:
    weights = np.asarray(fitted.estimator.coef_, dtype=np.float64)
    decision = graph.affine(graph.x, weights.T, np.asarray(fitted.estimator.intercept_).reshape(1, -1))
    if len(weights) == 1:
        graph.binary(decision, fitted.class_index, fitted.n_classes)
    else:
        label = graph.op("ArgMax", decision, axis=1, keepdims=0)
        probabilities = graph.op("Softmax", decision, axis=1)
        graph.classes(label, probabilities, fitted.class_index, fitted.n_classes)
    return Written(graph.to_bytes())
