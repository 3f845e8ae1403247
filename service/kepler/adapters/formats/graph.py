"""A small ONNX graph, written node by node in double precision.

Only operators of `ALLOWED` are ever loaded, and written here or by the edge optimiser: the same list an agent has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

OPSET = 17
# 5 is the first with TreeEnsemble, whose thresholds, leaves and sums are double from end to end. Its leaves
# hold one number; TreeEnsembleRegressor, whose leaves hold several, ended with 3. A graph uses one of them.
ML_OPSET = 5
ML_OPSET_VECTOR_LEAVES = 3
IR_VERSION = 9

ALLOWED: frozenset[tuple[str, str]] = frozenset(
    {("", kind) for kind in (
        "Abs", "Add", "ArgMax", "ArgMin", "Cast", "Clip", "Concat", "DequantizeLinear", "Div", "Exp", "Gather",
        "Gemm", "Greater", "GreaterOrEqual", "Identity", "IsNaN", "Less", "Log", "MatMul", "Max", "Mul", "Neg",
        "Not", "Pow", "QuantizeLinear", "ReduceMax", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Sigmoid", "Softmax", "Sqrt", "Sub",
        "Tanh", "Where",
    )} | {("ai.onnx.ml", "TreeEnsemble"), ("ai.onnx.ml", "TreeEnsembleRegressor")}
)  # fmt: skip


class GraphWriter:
    """Builds one graph with input ``x`` (n_rows, n_features).

    Names count up, so the same model gives the same bytes. `x` is the input as float64: ONNX Runtime has
    double kernels for everything used here, and comparisons and sums then match the native library's.
    """

    def __init__(self, n_features: int, dtype: str) -> None:
        self.n_features = n_features
        self.dtype = dtype
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._outputs: list[Any] = []
        self._count = 0
        self.ml_opset = ML_OPSET
        self.x = "x" if dtype == "float64" else self.cast("x", np.float64)

    def constant(self, values: npt.ArrayLike, dtype: Any = np.float64) -> str:
        from onnx import numpy_helper

        name = self._name("c")
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=dtype), name))
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        if (domain, kind) not in ALLOWED:
            raise ValueError(f"operator {domain}:{kind} is not on the list of operators that may be loaded")
        name = self._name("v")
        self._nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name

    def cast(self, value: str, dtype: Any) -> str:
        from onnx import helper

        return self.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def flat(self, value: str) -> str:
        """``value`` (n_rows, 1) as (n_rows,)."""
        return self.op("Reshape", value, self.constant([-1], np.int64))

    def column(self, value: str, index: int) -> str:
        """Column ``index`` of ``value`` as (n_rows, 1)."""
        return self.op("Gather", value, self.constant([index], np.int64), axis=1)

    def affine(self, value: str, weights: npt.ArrayLike, offset: npt.ArrayLike) -> str:
        """``value @ weights + offset``."""
        return self.op("Add", self.op("MatMul", value, self.constant(weights)), self.constant(offset))

    def output(self, key: str, value: str, dtype: Any, width: int | None = None) -> None:
        """Make ``value`` the output ``key``, shape (n_rows,) or (n_rows, width)."""
        from onnx import helper

        self._nodes.append(helper.make_node("Identity", [value], [key]))
        shape: list[Any] = ["n"] if width is None else ["n", width]
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._outputs.append(helper.make_tensor_value_info(key, kind, shape))

    def classes(
        self, label: str, probabilities: str | None, class_index: tuple[int, ...], n_classes: int
    ) -> None:
        """Outputs of a classifier; ``label`` (n_rows,) is the place of the class among those met."""
        if class_index != tuple(range(n_classes)):
            label = self.op("Gather", self.constant(class_index, np.int64), label, axis=0)
            if probabilities is not None:
                spread = np.zeros((len(class_index), n_classes))
                spread[np.arange(len(class_index)), list(class_index)] = 1.0
                probabilities = self.op("MatMul", probabilities, self.constant(spread))
        self.output("label", label, np.int64)
        if probabilities is not None:
            self.output("probabilities", probabilities, np.float64, n_classes)

    def binary(
        self, decision: str, class_index: tuple[int, ...], n_classes: int, *, with_proba: bool = True
    ) -> None:
        """Two classes from the log odds ``decision`` (n_rows, 1) of the second."""
        label = self.flat(self.cast(self.op("Greater", decision, self.constant([[0.0]])), np.int64))
        probabilities = None
        if with_proba:
            second = self.op("Sigmoid", decision)
            probabilities = self.pair(second)
        self.classes(label, probabilities, class_index, n_classes)

    def pair(self, second: str) -> str:
        """Probabilities of both classes from that of the second."""
        return self.op("Concat", self.op("Sub", self.constant([[1.0]]), second), second, axis=1)

    def to_bytes(self) -> bytes:
        from onnx import TensorProto, helper

        kind = TensorProto.DOUBLE if self.dtype == "float64" else TensorProto.FLOAT
        given = helper.make_tensor_value_info("x", kind, ["n", self.n_features])
        graph = helper.make_graph(self._nodes, "model", [given], self._outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", self.ml_opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="kepler")
        return bytes(model.SerializeToString(deterministic=True))

    def _name(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"
