"""Forms of a graph for gateways: the same answers, operators that agents allow, thresholds fitted anew."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from fakes.manifests import make_manifest
from kepler.adapters.formats.edge_answers import agreement, fit_threshold, largest_difference
from kepler.adapters.formats.edge_boundary import refit_boundary
from kepler.adapters.formats.edge_graph import NotForEdge, in_single_precision
from kepler.adapters.formats.edge_optimizer import OnnxEdgeOptimizer
from kepler.adapters.formats.edge_quantize import in_int8, large_products
from kepler.adapters.formats.edge_runs import offline_optimized
from kepler.adapters.formats.graph import ALLOWED, GraphWriter
from kepler.adapters.formats.onnx_scorer import OnnxScorer
from kepler.adapters.formats.write_others import mlp_classifier
from kepler.core.algorithms import Fitted, Task
from kepler.core.errors import InvalidInput
from kepler.core.golden import GoldenVectors
from kepler.core.optimization import Candidate, Cost, Optimization
from kepler_edge.onnx_graph import ALLOWED as ALLOWED_BY_AGENTS
from kepler_edge.onnx_graph import check_graph

WIDTH = 12


def blobs(n: int, classes: int, seed: int = 0) -> tuple[Any, Any]:
    """Rows of well separated classes, fields of very different scales."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(scale=6, size=(classes, WIDTH))
    y = rng.integers(0, classes, n)
    return (centres[y] + rng.normal(size=(n, WIDTH))) / 4, y


@cache
def network(classes: int = 4, units: int = 192) -> bytes:
    from sklearn.neural_network import MLPClassifier

    x, y = blobs(600, classes)
    estimator = MLPClassifier((units, units), max_iter=60, random_state=0, tol=1.0, n_iter_no_change=6).fit(
        x, y
    )
    fitted = Fitted(
        Task.CLASSIFICATION, estimator, lambda _x: {}, class_index=tuple(range(classes)), n_classes=classes
    )
    return mlp_classifier(fitted, GraphWriter(WIDTH, "float64")).model


def run(model: bytes, x: Any) -> dict[str, Any]:
    return dict(OnnxScorer(model, dtype="float64").score(x))


def shape_of(model: bytes) -> list[tuple[str, str, list[Any]]]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [
        (item.name, item.type, list(item.shape)) for item in (*session.get_inputs(), *session.get_outputs())
    ]


def test_agents_and_service_allow_the_same_operators() -> None:
    assert ALLOWED == ALLOWED_BY_AGENTS


def test_single_precision_keeps_the_interface_and_the_answers() -> None:
    model = network()
    made = in_single_precision(model)
    assert shape_of(made) == shape_of(model)
    assert len(made) < 0.55 * len(model)
    x, _ = blobs(500, 4, seed=3)
    before, after = run(model, x), run(made, x)
    assert agreement(before, after) == 1.0
    assert 0 < largest_difference(before, after) < 1e-4
    kinds = [node.op_type for node in onnx.load_model_from_string(made).graph.node]
    assert kinds.count("Gemm") == 3
    assert "MatMul" not in kinds
    assert in_single_precision(model) == made


def test_int8_weights_are_bytes_and_an_agent_takes_the_file() -> None:
    single = in_single_precision(network())
    x, _ = blobs(400, 4, seed=4)
    inner, every = large_products(single, inner=True), large_products(single, inner=False)
    assert len(inner) == 1
    assert len(every) == 2  # the last has 192 x 4 weights, too few to gain
    made = offline_optimized(in_int8(single, x, every))
    check_graph(made)
    assert shape_of(made) == shape_of(network())
    tensors = {
        tensor.data_type
        for tensor in onnx.load_model_from_string(made).graph.initializer
        if len(tensor.dims) == 2
    }
    assert onnx.TensorProto.INT8 in tensors
    assert len(made) < 0.5 * len(single)
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load_model_from_string(made).graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2
    ]
    assert max(int(np.abs(each.astype(int)).max()) for each in weights) <= 64  # seven bits: no overflow in 16


def test_the_whole_way_gives_candidates_with_costs_and_a_choice() -> None:
    x, _ = blobs(1500, 4, seed=5)
    manifest = make_manifest(task=Task.CLASSIFICATION, golden=GoldenVectors.of(x[:6], run(network(), x[:6])))
    found = OnnxEdgeOptimizer().optimize(manifest, network(), x, {}, "test")
    assert [item.method for item in found.candidates][:2] == ["float32", "int8"]
    assert found.fit_rows + found.check_rows == 1500
    for item in found.candidates:
        assert item.cost.size_bytes == len(item.model)
        assert 0 < item.cost.p50_us <= item.cost.p99_us
        assert item.golden.difference(run(item.model, item.golden.matrix("float64"))) <= item.golden.tolerance
    assert found.candidates[0].agreement == 1.0
    assert found.best is not None
    assert found.table().rows[0][0] == "original"
    assert [row[-1] for row in found.table().rows].count("chosen") == 1


