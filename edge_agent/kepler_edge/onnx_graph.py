"""Reads just enough of an ONNX file to say whether it may be run, before any runtime sees it.

A file from outside may name custom operators, external data or functions, and ONNX Runtime would follow them.
This walks the protobuf wire format itself (https://protobuf.dev/programming-guides/encoding/; field numbers from
onnx.proto3), skipping the weights, so it costs milliseconds and needs no onnx package.
"""

from __future__ import annotations

from collections.abc import Iterator

from kepler_edge.errors import Refused

MAX_BYTES = 1 << 30
MAX_NODES = 100_000
MAX_OPSETS = {"": 21, "ai.onnx": 21, "ai.onnx.ml": 5}

# What the service writes, and what its quantised graphs hold beside that.
ALLOWED: frozenset[tuple[str, str]] = frozenset(
    {("", kind) for kind in (
        "Abs", "Add", "ArgMax", "ArgMin", "Cast", "Clip", "Concat", "DequantizeLinear", "Div", "Exp", "Gather",
        "Gemm", "Greater", "GreaterOrEqual", "Identity", "IsNaN", "Less", "Log", "MatMul", "Max", "Mul", "Neg",
        "Not", "Pow", "QuantizeLinear", "ReduceMax", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Sigmoid",
        "Softmax", "Sqrt", "Sub", "Tanh", "Where",
    )} | {("ai.onnx.ml", "TreeEnsemble"), ("ai.onnx.ml", "TreeEnsembleRegressor")}
)  # fmt: skip

# onnx.proto3 field numbers
_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 8, 20, 25
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OP, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS = 5, 10
_ATTRIBUTE_NESTED = frozenset({6, 11, 22, 23})  # graphs and sparse tensors
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14

_NOT_WHOLE = "it is not a whole ONNX file"


def check_graph(data: bytes, *, max_bytes: int = MAX_BYTES) -> None:
    """Raise `Refused` unless ``data`` is an ONNX model of allowed operators and its own data alone."""
    if len(data) > max_bytes:
        raise _refused(f"it has {len(data):,} bytes and at most {max_bytes:,} are allowed")
    graphs = 0
    try:
        for number, value in _fields(memoryview(data)):
            if number in (_MODEL_FUNCTIONS, _MODEL_TRAINING):
                raise _refused("it carries functions or training steps of its own")
            if number == _MODEL_OPSETS:
                _check_opset(_message(value))
            elif number == _MODEL_GRAPH:
                graphs += 1
                _check_nodes(_message(value))
    except (ValueError, IndexError) as error:
        raise _refused(_NOT_WHOLE) from error
    if graphs != 1:
        raise _refused(_NOT_WHOLE)


def _check_opset(opset: memoryview) -> None:
    domain = _text(opset, _OPSET_DOMAIN)
    _check_domain(domain)
    for number, value in _fields(opset):
        if number == _OPSET_VERSION and (not isinstance(value, int) or value > MAX_OPSETS[domain]):
            raise _refused(
                f"it needs version {value if isinstance(value, int) else '?'} of {domain or 'ONNX'}"
            )


def _check_nodes(graph: memoryview) -> None:
    nodes = 0
    for number, value in _fields(graph):
        if number == _GRAPH_NODE:
            nodes += 1
            if nodes > MAX_NODES:
                raise _refused(f"it has more than {MAX_NODES:,} operators")
            _check_node(_message(value))
        elif number == _GRAPH_INITIALIZER:
            _check_tensor(_message(value))
        elif number == _GRAPH_SPARSE:
            raise _refused("it holds sparse weights")


def _check_node(node: memoryview) -> None:
    domain, kind = _text(node, _NODE_DOMAIN), _text(node, _NODE_OP)
    _check_domain(domain)
    if ("" if domain == "ai.onnx" else domain, kind) not in ALLOWED:
        raise _refused(f"its operator {domain + ':' if domain else ''}{kind[:80]} is not allowed")
    for number, value in _fields(node):
        if number == _NODE_ATTRIBUTE:
            for inner, item in _fields(_message(value)):
                if inner in _ATTRIBUTE_NESTED:
                    raise _refused("it holds nested graphs or sparse weights")
                if inner in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                    _check_tensor(_message(item))


def _check_tensor(tensor: memoryview) -> None:
    for number, value in _fields(tensor):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
            raise _refused("its weights lie in another file")


def _check_domain(domain: str) -> None:
    if domain not in MAX_OPSETS:
        raise _refused(f"it needs operators of {domain[:80]!r}")


def _refused(why: str) -> Refused:
    return Refused("The ONNX model is refused", cause=f"Because {why}", fix="Train or export it again.")


def _message(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def _text(source: memoryview, number: int) -> str:
    """The last string ``number`` of a message, as protobuf reads it; empty when absent."""
    found = ""
    for field, value in _fields(source):
        if field == number:
            found = bytes(_message(value)).decode()
    return found


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Field numbers and values of one message: numbers as int, the rest as a view of their bytes."""
    place, end = 0, len(data)
    while place < end:
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield number, value
            continue
        if wire == 2:
            size, place = _varint(data, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError("unknown wire type")
        if size > end - place:
            raise ValueError("a field runs past its message")
        yield number, data[place : place + size]
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number is too long")
