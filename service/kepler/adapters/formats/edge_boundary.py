"""The decision inside a graph: the one comparison with a constant that makes its label or flag."""

from __future__ import annotations

from typing import Any

import numpy as np

from kepler.adapters.formats.edge_answers import fit_threshold
from kepler.adapters.formats.edge_graph import to_bytes
from kepler.adapters.formats.edge_runs import session
from kepler.core.algorithms import Matrix
from kepler.core.optimization import Refit

_DECISION = "decision"


def refit_boundary(original: bytes, model: bytes, rows: Matrix, check: Matrix) -> tuple[bytes, Refit | None]:
    """``model`` with the boundary at which it decides most rows as ``original`` does, and what moved.

    None where the graph decides otherwise (the likeliest of several) or the boundary stays.
    """
    decided, decides = _with_decision(original), _with_decision(model)
    if decided is None or decides is None:
        return model, None
    alerts = _decisions(decided, rows)
    after = fit_threshold(alerts[0] > alerts[1], _decisions(decides, rows)[0], decides[2])
    if after == decides[2]:
        return model, None
    made = _moved(model, after)
    old, new = _decisions(decided, check), _decisions(decides, check)
    same = float(((old[0] > old[1]) == (new[0] > after)).mean())
    return made, Refit(_DECISION, decides[2], after, same)


def _with_decision(model: bytes) -> tuple[bytes, str, float] | None:
    """The model with the compared number as an output, its name, and the boundary."""
    import onnx
    from onnx import helper

    parsed = onnx.load_model_from_string(model)
    place = _comparison(parsed)
    if place is None:
        return None
    node, tensor = place
    name = node.input[0]
    kind = tensor.data_type
    parsed.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    return bytes(parsed.SerializeToString()), name, float(onnx.numpy_helper.to_array(tensor).item())


def _comparison(parsed: Any) -> tuple[Any, Any] | None:
    constants = {tensor.name: tensor for tensor in parsed.graph.initializer}
    found = [node for node in parsed.graph.node if node.op_type == "Greater"]
    if len(found) != 1 or found[0].input[1] not in constants:
        return None
    tensor = constants[found[0].input[1]]
    return (found[0], tensor) if int(np.prod(tensor.dims)) == 1 else None


def _decisions(model: tuple[bytes, str, float], rows: Matrix) -> tuple[Any, float]:
    [numbers] = session(model[0]).run([model[1]], {"x": rows})
    return np.asarray(numbers, dtype=np.float64).reshape(-1), model[2]


def _moved(model: bytes, boundary: float) -> bytes:
    import onnx
    from onnx import numpy_helper

    parsed = onnx.load_model_from_string(model)
    place = _comparison(parsed)
    assert place is not None
    node, tensor = place
    values = np.full(tuple(tensor.dims), boundary, dtype=numpy_helper.to_array(tensor).dtype)
    name = f"{tensor.name}_edge"  # the old constant may be read elsewhere, too
    parsed.graph.initializer.append(numpy_helper.from_array(values, name))
    node.input[1] = name
    read = {item for each in parsed.graph.node for item in each.input}
    kept = [item for item in parsed.graph.initializer if item.name in read]
    del parsed.graph.initializer[:]
    parsed.graph.initializer.extend(kept)
    return to_bytes(parsed)
