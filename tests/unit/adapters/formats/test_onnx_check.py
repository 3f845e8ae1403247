from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from kepler.adapters.formats.graph import ALLOWED, GraphWriter
from kepler.adapters.formats.onnx_check import check_model
from kepler.core.errors import InvalidInput


def _model(*nodes: Any, weights: Any = (), **extra: Any) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", 2])
    graph = helper.make_graph(
        list(nodes), "g", [x], [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)], list(weights)
    )
    return helper.make_model(graph, **extra)


def _check(model: onnx.ModelProto) -> None:
    check_model(model.SerializeToString(), ALLOWED)


GOOD = helper.make_node("Relu", ["x"], ["y"])


def test_what_we_write_passes() -> None:
    graph = GraphWriter(2, "float32")
    graph.output("value", graph.flat(graph.affine(graph.x, [[1.0], [2.0]], [[0.5]])), np.float64)
    check_model(graph.to_bytes(), ALLOWED)
    _check(_model(GOOD))
    _check(_model(helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")))


def test_the_same_graph_gives_the_same_bytes() -> None:
    def write() -> bytes:
        graph = GraphWriter(2, "float64")
        graph.output("value", graph.flat(graph.affine(graph.x, [[1.0], [2.0]], [[0.5]])), np.float64)
        return graph.to_bytes()

    assert write() == write()


def test_only_allowed_operators_are_written() -> None:
    with pytest.raises(ValueError, match="operator :If is not on the list"):
        GraphWriter(2, "float64").op("If", "x")


def _external() -> Any:
    tensor = numpy_helper.from_array(np.ones(3), "w")
    onnx.external_data_helper.set_external_data(tensor, "/etc/passwd")
    tensor.ClearField("raw_data")
    return tensor


def _located() -> Any:
    tensor = numpy_helper.from_array(np.ones(3), "w")
    tensor.data_location = TensorProto.EXTERNAL
    return tensor


def _subgraph() -> Any:
    return helper.make_graph([GOOD], "inner", [], [])


def _sparse() -> Any:
    values = numpy_helper.from_array(np.ones(1), "v")
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64), "i"), [3])


def _sparse_weights() -> onnx.ModelProto:
    model = _model(GOOD)
    model.graph.sparse_initializer.append(_sparse())
    return model


def _training() -> onnx.ModelProto:
    model = _model(GOOD)
    model.training_info.append(onnx.TrainingInfoProto())
    return model


FUNCTION = helper.make_function(
    "local", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)]
)
BAD = {
    "custom domain": (lambda: _model(helper.make_node("Steal", ["x"], ["y"], domain="evil.com")), "operators of 'evil.com'"),
    "imported domain": (lambda: _model(GOOD, opset_imports=[helper.make_opsetid("com.microsoft", 1)]), "operators of 'com.microsoft'"),
    "operator": (lambda: _model(helper.make_node("Loop", ["x"], ["y"])), "its operator Loop is not allowed"),
    "tree operator": (lambda: _model(helper.make_node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml")), "ai.onnx.ml:LabelEncoder"),
    "function": (lambda: _model(GOOD, functions=[FUNCTION]), "functions or training steps"),
    "training": (_training, "functions or training steps"),
    "external data": (lambda: _model(GOOD, weights=[_external()]), "another file"),
    "external location": (lambda: _model(GOOD, weights=[_located()]), "another file"),
    "external attribute": (lambda: _model(helper.make_node("Relu", ["x"], ["y"], w=_external())), "another file"),
    "external attributes": (lambda: _model(helper.make_node("Relu", ["x"], ["y"], w=[_external()])), "another file"),
    "nested graph": (lambda: _model(helper.make_node("Relu", ["x"], ["y"], then=_subgraph())), "nested graphs"),
    "nested graphs": (lambda: _model(helper.make_node("Relu", ["x"], ["y"], then=[_subgraph()])), "nested graphs"),
    "sparse attribute": (lambda: _model(helper.make_node("Relu", ["x"], ["y"], s=_sparse())), "nested graphs or sparse"),
    "sparse weights": (_sparse_weights, "sparse weights"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_could_do_more_than_compute_is_refused(name: str) -> None:
    make, why = BAD[name]
    with pytest.raises(InvalidInput) as caught:
        _check(make())
    assert why in caught.value.cause


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"not a model",
        b"\x80" * 12,
        b"\x3a\xff",
        b"\x3a\x05ab",
        b"\x38\x01",
        b"\x0b",
        b"\x3a\x00\x3a\x00",
    ],
)
def test_damaged_files_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="not a whole ONNX file"):
        check_model(data, ALLOWED)


def test_large_files_are_refused() -> None:
    with pytest.raises(InvalidInput, match="has 3 bytes and at most 2"):
        check_model(b"abc", ALLOWED, max_bytes=2)


def test_fixed_width_fields_are_skipped() -> None:
    body = _model(GOOD).SerializeToString()
    check_model(body + b"\x95\x06" + b"1234" + b"\x91\x06" + b"12345678", ALLOWED)


@given(st.binary(max_size=200), st.integers(0, 10_000))
def test_no_bytes_raise_anything_else(noise: bytes, place: int) -> None:
    whole = _model(GOOD).SerializeToString()
    cut = place % len(whole)
    for data in (noise, whole[:cut] + noise + whole[cut:]):
        try:
            check_model(data, ALLOWED)
        except InvalidInput:
            continue
