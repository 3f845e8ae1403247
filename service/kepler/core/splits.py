"""Which rows are learned from and which are held out. Pure functions of the seed and the targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kepler.core.errors import InvalidInput
from kepler.core.records import Bools

Int64 = npt.NDArray[np.int64]


def holdout(n_rows: int, share: float, seed: int, classes: npt.NDArray[Any] | None = None) -> Bools:
    """Rows to hold out (n_rows,): ``share`` of them at random, of each class alike where there are classes.

    At least one row, and of each class at least one, stays for learning. Raises `InvalidInput` when
    nothing could be held out.
    """
    rng = np.random.default_rng(seed)
    held: Bools = np.zeros(n_rows, dtype=np.bool_)
    groups = (
        [np.arange(n_rows)] if classes is None else [np.flatnonzero(classes == k) for k in np.unique(classes)]
    )
    for rows in groups:
        count = min(round(len(rows) * share), len(rows) - 1)
        held[rng.permutation(rows)[:count]] = True
    if not held.any():
        raise InvalidInput(
            f"test_size={share:g} of {n_rows:,} rows leaves none to test on",
            fix="Use a larger share or more rows.",
        )
    return held


def folds(n_rows: int, count: int, classes: npt.NDArray[Any] | None = None) -> Int64:
    """The fold of each row (n_rows,), in order and not shuffled, as scikit-learn's KFold and StratifiedKFold.

    With ``classes`` each fold gets its part of every class, classes counted in order of appearance.
    """
    if n_rows < count:
        raise InvalidInput(f"kfold_cv={count} needs at least {count} rows and there are {n_rows:,}")
    if classes is None:
        sizes = np.full(count, n_rows // count)
        sizes[: n_rows % count] += 1
        return np.repeat(np.arange(count), sizes)
    _, first, index = np.unique(classes, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    appearance = rank[index]
    if int(np.bincount(appearance).max()) < count:
        raise InvalidInput(
            f"kfold_cv={count} needs a class with at least {count} rows", fix="Use fewer folds or more rows."
        )
    ordered = np.sort(appearance)
    out = np.empty(n_rows, dtype=np.int64)
    for k in range(len(first)):
        sizes = [int(np.count_nonzero(ordered[fold::count] == k)) for fold in range(count)]
        out[appearance == k] = np.repeat(np.arange(count), sizes)
    return out
