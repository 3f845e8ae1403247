"""Estimators as files that `partial_fit` goes on from: skops with audited types, arrays for Birch's tree.

skops has no form for Birch, and its linked leaves would exhaust a recursive writer. The tree is written as
plain arrays: nodes in preorder, so that a child always comes after its parent and a file cannot hold a
cycle.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kepler.adapters.formats import native
from kepler.core.algorithms import Fitted
from kepler.core.errors import InvalidInput

SKOPS_FILE = "state.skops"
TREE_FILE = "state.npz"
_NUMBERS = ("threshold", "branching_factor", "n_clusters")

Arrays = dict[str, npt.NDArray[Any]]


def save_state(fitted: Fitted, folder: Path) -> str:
    """Write ``fitted.estimator`` into ``folder``; gives the file's name. Raises `InvalidInput`."""
    estimator = fitted.estimator
    if type(estimator).__name__ == "Birch":
        with (folder / TREE_FILE).open("wb") as file:
            arrays: Any = _birch_arrays(estimator)
            np.savez(file, **arrays)
        return TREE_FILE
    native.save_skops(estimator, folder / SKOPS_FILE)
    return SKOPS_FILE


def load_state(name: str, folder: Path) -> Any:
    """The estimator that `save_state` wrote. Raises `InvalidInput` for anything else."""
    path = folder / name
    if name not in (SKOPS_FILE, TREE_FILE) or not path.is_file():
        raise _unreadable(f"{name[:40]!r} is no file to go on from")
    if name == SKOPS_FILE:
        return native.load_skops(path, native.AUDITED)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            return _birch({key: held[key] for key in held.files})
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise _unreadable(type(error).__name__) from error


def _birch_arrays(estimator: Any) -> Arrays:
    nodes: list[Any] = []
    children: list[int] = []
    waiting: list[tuple[Any, int]] = [(estimator.root_, -1)]
    parts: list[list[Any]] = []
    place: dict[int, int] = {}
    while waiting:
        node, at = waiting.pop()
        if at >= 0:
            children[at] = len(nodes)
        place[id(node)] = len(nodes)
        nodes.append(node)
        parts.append(node.subclusters_)
        first = len(children)
        children += [-1] * len(node.subclusters_)
        below = [
            (part.child_, first + i) for i, part in enumerate(node.subclusters_) if part.child_ is not None
        ]
        waiting += reversed(below)
    every = [part for group in parts for part in group]
    leaves: list[int] = []
    leaf = estimator.dummy_leaf_.next_leaf_
    while leaf is not None:
        leaves.append(place[id(leaf)])
        leaf = leaf.next_leaf_
    options = {name: getattr(estimator, name) for name in _NUMBERS}
    return {
        "options": np.array(json.dumps(options)),
        "sizes": np.array([len(group) for group in parts], dtype=np.int64),
        "leaves": np.array(leaves, dtype=np.int64),
        "children": np.array(children, dtype=np.int64),
        "n_samples": np.array([part.n_samples_ for part in every], dtype=np.int64),
        "linear_sum": np.array([part.linear_sum_ for part in every], dtype=np.float64),
        "squared_sum": np.array([part.squared_sum_ for part in every], dtype=np.float64),
        "centroid": np.array([part.centroid_ for part in every], dtype=np.float64),
        "sq_norm": np.array([part.sq_norm_ for part in every], dtype=np.float64),
    }


def _birch(held: Arrays) -> Any:
    from sklearn.cluster import Birch
    from sklearn.cluster._birch import _CFNode, _CFSubcluster

    options = json.loads(str(held["options"]))
    sizes, leaves, children = held["sizes"].tolist(), held["leaves"].tolist(), held["children"].tolist()
    width, most = held["linear_sum"].shape[1], int(options["branching_factor"])
    in_tree = set(leaves)
    # Only what a tree can be: every node but the root is one subcluster's child and comes after it.
    below = sorted(child for child in children if child >= 0)
    if below != list(range(1, len(sizes))) or sum(sizes) != len(children) or max(sizes) > most:
        raise ValueError("no tree")
    if len(in_tree) != len(leaves) or not in_tree <= set(range(len(sizes))):
        raise ValueError("no list of leaves")

    def node(is_leaf: bool) -> Any:
        return _CFNode(
            threshold=options["threshold"],
            branching_factor=most,
            is_leaf=is_leaf,
            n_features=width,
            dtype=np.float64,
        )

    nodes = [node(index in in_tree) for index in range(len(sizes))]
    at = 0
    for index, size in enumerate(sizes):
        for i in range(at, at + size):
            if 0 <= children[i] <= index or (children[i] >= 0) is nodes[index].is_leaf:
                raise ValueError("no tree")
            part = _CFSubcluster(linear_sum=held["linear_sum"][i].copy())
            part.n_samples_ = int(held["n_samples"][i])
            part.squared_sum_ = held["squared_sum"][i]
            part.centroid_ = held["centroid"][i].copy()
            part.sq_norm_ = held["sq_norm"][i]
            part.child_ = nodes[children[i]] if children[i] >= 0 else None
            nodes[index].append_subcluster(part)
        at += size
    estimator: Any = Birch(**{name: options[name] for name in _NUMBERS})
    estimator.root_, estimator.dummy_leaf_ = nodes[0], node(True)
    before = estimator.dummy_leaf_
    for index in leaves:
        before.next_leaf_, nodes[index].prev_leaf_ = nodes[index], before
        before = nodes[index]
    estimator.n_features_in_ = width
    return estimator


def _unreadable(cause: str) -> InvalidInput:
    return InvalidInput(
        "The state of the earlier version cannot be read (partial_fit)",
        cause=cause,
        fix="Name another model to begin anew.",
    )
