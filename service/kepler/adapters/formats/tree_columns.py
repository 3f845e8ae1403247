"""Sums of a forest, computed a column of rows at a time.

A tree is walked row by row everywhere else, and every step waits for the one before it. Here every split
is asked for all rows at once, as one comparison of bytes, and the answers are folded up the tree into the
number of the leaf. For trees of tens of leaves that is several times quicker, in plain NumPy; for trees of
thousands it is slower, since it asks splits that a row never meets (docs/decisions/0007).

The idea of numbering leaves from left to right and combining the answers of all splits is that of
QuickScorer: Lucchese et al. (2015), "QuickScorer: a Fast Algorithm to Rank Documents with Additive
Ensembles of Regression Trees". The fold by maxima is ours.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kepler.adapters.formats.threshold_codes import Codes, ThresholdCodes

MAX_LEAVES = 256  # of one tree: leaf numbers are bytes
MAX_SPLITS = 50_000  # of all trees
_BLOCK_ROWS = 65_536  # keeps a column of bytes in a core's cache
_ROWS_PER_STEP = 0.5  # fewer rows than this for each array operation, and the walk is quicker

_PAIR, _RIGHT, _LEFT, _BOTH = range(4)  # which children of a split are more than a leaf

Bytes = npt.NDArray[np.uint8]


class Step(NamedTuple):
    """One split: what its children are, what it asks, and how many leaves are on its left."""

    kind: int
    feature: int
    rank: Any  # of its threshold among those of the feature, in the type of the codes
    missing_left: bool
    left_leaves: Any  # uint8


@dataclass(frozen=True, slots=True)
class Tree:
    """Splits in the order in which they are folded, and the leaves from left to right."""

    steps: tuple[Step, ...]
    leaves: npt.NDArray[Any]  # (n_leaves,), float64 or float32
    target: int


class TreeColumns:
    """A forest whose leaves hold one number each and add up.

    Parameters
    ----------
    trees
        In the order in which the library adds them.
    codes
        By feature, for those that are asked.
    n_targets
        Columns of the sums.
    """

    def __init__(self, trees: list[Tree], codes: dict[int, ThresholdCodes], n_targets: int) -> None:
        self.n_targets = n_targets
        self.dtype = trees[0].leaves.dtype
        self._trees = trees
        self._codes = codes
        self._missing_left = {step.feature for tree in trees for step in tree.steps if step.missing_left}
        self._room = max(_room(tree.steps) for tree in trees)
        operations = (1, 3, 3, 4)
        steps = sum(operations[step.kind] for tree in trees for step in tree.steps) + 2 * len(trees)
        self.least_rows = int(steps * _ROWS_PER_STEP)
        self.size_bytes = 200 * steps

    def sums(self, x: npt.NDArray[Any], limit_s: float = math.inf) -> npt.NDArray[Any] | None:
        """Sums (n_rows, n_targets) for ``x`` (n_rows, n_features); NaN is missing.

        None when that took more than ``limit_s``, which happens while other threads keep the interpreter busy.
        """
        ends = time.perf_counter() + limit_s
        out = np.zeros((len(x), self.n_targets), self.dtype)
        for start in range(0, len(x), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            if not self._block(x[block], out[block], ends):
                return None
        return out

    def example_rows(self, n_rows: int, n_features: int, seed: int) -> npt.NDArray[np.float64]:
        """Rows (n_rows, n_features) of split values, their neighbours in float32, extremes and nothing."""
        random = np.random.default_rng(seed)
        x = random.standard_normal((n_rows, n_features))
        for feature, coding in self._codes.items():
            with np.errstate(over="ignore"):
                splits = random.choice(coding.thresholds, n_rows).astype(np.float32)
            beside = np.nextafter(splits, np.where(random.random(n_rows) < 0.5, -np.inf, np.inf))
            x[:, feature] = np.where(random.random(n_rows) < 0.4, splits, beside)
        rare = random.random(x.shape)
        x[rare < 0.05] = np.nan
        x[rare > 0.97] = -np.inf
        x[rare > 0.985] = np.inf
        return x

    def _block(self, x: npt.NDArray[Any], out: npt.NDArray[Any], ends: float) -> bool:
        right, left = self._coded(x)
        n_rows = len(x)
        room = list(np.empty((self._room, n_rows), np.uint8))
        asked = np.empty(n_rows, np.uint8)
        totals = [np.zeros(n_rows, self.dtype) for _ in range(self.n_targets)]
        values = np.empty(n_rows, self.dtype)
        for tree in self._trees:
            _fold(tree.steps, right, left, room, asked)
            np.take(tree.leaves, room[0], out=values, mode="clip")
            totals[tree.target] += values
            if time.perf_counter() > ends:
                return False
        for target, total in enumerate(totals):
            out[:, target] = total
        return True

    def _coded(self, x: npt.NDArray[Any]) -> tuple[dict[int, Codes], dict[int, Codes]]:
        """Codes by feature: with missing values above every threshold, and with them below."""
        right: dict[int, Codes] = {}
        left: dict[int, Codes] = {}
        for feature, coding in self._codes.items():
            values = np.ascontiguousarray(x[:, feature], dtype=np.float64)
            missing = np.isnan(values)
            none = not missing.any()
            codes = coding.of(values if none else np.where(missing, 0.0, values))
            right[feature] = left[feature] = codes
            if none:
                continue
            if feature in self._missing_left:
                left[feature] = np.where(missing, 0, codes).astype(coding.dtype)
            codes[missing] = coding.largest
        return right, left


def _fold(
    steps: tuple[Step, ...],
    right: dict[int, Codes],
    left: dict[int, Codes],
    room: list[Bytes],
    asked: Bytes,
) -> None:
    """Write each row's leaf number into ``room[0]``.

    A split's answer is 0 for left and 1 for right. Below it, leaves count from 0; those on its right come
    after those on its left, so the larger of "left's number" and "answer times right's number" is the row's.
    """
    greater, multiply, add, maximum = np.greater, np.multiply, np.add, np.maximum
    yes = asked.view(np.bool_)
    answers = [rows.view(np.bool_) for rows in room]
    top = -1
    for kind, feature, rank, missing_left, left_leaves in steps:
        codes = left[feature] if missing_left else right[feature]
        if kind == _PAIR:
            top += 1
            greater(codes, rank, out=answers[top])
            continue
        greater(codes, rank, out=yes)
        rows = room[top]
        if kind == _RIGHT:
            add(rows, left_leaves, out=rows)
            multiply(rows, asked, out=rows)
        elif kind == _LEFT:
            multiply(asked, left_leaves, out=asked)
            maximum(rows, asked, out=rows)
        else:
            top -= 1
            add(rows, left_leaves, out=rows)
            multiply(rows, asked, out=rows)
            maximum(room[top], rows, out=room[top])


def _room(steps: tuple[Step, ...]) -> int:
    """Columns that wait at once."""
    waiting = most = 0
    for step in steps:
        waiting += (step.kind == _PAIR) - (step.kind == _BOTH)
        most = max(most, waiting)
    return most


def build(
    feature: npt.NDArray[np.int64],
    split: npt.NDArray[np.float64],
    children: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    are_leaves: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
    missing_left: npt.NDArray[np.bool_],
    roots: list[int],
    leaves: tuple[npt.NDArray[Any], npt.NDArray[np.int64]],
    *,
    n_targets: int,
    inclusive: bool,
) -> TreeColumns | None:
    """A forest from its nodes as ONNX's TreeEnsemble lists them; None when another way is quicker or it has a shape
    that is not met in forests of ours.

    ``children`` and ``are_leaves`` are left and right: numbers of splits, or of ``leaves`` (weight, target).
    """
    if not roots or len(feature) > MAX_SPLITS:
        return None
    thresholds = {int(f): np.unique(split[feature == f]) for f in np.unique(feature)}
    if any(len(item) > 65_534 or np.isnan(item).any() for item in thresholds.values()):
        return None
    codes = {f: ThresholdCodes(item, inclusive=inclusive) for f, item in thresholds.items()}
    rank = np.empty(len(feature), np.int64)
    for f, item in thresholds.items():
        at = feature == f
        rank[at] = np.searchsorted(item, split[at])
    nodes = _Nodes(
        feature.tolist(),
        rank.tolist(),
        children[0].tolist(),
        children[1].tolist(),
        are_leaves[0].tolist(),
        are_leaves[1].tolist(),
        missing_left.tolist(),
    )
    trees: list[Tree] = []
    for root in roots:
        laid = _lay_out(nodes, root, codes)
        if laid is None:
            return None
        steps, order = laid
        targets = leaves[1][order]
        if len(order) > MAX_LEAVES or (targets != targets[0]).any():
            return None
        trees.append(Tree(steps, np.ascontiguousarray(leaves[0][order]), int(targets[0])))
    return TreeColumns(trees, codes, n_targets)


class _Nodes(NamedTuple):
    feature: list[int]
    rank: list[int]
    left: list[int]
    right: list[int]
    left_leaf: list[bool]
    right_leaf: list[bool]
    missing_left: list[bool]


def _lay_out(
    nodes: _Nodes, root: int, codes: dict[int, ThresholdCodes]
) -> tuple[tuple[Step, ...], list[int]] | None:
    """Steps and leaves of the tree at ``root``; None for one that is no tree or too large."""
    steps: list[Step] = []
    order: list[int] = []
    first: dict[int, int] = {}  # leaves before those of a split that is still open
    on_left: dict[int, int] = {}
    waiting: list[tuple[int, int]] = [(root, 0)]
    while waiting:
        node, stage = waiting.pop()
        if stage == 0:
            if node in first or len(order) >= MAX_LEAVES:
                return None
            first[node] = len(order)
            waiting.append((node, 1))
            if nodes.left_leaf[node]:
                order.append(nodes.left[node])
            else:
                waiting.append((nodes.left[node], 0))
        elif stage == 1:
            on_left[node] = len(order) - first[node]
            waiting.append((node, 2))
            if nodes.right_leaf[node]:
                order.append(nodes.right[node])
            else:
                waiting.append((nodes.right[node], 0))
        else:
            kind = (0 if nodes.left_leaf[node] else _LEFT) + (0 if nodes.right_leaf[node] else _RIGHT)
            feature = nodes.feature[node]
            steps.append(
                Step(
                    kind,
                    feature,
                    codes[feature].dtype.type(nodes.rank[node]),
                    nodes.missing_left[node],
                    np.uint8(on_left[node]),
                )
            )
    return tuple(steps), order
