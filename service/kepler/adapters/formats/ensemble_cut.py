"""Cuts the forest out of an ONNX graph: its sums can then be computed another way, the rest stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kepler.adapters.formats.tree_columns import TreeColumns, build

_ML = "ai.onnx.ml"
_SUM, _NONE = 1, 0
_LEQ, _LT = 0, 1
_INPUT = "x"


@dataclass(frozen=True, slots=True)
class Cut:
    """A graph in two parts.

    ``rest`` is an ONNX model that takes the sums under the name ``sums``, and ``x`` too if ``needs_x``.
    """

    forest: TreeColumns
    rest: bytes
    sums: str
    needs_x: bool


def cut_ensemble(model: bytes) -> Cut | None:
    """The parts of ``model`` when it holds one TreeEnsemble over its input; None when it does not, or its forest is
    better walked row by row. Needs the onnx package, and gives None without it.
    """
    try:
        import onnx
    except ImportError:  # images that only serve do without it
        return None
    loaded: Any = onnx.load_model_from_string(model)
    graph = loaded.graph
    found = [node for node in graph.node if (node.domain, node.op_type) == (_ML, "TreeEnsemble")]
    if len(found) != 1 or not _reads_input(onnx, graph, found[0].input[0]):
        return None
    forest = _forest(onnx, found[0])
    if forest is None:
        return None
    return _rest(onnx, loaded, found[0], forest)


def _reads_input(onnx: Any, graph: Any, name: str) -> bool:
    """Whether ``name`` is the input, or the input in double precision."""
    if name == _INPUT:
        return True
    maker = next((node for node in graph.node if name in node.output), None)
    if maker is None or maker.op_type != "Cast" or list(maker.input) != [_INPUT]:
        return False
    return bool(onnx.helper.get_attribute_value(maker.attribute[0]) == onnx.TensorProto.DOUBLE)


def _forest(onnx: Any, node: Any) -> TreeColumns | None:
    given = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    if given.get("aggregate_function", _SUM) != _SUM or given.get("post_transform", _NONE) != _NONE:
        return None
    modes = np.unique(onnx.numpy_helper.to_array(given["nodes_modes"]))
    if len(modes) != 1 or modes[0] not in (_LEQ, _LT) or "membership_values" in given:
        return None

    def ints(key: str) -> Any:
        return np.array(given[key], np.int64)

    missing = given.get("nodes_missing_value_tracks_true")
    feature = ints("nodes_featureids")
    return build(
        feature,
        onnx.numpy_helper.to_array(given["nodes_splits"]).astype(np.float64),
        (ints("nodes_truenodeids"), ints("nodes_falsenodeids")),
        (ints("nodes_trueleafs").astype(np.bool_), ints("nodes_falseleafs").astype(np.bool_)),
        np.array(missing, np.bool_) if missing else np.zeros(len(feature), np.bool_),
        list(given["tree_roots"]),
        (onnx.numpy_helper.to_array(given["leaf_weights"]), ints("leaf_targetids")),
        n_targets=int(given["n_targets"]),
        inclusive=modes[0] == _LT,
    )


def _rest(onnx: Any, loaded: Any, ensemble: Any, forest: TreeColumns) -> Cut:
    """``loaded`` without its ensemble and without what only that needed."""
    sums = ensemble.output[0]
    graph = loaded.graph
    graph.node.remove(ensemble)
    while dead := [node for node in graph.node if not _used(graph, node.output)]:
        for node in dead:
            graph.node.remove(node)
    needs_x = any(_INPUT in node.input for node in graph.node)
    if not needs_x:
        del graph.input[:]
    kind = onnx.helper.np_dtype_to_tensor_dtype(forest.dtype)
    graph.input.append(onnx.helper.make_tensor_value_info(sums, kind, ["n", forest.n_targets]))
    used = {name for node in graph.node for name in node.input}
    for item in [item for item in graph.initializer if item.name not in used]:
        graph.initializer.remove(item)
    return Cut(forest, loaded.SerializeToString(), sums, needs_x)


def _used(graph: Any, names: Any) -> bool:
    wanted = {item.name for item in graph.output} | {name for node in graph.node for name in node.input}
    return any(name in wanted for name in names)
