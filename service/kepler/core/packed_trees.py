"""Trees and forests of many groups as rows of shared arrays, walked together.

A *slot* is one group's forest: the places of its trees' roots. All rows of a batch walk their own group's tree
number ``t`` side by side, one question at a time, then tree ``t + 1``. Questions are asked of float32
numbers and answers are averaged in float64, as scikit-learn does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kepler.core.algorithms import Fitted, RawScores, Task
from kepler.core.errors import InvalidInput
from kepler.core.packed import (
    MAX_BYTES,
    PackedRows,
    Places,
    difference_of,
    packed_matrix,
)
from kepler.core.preparation import NumberFeature, OneHotFeature, Preparation
from kepler.core.records import Bools, RecordBatch

Floats = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

VALUES, CLASSES = "trees", "class trees"
KINDS = frozenset({VALUES, CLASSES})
ESTIMATORS = frozenset(
    f"{name}{task}"
    for name in ("DecisionTree", "RandomForest", "ExtraTrees")
    for task in ("Classifier", "Regressor")
)
MAX_COLUMNS = 2_000
ARRAYS = ("roots", "feature", "threshold", "child", "value", "used", "fill")


@dataclass(frozen=True, slots=True)
class PackedTrees:
    """``roots`` (n_slots, n_trees). Per node ``feature`` (n_nodes,), -1 in a leaf; ``threshold``; ``child``
    (n_nodes, 2), at or below it and above it; ``value`` (n_nodes, width). ``used`` and ``fill`` are those of
    `kepler.core.packed.PackedModels`.
    """

    kind: str
    preparation: Preparation
    roots: Int64
    feature: Int64
    threshold: Floats
    child: Int64
    value: Floats
    used: Bools
    fill: Floats

    @property
    def arrays(self) -> tuple[str, ...]:
        return ARRAYS

    @property
    def size_bytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in ARRAYS)

    def check(self) -> None:
        """Raise `InvalidInput` when the arrays do not fit each other, or a walk might not end."""
        nodes, columns = len(self.feature), len(self.preparation.feature_names)
        shape = (len(self.roots), len(self.preparation.features))
        inner = np.flatnonzero(self.feature >= 0)
        fits = (
            self.kind in KINDS
            and self.roots.ndim == 2
            and self.threshold.shape == (nodes,)
            and self.child.shape == (nodes, 2)
            and self.value.ndim == 2
            and len(self.value) == nodes
            and self.used.shape == self.fill.shape == shape
            and bool(np.all((self.roots >= 0) & (self.roots < nodes)))
            and bool(np.all(self.feature < columns))
            # Children stand after their parent: no walk goes in a circle.
            and bool(np.all((self.child[inner] > inner[:, None]) & (self.child[inner] < nodes)))
        )
        if not fits:
            raise InvalidInput("The arrays of the packed trees do not fit each other")

    def score(self, batch: RecordBatch, slots: Int64, *, lenient: frozenset[str]) -> PackedRows:
        """Score every row of ``batch`` by its slot. An absent text field in ``lenient`` drops no row."""
        x, kept, unseen = packed_matrix(self, batch, slots, lenient, np.float32)
        if not kept.all():
            x, slots = x[kept], slots[kept]
        return PackedRows(self.scores(x, slots), kept, unseen)

    def scores(self, x: npt.NDArray[Any], slots: Int64) -> RawScores:
        """Scores of ``x`` (n_rows, n_columns), each row by its slot."""
        with np.errstate(over="ignore"):
            x = np.ascontiguousarray(x, dtype=np.float32)
        total: Floats = np.zeros((len(x), self.value.shape[1]))
        n_trees = self.roots.shape[1]
        for tree in range(n_trees):
            node = self.roots[slots, tree]
            rows = np.flatnonzero(self.feature[node] >= 0)
            while len(rows):
                here = node[rows]
                above = x[rows, self.feature[here]] > self.threshold[here]
                node[rows] = self.child[here, above.astype(np.int64)]
                rows = rows[self.feature[node[rows]] >= 0]
            total += self.value[node]
        total /= n_trees
        if self.kind == VALUES:
            return {"value": total[:, 0]}
        return {"label": total.argmax(axis=1).astype(np.int64), "probabilities": total}


class TreePacker:
    """Implements `kepler.core.packed.PackerOfGroups` for scikit-learn's trees and forests."""

    def __init__(self, preparation: Preparation, task: Task, width: int, n_groups: int) -> None:
        self.slots = 0
        self.agreement = 0.0
        self._kind = CLASSES if task is Task.CLASSIFICATION else VALUES
        self._preparation = preparation
        self._places = Places(preparation)
        self._width = width
        self._roots: list[Int64] = []
        self._parts: list[tuple[Int64, Floats, Int64, Floats]] = []
        self._nodes = 0
        self._used: Bools = np.zeros((n_groups, len(preparation.features)), dtype=np.bool_)
        self._fill: Floats = np.full((n_groups, len(preparation.features)), np.nan)

    def add(
        self, fitted: Fitted, preparation: Preparation, x: Floats, expected: RawScores, tolerance: float
    ) -> int:
        if any(not isinstance(item, NumberFeature | OneHotFeature) for item in preparation.features):
            return -1
        place = self._places.columns(preparation)
        parts, roots = self._trees(fitted, place)
        nodes = sum(len(part[0]) for part in parts)
        if (self._nodes + nodes) * 8 * (4 + self._width) > MAX_BYTES:
            return -1
        slot = self.slots
        alone = self._packed(parts, [roots], self._used[:1], self._fill[:1])
        wide: Floats = np.zeros((len(x), len(self._preparation.feature_names)))
        wide[:, place] = x
        difference = difference_of(alone.scores(wide, np.zeros(len(x), dtype=np.int64)), expected)
        if not difference <= tolerance:
            return -1
        self._places.read(preparation, self._used[slot], self._fill[slot])
        self._parts += [(part[0], part[1], part[2] + self._nodes, part[3]) for part in parts]
        self._roots.append(roots + self._nodes)
        self._nodes += nodes
        self.agreement = max(self.agreement, difference)
        self.slots += 1
        return slot

    def done(self) -> PackedTrees:
        return self._packed(self._parts, self._roots, self._used[: self.slots], self._fill[: self.slots])

    def _packed(
        self,
        parts: list[tuple[Int64, Floats, Int64, Floats]],
        roots: list[Int64],
        used: Bools,
        fill: Floats,
    ) -> PackedTrees:
        return PackedTrees(
            self._kind,
            self._preparation,
            np.stack(roots),
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts]),
            np.concatenate([part[2] for part in parts]),
            np.concatenate([part[3] for part in parts]),
            used,
            fill,
        )

    def _trees(self, fitted: Fitted, place: Int64) -> tuple[list[tuple[Int64, Floats, Int64, Floats]], Int64]:
        """The nodes of each tree, numbered on from tree to tree, and the roots."""
        members = [item.tree_ for item in getattr(fitted.estimator, "estimators_", [fitted.estimator])]
        parts: list[tuple[Int64, Floats, Int64, Floats]] = []
        roots: list[int] = []
        start = 0
        for tree in members:
            leaf = tree.children_left < 0
            feature = np.where(leaf, -1, place[np.where(leaf, 0, tree.feature)])
            child = np.stack([tree.children_left, tree.children_right], axis=1).astype(np.int64) + start
            child[leaf] = 0
            value: Floats = np.zeros((tree.node_count, self._width))
            given = np.asarray(tree.value[:, 0, :], dtype=np.float64)
            if self._kind == CLASSES:
                value[:, list(fitted.class_index)] = given / given.sum(axis=1, keepdims=True)
            else:
                value[:, 0] = given[:, 0]
            parts.append((feature, np.asarray(tree.threshold, dtype=np.float64), child, value))
            roots.append(start)
            start += tree.node_count
        return parts, np.asarray(roots, dtype=np.int64)
