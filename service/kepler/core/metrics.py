"""Metrics of a training, in plain NumPy. What is undefined is left out, never reported as 0.

Names: classification ``accuracy precision recall f1`` (weighted by class) and ``roc_auc`` (two classes);
regression ``r2 rmse mae``; clustering ``clusters silhouette``; anomaly ``outlier_share``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kepler.core.algorithms import Matrix

Metrics = dict[str, float]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]

SILHOUETTE_ROWS = 2_000


def classification(y: Ints, predicted: Ints, n_classes: int, positive: Floats | None = None) -> Metrics:
    """``y`` and ``predicted`` (n_rows,) class indices; ``positive`` the probability of the second of two."""
    if not len(y):
        return {}
    table = np.bincount(y * n_classes + predicted, minlength=n_classes * n_classes).reshape(
        n_classes, n_classes
    )
    hits = np.diagonal(table).astype(np.float64)
    actual, claimed = table.sum(axis=1).astype(np.float64), table.sum(axis=0).astype(np.float64)
    precision = _ratio(hits, claimed)
    recall = _ratio(hits, actual)
    weights = actual / actual.sum()
    f1 = _ratio(2 * precision * recall, precision + recall)
    out = {
        "accuracy": float(hits.sum() / len(y)),
        "precision": float(weights @ precision),
        "recall": float(weights @ recall),
        "f1": float(weights @ f1),
    }
    if positive is not None and n_classes == 2 and 0 < int(np.count_nonzero(y)) < len(y):
        out["roc_auc"] = roc_auc(y, positive)
    return out


def roc_auc(y: Ints, scores: Floats) -> float:
    """Chance that a row of class 1 scores higher than one of class 0, ties counted half (Mann-Whitney)."""
    _, index, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2.0)[index]
    ones = int(np.count_nonzero(y))
    return float((ranks[y == 1].sum() - ones * (ones + 1) / 2.0) / (ones * (len(y) - ones)))


def regression(y: Floats, predicted: Floats) -> Metrics:
    """``r2`` is left out where the target does not vary."""
    if not len(y):
        return {}
    residual = y - predicted
    squares = float(residual @ residual)
    spread = y - y.mean()
    total = float(spread @ spread)
    out = {"rmse": float(np.sqrt(squares / len(y))), "mae": float(np.abs(residual).mean())}
    if total > 0.0:
        out = {"r2": 1.0 - squares / total, **out}
    return {name: value for name, value in out.items() if np.isfinite(value)}


def clustering(x: Matrix, labels: Ints, seed: int) -> Metrics:
    """Silhouette over at most `SILHOUETTE_ROWS` random rows: it grows with their square."""
    out = {"clusters": float(len(np.unique(labels[labels >= 0])))}
    if len(labels) > SILHOUETTE_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(len(labels), SILHOUETTE_ROWS, replace=False))
        x, labels = x[rows], labels[rows]
    score = silhouette(np.asarray(x, dtype=np.float64), labels)
    return out if score is None else {**out, "silhouette": score}


def silhouette(x: Floats, labels: Ints) -> float | None:
    """Mean of (b - a) / max(a, b) (Rousseeuw 1987); None unless 2 <= clusters < rows."""
    _, index = np.unique(labels, return_inverse=True)
    sizes = np.bincount(index)
    if not 2 <= len(sizes) < len(labels) or not np.isfinite(x).all():
        return None
    squares = (x * x).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2.0 * (x @ x.T)
    np.sqrt(np.maximum(distances, 0.0, out=distances), out=distances)
    np.fill_diagonal(distances, 0.0)
    sums = distances @ np.eye(len(sizes))[index]
    own = sums[np.arange(len(x)), index] / np.maximum(sizes[index] - 1, 1)
    means = sums / sizes
    means[np.arange(len(x)), index] = np.inf
    other = means.min(axis=1)
    score = _ratio(other - own, np.maximum(own, other))
    score[sizes[index] == 1] = 0.0
    return float(score.mean())


def anomaly(normal: Ints) -> Metrics:
    return {"outlier_share": float(np.mean(np.asarray(normal) < 0))} if len(normal) else {}


def _ratio(top: Floats, bottom: Floats) -> Floats:
    out: Floats = np.zeros_like(top)
    np.divide(top, bottom, out=out, where=bottom != 0.0)
    return out
