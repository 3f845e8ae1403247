"""An ONNX graph in single precision, as a gateway runs it.

Our graphs count in double so that they answer as the library does. A gateway gains from single precision alone:
half the bytes and twice the numbers in one instruction. Products with a sum behind them become one ``Gemm``.
Inputs and outputs keep their names, shapes and types.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

PRODUCTS = frozenset({"MatMul", "Gemm"})
_SKIPPED_DOMAIN = "ai.onnx.ml"


class NotForEdge(Exception):
    """The graph gains nothing; the text says why."""


def read_graph(model: bytes) -> Any:
    """The parsed model. Raises `NotForEdge` for one without products of matrices."""
    import onnx

    parsed = onnx.load_model_from_string(model)
    domains = {node.domain for node in parsed.graph.node}
    if _SKIPPED_DOMAIN in domains:
        raise NotForEdge(
            "it is made of trees: they compare numbers and hold no weights that INT8 or single precision speed up"
        )
    if not any(node.op_type in PRODUCTS for node in parsed.graph.node):
        raise NotForEdge("it multiplies no matrices")
    return parsed


def to_bytes(parsed: Any) -> bytes:
    """The model's bytes; the same graph gives the same bytes."""
    used = {node.domain for node in parsed.graph.node} | {""}
    kept = [opset for opset in parsed.opset_import if opset.domain in used]
    del parsed.opset_import[:]
    parsed.opset_import.extend(sorted(kept, key=lambda opset: opset.domain))
    del parsed.graph.value_info[:]
    return bytes(parsed.SerializeToString(deterministic=True))


def in_single_precision(model: bytes) -> bytes:
    """``model`` with every number between its input and its outputs in float32.

    Raises
    ------
    NotForEdge
        It has no products of matrices, or weights beyond what float32 can hold.
    """
    from onnx import TensorProto, helper

    parsed = read_graph(model)
    graph = parsed.graph
    for place, tensor in enumerate(graph.initializer):
        if tensor.data_type == TensorProto.DOUBLE:
            graph.initializer[place].CopyFrom(_single(tensor))
    double_outputs = {
        item.name for item in graph.output if item.type.tensor_type.elem_type == TensorProto.DOUBLE
    }
    nodes: list[Any] = []
    renamed: dict[str, str] = {}
    if graph.input[0].type.tensor_type.elem_type == TensorProto.DOUBLE:
        nodes.append(helper.make_node("Cast", ["x"], ["x_single"], to=TensorProto.FLOAT))
        renamed["x"] = "x_single"
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
        if node.op_type == "Cast" and node.attribute[0].i == TensorProto.DOUBLE:
            if node.input[0] in (
                "x",
                "x_single",
            ):  # the writer's first step: x is in single precision already
                renamed[node.output[0]] = node.input[0]
                continue
            node.attribute[0].i = TensorProto.FLOAT
        if node.output[0] in double_outputs:
            nodes.append(helper.make_node("Cast", list(node.input), list(node.output), to=TensorProto.DOUBLE))
            continue
        nodes.append(node)
    _replace_nodes(graph, _fused(nodes, {tensor.name: tensor for tensor in graph.initializer}))
    return to_bytes(parsed)


def _single(tensor: Any) -> Any:
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if not np.array_equal(np.isfinite(values), np.isfinite(single)):
        raise NotForEdge("its weights are larger than single precision can hold")
    return numpy_helper.from_array(single, tensor.name)


def _fused(nodes: list[Any], weights: dict[str, Any]) -> list[Any]:
    """``MatMul`` with known weights and the ``Add`` of a known row behind it as one ``Gemm``."""
    from onnx import helper

    read = Counter(name for node in nodes for name in node.input)
    products = {
        node.output[0]: node
        for node in nodes
        if node.op_type == "MatMul" and node.input[1] in weights and read[node.output[0]] == 1
    }
    out: list[Any] = []
    for node in nodes:
        product = products.get(node.input[0]) if node.op_type == "Add" else None
        offset = weights.get(node.input[1]) if product is not None else None
        if product is None or offset is None or list(offset.dims)[:1] != [1] or len(offset.dims) != 2:
            out.append(node)
            continue
        del offset.dims[0]  # (1, width) as (width,): the quantiser takes a bias of one dimension only
        out.remove(product)
        out.append(helper.make_node("Gemm", [*product.input, node.input[1]], list(node.output)))
    return out


def _replace_nodes(graph: Any, nodes: list[Any]) -> None:
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
