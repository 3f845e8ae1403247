"""Tree ensembles as arrays, and as ONNX nodes.

Thresholds stay double and the input is compared as double, so ``x <= t`` holds in the file exactly where
it holds in the library: rounding a threshold to float32 is what makes generic converters flip rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kepler.adapters.formats.graph import ML_OPSET_VECTOR_LEAVES, GraphWriter

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
LEQ, LT = 0, 1
_MODES = ("BRANCH_LEQ", "BRANCH_LT")
_ML = "ai.onnx.ml"
_SUM = 1


class Forest:
    """Trees whose leaves add up.

    A leaf holds one number for one target, or one for every target; a forest holds trees of one kind.
    ``single`` compares and adds in float32, tree after tree, for libraries that do so themselves.
    """

    def __init__(self, n_targets: int, *, mode: int = LEQ, single: bool = False) -> None:
        self.n_targets = n_targets
        self.mode = mode
        self.dtype = np.float32 if single else np.float64
        self._trees: list[tuple[Ints, Floats, Ints, Ints, npt.NDArray[np.bool_], Floats, int]] = []

    def add(
        self,
        feature: npt.ArrayLike,
        split: npt.ArrayLike,
        left: npt.ArrayLike,
        right: npt.ArrayLike,
        missing_left: npt.ArrayLike,
        value: npt.ArrayLike,
        target: int = 0,
    ) -> None:
        """One tree with its root at 0; ``left`` and ``right`` are negative at leaves.

        ``value`` is read at leaves: (n_nodes,), or (n_nodes, n_targets) when leaves hold every target.
        Where the split's comparison holds, or the value is missing and ``missing_left``, the way is left.
        """
        left, right = np.asarray(left, np.int64), np.asarray(right, np.int64)
        feature, split = np.asarray(feature, np.int64), np.asarray(split, np.float64)
        missing, values = np.asarray(missing_left, np.bool_), np.asarray(value, np.float64)
        if len(left) == 1:  # a lone leaf: the operator wants a split, whose two ends are then equal
            feature, split, missing = np.zeros(3, np.int64), np.zeros(3), np.zeros(3, np.bool_)
            left, right = np.array([1, -1, -1]), np.array([2, -1, -1])
            values = np.repeat(values, 3, axis=0)
        self._trees.append((feature, split, left, right, missing, values, target))

    @property
    def vector_leaves(self) -> bool:
        return bool(self._trees) and self._trees[0][5].ndim == 2

    def thresholds(self) -> dict[int, Floats]:
        """Distinct split values by feature."""
        inner = [tree[2] >= 0 for tree in self._trees]
        feature = np.concatenate([tree[0][keep] for tree, keep in zip(self._trees, inner, strict=True)])
        split = np.concatenate([tree[1][keep] for tree, keep in zip(self._trees, inner, strict=True)])
        finite = np.abs(split) < np.finfo(np.float32).max  # splits of missing against all else are infinite
        return {int(k): np.unique(split[(feature == k) & finite]) for k in np.unique(feature)}

    def write(self, graph: GraphWriter) -> str:
        """The sums, (n_rows, n_targets) float64."""
        if self.vector_leaves:
            return self._write_vectors(graph, graph.x)
        if self.dtype == np.float32:
            return graph.cast(self._write_scalars(graph, "x"), np.float64)
        return self._write_scalars(graph, graph.x)

    def _write_scalars(self, graph: GraphWriter, x: str) -> str:
        from onnx import numpy_helper

        parts: dict[str, list[npt.NDArray[Any]]] = {key: [] for key in _SCALAR_KEYS}
        roots: list[int] = []
        nodes = leaves = 0
        for feature, split, left, right, missing, values, target in self._trees:
            inner = left >= 0
            place = np.where(inner, np.cumsum(inner) - 1 + nodes, np.cumsum(~inner) - 1 + leaves)
            roots.append(nodes)
            parts["nodes_featureids"].append(feature[inner])
            parts["nodes_splits"].append(split[inner])
            parts["nodes_truenodeids"].append(place[left[inner]])
            parts["nodes_trueleafs"].append(~inner[left[inner]])
            parts["nodes_falsenodeids"].append(place[right[inner]])
            parts["nodes_falseleafs"].append(~inner[right[inner]])
            parts["nodes_missing_value_tracks_true"].append(missing[inner])
            parts["leaf_weights"].append(values[~inner])
            parts["leaf_targetids"].append(np.full(int((~inner).sum()), target))
            nodes, leaves = nodes + int(inner.sum()), leaves + int((~inner).sum())
        whole = {key: np.concatenate(part) for key, part in parts.items()}
        tensors = {
            "nodes_splits": whole.pop("nodes_splits").astype(self.dtype),
            "leaf_weights": whole.pop("leaf_weights").astype(self.dtype),
            "nodes_modes": np.full(nodes, self.mode, np.uint8),
        }
        return graph.op(
            "TreeEnsemble",
            x,
            domain=_ML,
            n_targets=self.n_targets,
            aggregate_function=_SUM,
            post_transform=0,
            tree_roots=roots,
            **{key: value.astype(np.int64).tolist() for key, value in whole.items()},
            **{key: numpy_helper.from_array(value, key) for key, value in tensors.items()},
        )

    def _write_vectors(self, graph: GraphWriter, x: str) -> str:
        """The older operator, whose leaves may hold several targets; it sums in double, gives float32."""
        from onnx import numpy_helper

        ids: dict[str, list[Any]] = {key: [] for key in _VECTOR_KEYS}
        splits: list[Floats] = []
        weights: list[Floats] = []
        k = self.n_targets
        for number, (feature, split, left, right, missing, values, _) in enumerate(self._trees):
            n = len(left)
            leaf = np.flatnonzero(left < 0)
            ids["nodes_treeids"] += [number] * n
            ids["nodes_nodeids"] += range(n)
            ids["nodes_featureids"] += np.maximum(feature, 0).tolist()
            ids["nodes_modes"] += [_MODES[self.mode] if inner else "LEAF" for inner in left >= 0]
            ids["nodes_truenodeids"] += np.maximum(left, 0).tolist()
            ids["nodes_falsenodeids"] += np.maximum(right, 0).tolist()
            ids["nodes_missing_value_tracks_true"] += missing.astype(int).tolist()
            ids["target_treeids"] += [number] * (len(leaf) * k)
            ids["target_nodeids"] += np.repeat(leaf, k).tolist()
            ids["target_ids"] += list(range(k)) * len(leaf)
            splits.append(np.where(left >= 0, split, 0.0))
            weights.append(values[leaf].reshape(-1))
        tensors = {
            "nodes_values_as_tensor": np.concatenate(splits),
            "target_weights_as_tensor": np.concatenate(weights),
        }
        graph.ml_opset = ML_OPSET_VECTOR_LEAVES
        sums = graph.op(
            "TreeEnsembleRegressor",
            x,
            domain=_ML,
            n_targets=k,
            aggregate_function="SUM",
            post_transform="NONE",
            **ids,
            **{key: numpy_helper.from_array(value, key) for key, value in tensors.items()},
        )
        return graph.cast(sums, np.float64)


_SCALAR_KEYS = (
    "nodes_featureids", "nodes_splits", "nodes_truenodeids", "nodes_trueleafs", "nodes_falsenodeids",
    "nodes_falseleafs", "nodes_missing_value_tracks_true", "leaf_weights", "leaf_targetids",
)  # fmt: skip
_VECTOR_KEYS = (
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_truenodeids",
    "nodes_falsenodeids", "nodes_missing_value_tracks_true", "target_treeids", "target_nodeids", "target_ids",
)  # fmt: skip