def test_a_threshold_of_a_deployment_is_fitted_anew() -> None:
    x, _ = blobs(1500, 4, seed=6)
    manifest = make_manifest(task=Task.CLASSIFICATION, golden=GoldenVectors.of(x[:6], run(network(), x[:6])))
    label = manifest.outputs.labels[1]
    found = OnnxEdgeOptimizer().optimize(manifest, network(), x, {label: 0.9}, "test")
    for item in found.candidates:
        [refit] = item.thresholds
        assert (refit.output, refit.before) == (label, 0.9)
        assert 0 < refit.after < 1
        assert refit.agreement >= 0.99
    with pytest.raises(InvalidInput, match="about no number"):
        OnnxEdgeOptimizer().optimize(manifest, network(), x, {"nothing": 0.9}, "test")
    with pytest.raises(InvalidInput, match="no finite number"):
        OnnxEdgeOptimizer().optimize(manifest, network(), x, {label: float("nan")}, "test")
    with pytest.raises(InvalidInput, match="too few to calibrate"):
        OnnxEdgeOptimizer().optimize(manifest, network(), x[:50], {}, "test")


def test_trees_gain_nothing_and_the_error_says_so() -> None:
    from support.edge_models import draft

    model = (draft("gbdt") / "model.onnx").read_bytes()
    with pytest.raises(NotForEdge, match="made of trees"):
        in_single_precision(model)


def test_weights_beyond_single_precision_are_refused() -> None:
    graph = GraphWriter(2, "float64")
    graph.output("value", graph.flat(graph.affine(graph.x, [[1e300], [1.0]], [[0.0]])), np.float64)
    with pytest.raises(NotForEdge, match="single precision"):
        in_single_precision(graph.to_bytes())


def decider(boundary: float, offset: float) -> bytes:
    """An anomaly graph: the score is the first field plus ``offset``, beyond ``boundary`` it is one."""
    graph = GraphWriter(2, "float64")
    score = graph.affine(graph.x, [[1.0], [0.0]], [[offset]])
    outlier = graph.op("Greater", score, graph.constant([[boundary]]))
    normal = graph.op("Where", outlier, graph.constant([[-1]], np.int64), graph.constant([[1]], np.int64))
    graph.output("normal", graph.flat(normal), np.int64)
    graph.output("score", graph.flat(score), np.float64)
    return graph.to_bytes()


def test_the_boundary_inside_a_graph_moves_with_its_scores() -> None:
    rows = np.random.default_rng(1).normal(size=(2000, 2))
    fit, check = rows[:1000], rows[1000:]
    original, shifted = decider(1.0, 0.0), decider(1.0, 0.25)
    assert (run(original, check)["normal"] == run(shifted, check)["normal"]).mean() < 0.97
    made, refit = refit_boundary(original, shifted, fit, check)
    assert refit is not None
    assert refit.before == 1.0
    assert refit.after == pytest.approx(1.25, abs=0.02)
    assert refit.agreement > 0.995
    assert (run(original, check)["normal"] == run(made, check)["normal"]).mean() > 0.995
    same, none = refit_boundary(original, original, fit, check)
    assert (same, none) == (original, None)


def test_fit_threshold_against_every_cut() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        numbers = np.round(rng.normal(size=rng.integers(2, 30)), 1)
        alerts = rng.random(len(numbers)) < 0.4
        near = float(rng.normal())
        got = fit_threshold(alerts, numbers, near)
        values = np.unique(numbers)
        cuts = [near, -100.0, 100.0, *((values[1:] + values[:-1]) / 2)]
        best = max(int((alerts == (numbers >= cut)).sum()) for cut in cuts)
        assert int((alerts == (numbers >= got)).sum()) >= best


@pytest.mark.parametrize(
    ("p50", "size", "pays"),
    [(80.0, 900, True), (100.0, 600, True), (100.0, 900, False), (120.0, 300, False), (104.0, 500, True)],
)
def test_it_pays_when_faster_or_much_smaller_and_no_slower(p50: float, size: int, pays: bool) -> None:
    item = Candidate("int8", b"", Cost(size, p50, p50), 1.0, 0.0, GoldenVectors((), {}))
    assert item.pays(Cost(1000, 100.0, 100.0)) is pays


def test_the_smaller_of_two_equally_quick_forms_is_chosen_and_refused_ones_never() -> None:
    def form(method: str, size: int, p50: float, refused: str = "") -> Candidate:
        return Candidate(method, b"", Cost(size, p50, p50), 1.0, 0.0, GoldenVectors((), {}), (), refused)

    original = Cost(1000, 100.0, 110.0)
    forms = (
        form("float32", 500, 50.0),
        form("int8", 200, 52.0),
        form("int8", 90, 10.0, "it answers otherwise"),
    )
    found = Optimization(original, forms, "rows", 1, 1)
    assert found.best is forms[1]
    none = Optimization(original, (form("float32", 990, 99.0), forms[2]), "rows", 1, 1)
    assert none.best is None
    assert "99.0 µs" in none.why_not()
    assert "it answers otherwise" in none.why_not()
