"""Static INT8 of the large products of a graph: activations unsigned, weights signed and per channel.

Weights keep seven of eight bits (``reduce_range``): processors without VNNI add pairs of products in 16 bits
and would overflow with eight, so that a gateway would answer otherwise than this machine
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "when and why do I need U8U8").
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np

from kepler.adapters.formats.edge_graph import PRODUCTS, NotForEdge, read_graph, to_bytes
from kepler.core.algorithms import Matrix

LEAST_WEIGHTS = 2_048  # of a product: a smaller one takes less time than turning its numbers into bytes
_ROWS = 512  # rows in one step of the calibration


def large_products(model: bytes, *, inner: bool) -> list[str]:
    """Names of the products worth quantising, in order.

    ``inner`` leaves out the first, which reads fields of very different scales, and the last, whose sums decide.
    """
    parsed = read_graph(model)
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in parsed.graph.initializer}
    found = [
        (node.name or node.output[0], sizes[node.input[1]])
        for node in parsed.graph.node
        if node.op_type in PRODUCTS and node.input[1] in sizes
    ]
    return [name for name, size in (found[1:-1] if inner else found) if size >= LEAST_WEIGHTS]


def in_int8(model: bytes, rows: Matrix, products: list[str]) -> bytes:
    """``model`` with ``products`` in INT8, their ranges taken from ``rows`` (n_rows, n_features).

    Raises
    ------
    NotForEdge
        ONNX Runtime cannot quantise it.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    parsed = read_graph(model)
    for node in parsed.graph.node:
        node.name = node.name or node.output[0]
    log = logging.getLogger()
    level = log.level
    with tempfile.TemporaryDirectory(prefix="kepler-edge-") as folder:
        source, target = Path(folder) / "single.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(bytes(parsed.SerializeToString()))
        try:
            log.setLevel(logging.ERROR)  # it advises a step of its own that we have done
            quantize_static(
                source,
                target,
                cast("Any", _Rows(rows)),  # its base class only adds names for what we have
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=products,
                extra_options={"ForceQuantizeNoInputCheck": False},
            )
        except Exception as error:  # its classes are not public
            raise NotForEdge(
                f"ONNX Runtime cannot quantise it ({type(error).__name__}: {str(error)[:200]})"
            ) from error
        finally:
            log.setLevel(level)
        made = onnx.load(str(target))
    return to_bytes(made)


class _Rows:
    """Implements onnxruntime's ``CalibrationDataReader``."""

    def __init__(self, rows: Matrix) -> None:
        self._parts = iter([rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)])

    def get_next(self) -> dict[str, Any] | None:
        part = next(self._parts, None)
        return None if part is None else {"x": np.ascontiguousarray(part)}

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> dict[str, Any]:
        part = self.get_next()
        if part is None:
            raise StopIteration
        return part
