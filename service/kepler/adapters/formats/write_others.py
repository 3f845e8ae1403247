"""ONNX graphs of kernels, naive Bayes, networks, clusters, components and scalers."""

from __future__ import annotations

from typing import Any

import numpy as np

from kepler.adapters.formats.graph import GraphWriter
from kepler.adapters.formats.write_trees import anomaly_outputs
from kepler.adapters.formats.writers import NotConvertible, Written
from kepler.core.algorithms import Fitted

# A run holds rows x support vectors (or centres) doubles; this bounds it to about 64 MB.
_CELLS = 8_000_000


def _block_rows(width: int) -> int:
    return max(64, _CELLS // max(1, width))


def gaussian_nb(fitted: Fitted, graph: GraphWriter) -> Written:
    """log p = log prior - ½ Σ (log 2πσ² + (x-μ)²/σ²), as squares: expanding them would lose digits."""
    estimator = fitted.estimator
    parts: list[str] = []
    for mean, variance, prior in zip(estimator.theta_, estimator.var_, estimator.class_prior_, strict=True):
        offset = graph.op("Sub", graph.x, graph.constant(mean.reshape(1, -1)))
        squares = graph.op("Mul", offset, offset)
        distance = graph.op("MatMul", squares, graph.constant(-0.5 / variance.reshape(-1, 1)))
        constant = np.log(prior) - 0.5 * np.log(2.0 * np.pi * variance).sum()
        parts.append(graph.op("Add", distance, graph.constant([[constant]])))
    return _likeliest(fitted, graph, graph.op("Concat", *parts, axis=1))


def bernoulli_nb(fitted: Fitted, graph: GraphWriter) -> Written:
    estimator = fitted.estimator
    yes = graph.x
    thresholds = {}
    if estimator.binarize is not None:
        yes = graph.cast(
            graph.op("Greater", graph.x, graph.constant([[float(estimator.binarize)]])), np.float64
        )
        thresholds = {i: np.array([float(estimator.binarize)]) for i in range(graph.n_features)}
    no_log = np.log(1.0 - np.exp(estimator.feature_log_prob_))
    weights = (estimator.feature_log_prob_ - no_log).T
    written = _likeliest(
        fitted, graph, graph.affine(yes, weights, (estimator.class_log_prior_ + no_log.sum(1))[None])
    )
    written.thresholds = thresholds
    return written


def _likeliest(fitted: Fitted, graph: GraphWriter, joint: str) -> Written:
    label = graph.op("ArgMax", joint, axis=1, keepdims=0)
    graph.classes(label, graph.op("Softmax", joint, axis=1), fitted.class_index, fitted.n_classes)
    return Written(graph.to_bytes())


def sgd_classifier(fitted: Fitted, graph: GraphWriter) -> Written:
    """One line per class; probabilities for the two losses that have them."""
    estimator = fitted.estimator
    decision = graph.affine(graph.x, estimator.coef_.T, np.asarray(estimator.intercept_).reshape(1, -1))
    if estimator.loss == "modified_huber":
        one = graph.constant(1.0)
        clipped = graph.op("Clip", decision, graph.constant(-1.0), one)
        each = graph.op("Div", graph.op("Add", clipped, one), graph.constant(2.0))
    else:
        each = graph.op("Sigmoid", decision)
    with_proba = estimator.loss in ("log_loss", "modified_huber")
    if len(fitted.class_index) == 2:
        label = graph.flat(graph.cast(graph.op("Greater", decision, graph.constant([[0.0]])), np.int64))
        graph.classes(label, graph.pair(each) if with_proba else None, fitted.class_index, fitted.n_classes)
        return Written(graph.to_bytes())
    probabilities = None
    if with_proba:
        total = graph.op("ReduceSum", each, graph.constant([1], np.int64), keepdims=1)
        if estimator.loss == "modified_huber":
            # Where every class says no, scikit-learn calls all of them equally likely.
            none = graph.op("Not", graph.op("Greater", total, graph.constant([[0.0]])))
            count = float(len(fitted.class_index))
            each = graph.op("Where", none, graph.constant([[1.0]]), each)
            total = graph.op("Where", none, graph.constant([[count]]), total)
        probabilities = graph.op("Div", each, total)
    label = graph.op("ArgMax", decision, axis=1, keepdims=0)
    graph.classes(label, probabilities, fitted.class_index, fitted.n_classes)
    return Written(graph.to_bytes())


_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid", "identity": "Identity"}


def _layers(estimator: Any, graph: GraphWriter) -> str:
    value = graph.x
    last = len(estimator.coefs_) - 1
    for i, (weights, offset) in enumerate(zip(estimator.coefs_, estimator.intercepts_, strict=True)):
        value = graph.affine(value, weights, offset.reshape(1, -1))
        if i < last and estimator.activation != "identity":
            value = graph.op(_ACTIVATIONS[estimator.activation], value)
    return value


def mlp_regressor(fitted: Fitted, graph: GraphWriter) -> Written:
    value = _layers(fitted.estimator, graph)
    if fitted.estimator.out_activation_ != "identity":
        raise NotConvertible(
            f"the output activation {fitted.estimator.out_activation_} has no exact ONNX form here"
        )
    graph.output("value", graph.flat(value), np.float64)
    return Written(graph.to_bytes())


def mlp_classifier(fitted: Fitted, graph: GraphWriter) -> Written:
    value = _layers(fitted.estimator, graph)
    if fitted.estimator.out_activation_ == "logistic":
        graph.binary(value, fitted.class_index, fitted.n_classes)
        return Written(graph.to_bytes())
    return _likeliest(fitted, graph, value)


def _kernel(estimator: Any, graph: GraphWriter) -> str:
    """Likeness of each row to each support vector, (n_rows, n_vectors)."""
    vectors = np.asarray(estimator.support_vectors_, dtype=np.float64)
    gamma = float(estimator._gamma)
    if estimator.kernel == "rbf":
        # |x-v|² as |x|² - 2xv + |v|², around the middle of the vectors, where little is lost.
        middle = vectors.mean(axis=0)
        near = graph.op("Sub", graph.x, graph.constant(middle.reshape(1, -1)))
        vectors = vectors - middle
        squares = graph.op("ReduceSumSquare", near, axes=[1], keepdims=1)
        products = graph.op("MatMul", near, graph.constant(-2.0 * vectors.T))
        lengths = graph.constant((vectors**2).sum(axis=1).reshape(1, -1))
        distance = graph.op("Add", graph.op("Add", products, squares), lengths)
        distance = graph.op("Max", distance, graph.constant([[0.0]]))
        return graph.op("Exp", graph.op("Mul", distance, graph.constant([[-gamma]])))
    products = graph.op("MatMul", graph.x, graph.constant(vectors.T))
    if estimator.kernel == "linear":
        return products
    inner = graph.op("Mul", products, graph.constant([[gamma]]))
    inner = graph.op("Add", inner, graph.constant([[float(estimator.coef0)]]))
    if estimator.kernel == "poly":
        return graph.op("Pow", inner, graph.constant([[float(estimator.degree)]]))
    return graph.op("Tanh", inner)


def svr(fitted: Fitted, graph: GraphWriter) -> Written:
    estimator = fitted.estimator
    weights = np.asarray(estimator.dual_coef_, dtype=np.float64).T
    value = graph.op("MatMul", _kernel(estimator, graph), graph.constant(weights))
    value = graph.op("Add", value, graph.constant(np.reshape(estimator.intercept_, (1, 1))))
    graph.output("value", graph.flat(value), np.float64)
    return Written(graph.to_bytes(), block_rows=_block_rows(len(weights)))


def one_class_svm(fitted: Fitted, graph: GraphWriter) -> Written:
    estimator = fitted.estimator
    weights = np.asarray(estimator.dual_coef_, dtype=np.float64).T
    inside = graph.op("MatMul", _kernel(estimator, graph), graph.constant(weights))
    inside = graph.op("Add", inside, graph.constant(np.reshape(estimator.intercept_, (1, 1))))
    anomaly_outputs(graph, graph.op("Neg", inside), 0.0)
    return Written(graph.to_bytes(), boundary=0.0, block_rows=_block_rows(len(weights)))


def svc(fitted: Fitted, graph: GraphWriter) -> Written:
    """libsvm: one decision per pair of classes, each a vote; the first of those with most votes wins."""
    estimator = fitted.estimator
    n_met = len(fitted.class_index)
    pairs = [(i, j) for i in range(n_met) for j in range(i + 1, n_met)]
    stop = np.cumsum(estimator.n_support_)
    start = stop - estimator.n_support_
    # scikit-learn flips the signs of a two-class model for its users; underscored is what libsvm made.
    dual, offset = np.asarray(estimator._dual_coef_), np.asarray(estimator._intercept_)
    weights = np.zeros((dual.shape[1], len(pairs)))
    votes_first, votes_second = np.zeros((len(pairs), n_met)), np.zeros((len(pairs), n_met))
    for column, (i, j) in enumerate(pairs):
        weights[start[i] : stop[i], column] = dual[j - 1, start[i] : stop[i]]
        weights[start[j] : stop[j], column] = dual[i, start[j] : stop[j]]
        votes_first[column, i] = votes_second[column, j] = 1.0
    decision = graph.op("MatMul", _kernel(estimator, graph), graph.constant(weights))
    decision = graph.op("Add", decision, graph.constant(offset.reshape(1, -1)))
    first = graph.op("Greater", decision, graph.constant([[0.0]]))
    votes = graph.op(
        "Add",
        graph.op("MatMul", graph.cast(first, np.float64), graph.constant(votes_first)),
        graph.op("MatMul", graph.cast(graph.op("Not", first), np.float64), graph.constant(votes_second)),
    )
    graph.classes(graph.op("ArgMax", votes, axis=1, keepdims=0), None, fitted.class_index, fitted.n_classes)
    return Written(graph.to_bytes(), block_rows=_block_rows(len(weights)))


def _nearest(graph: GraphWriter, centres: Any) -> str:
    """Place of the nearest centre: the smallest |c|² - 2xc, as scikit-learn finds it."""
    scores = graph.affine(graph.x, -2.0 * centres.T, (centres**2).sum(axis=1).reshape(1, -1))
    return graph.op("ArgMin", scores, axis=1, keepdims=0)


def k_means(fitted: Fitted, graph: GraphWriter) -> Written:
    centres = np.asarray(fitted.estimator.cluster_centers_, dtype=np.float64)
    nearest = _nearest(graph, centres)
    away = graph.op("Sub", graph.x, graph.op("Gather", graph.constant(centres), nearest, axis=0))
    graph.output("cluster", nearest, np.int64)
    distance = graph.op("Sqrt", graph.op("ReduceSumSquare", away, axes=[1], keepdims=0))
    graph.output("distance", distance, np.float64)
    return Written(graph.to_bytes(), block_rows=_block_rows(len(centres)))


def birch(fitted: Fitted, graph: GraphWriter) -> Written:
    estimator = fitted.estimator
    centres = np.asarray(estimator.subcluster_centers_, dtype=np.float64)
    labels = graph.constant(estimator.subcluster_labels_, np.int64)
    graph.output("cluster", graph.op("Gather", labels, _nearest(graph, centres), axis=0), np.int64)
    return Written(graph.to_bytes(), block_rows=_block_rows(len(centres)))


def pca(fitted: Fitted, graph: GraphWriter) -> Written:
    estimator = fitted.estimator
    components = np.asarray(estimator.components_, dtype=np.float64).T
    if estimator.whiten:
        components = components / np.sqrt(estimator.explained_variance_)
    centred = graph.op("Sub", graph.x, graph.constant(estimator.mean_.reshape(1, -1)))
    value = graph.op("MatMul", centred, graph.constant(components))
    graph.output("components", value, np.float64, components.shape[1])
    return Written(graph.to_bytes())


def scaler(fitted: Fitted, graph: GraphWriter) -> Written:
    """Standard and robust scaler alike: subtract, then divide."""
    estimator = fitted.estimator
    value = graph.x
    robust = hasattr(estimator, "center_")
    centre = estimator.center_ if robust else (estimator.mean_ if estimator.with_mean else None)
    if centre is not None:
        value = graph.op("Sub", value, graph.constant(np.reshape(centre, (1, -1))))
    if estimator.scale_ is not None:
        value = graph.op("Div", value, graph.constant(np.reshape(estimator.scale_, (1, -1))))
    graph.output("components", value, np.float64, graph.n_features)
    return Written(graph.to_bytes())
