"""`check_algorithm`: what every algorithm must do, for ours and for plugin authors'.

It needs no test framework: call it in a test, and an `AssertionError` says what is wrong.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kepler.core.algorithms import AlgorithmInfo, Fitted, RawScores, Task, TrainingSet
from kepler.core.errors import InvalidInput
from kepler.ports.formats import ModelFormats
from kepler.registry import Registry

ROWS, SEED = 240, 7
NAMES = ("flow", "heat", "load", "noise", "speed")
OUTPUTS = {
    Task.CLASSIFICATION: {"label"},
    Task.REGRESSION: {"value"},
    Task.CLUSTERING: {"cluster"},
    Task.ANOMALY: {"normal"},
    Task.TRANSFORM: {"components"},
}


@dataclass
class RecordingRun:
    """A `kepler.core.algorithms.Run` that keeps what it is told."""

    seed: int = 42
    threads: int = 1
    notices: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    phases: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])

    def progress(self, fraction: float, phase: str) -> None:
        self.phases.append((fraction, phase))

    def notice(self, level: str, text: str) -> None:
        self.notices.append((level, text))


def example_rows(task: Task, *, n_classes: int = 2, rows: int = ROWS, seed: int = SEED) -> TrainingSet:
    """Rows with something to learn: two fields matter, one is noise, scales are alike."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, len(NAMES)))
    signal = x[:, 0] + 0.5 * x[:, 1] * (x[:, 2] > 0) + 0.1 * rng.normal(size=rows)
    if task is Task.CLASSIFICATION:
        edges = np.quantile(signal, np.arange(1, n_classes) / n_classes)
        y: Any = np.digitize(signal, edges).astype(np.int64)
        return TrainingSet(x, y, NAMES, tuple(f"class {i}" for i in range(n_classes)))
    return TrainingSet(x, signal * 3.0 + 20.0 if task is Task.REGRESSION else None, NAMES)


def check_algorithm(
    registry: Registry,
    info: AlgorithmInfo,
    formats: ModelFormats,
    *,
    params: Mapping[str, Any] | None = None,
    n_classes: int = 2,
    tolerance: float = 1e-6,
    column_order: bool = False,
) -> Fitted:
    """Train ``info`` on example rows and hold it to the contract; gives the fitted estimator.

    Checked: outputs have the shapes of their task; the same seed gives the same answer; inputs stay
    untouched; one row scores as it does among many; an empty batch scores to nothing; a missing value is
    scored or refused as declared; the summary has its tables; what is saved answers as it did before, or
    saying that it cannot be saved. With ``column_order`` the order of the fields must not matter either, as
    it doesn't for methods without chance or ties.

    Raises
    ------
    AssertionError
        Naming the algorithm and what it broke.
    """
    data = example_rows(info.task, n_classes=n_classes)
    values = dict(params or {})
    before = (data.x.copy(), None if data.y is None else data.y.copy())
    fitted = registry.create(info, values).fit(data, RecordingRun())
    _same(info, "changed the rows it was given", data.x, before[0])
    if data.y is not None:
        _same(info, "changed the target it was given", data.y, before[1])
    _that(info, fitted.task is info.task, "says another task than it registered")
    _that(info, {"default", "params"} <= set(fitted.summary), "has no default and params tables")
    if not info.savable:
        _check_fit_only(registry, info, fitted, data, values, formats)
        return fitted
    x = data.x.astype(fitted.dtype)
    scores = fitted.score(x)
    _check_shapes(info, fitted, scores, len(x), n_classes)
    again = registry.create(info, values).fit(data, RecordingRun())
    if info.deterministic:
        _alike(info, "gives another answer for the same seed", again.score(x), scores, 0.0)
    _alike(info, "changes its answer when asked twice", fitted.score(x), scores, 0.0)
    rows = [fitted.score(x[i : i + 1]) for i in range(8)]
    joined = {key: np.concatenate([row[key] for row in rows]) for key in scores}
    _alike(
        info, "scores one row unlike many", joined, {key: item[:8] for key, item in scores.items()}, tolerance
    )
    _check_missing(registry, info, values, data)
    if column_order:
        _check_column_order(registry, info, values, data, scores)
    with tempfile.TemporaryDirectory() as folder:
        saved = formats.save(fitted, x, Path(folder))
        scorer = formats.load(saved, Path(folder))
        _that(info, saved.agreement <= tolerance, f"agrees only to {saved.agreement:g} once saved")
        _alike(info, "answers otherwise once saved", scorer.score(x), scores, tolerance)
        empty = scorer.score(x[:0])
        _that(info, all(len(item) == 0 for item in empty.values()), "answers an empty batch with rows")
        _that(info, set(empty) == set(scores), "answers an empty batch with other outputs")
        backwards = scorer.score(x[::-1])
        _alike(
            info,
            "depends on the order of rows",
            {k: v[::-1] for k, v in backwards.items()},
            scores,
            tolerance,
        )
    return fitted


def _check_shapes(info: AlgorithmInfo, fitted: Fitted, scores: RawScores, rows: int, n_classes: int) -> None:
    _that(info, OUTPUTS[info.task] <= set(scores), f"gives {sorted(scores)}")
    _that(info, all(len(item) == rows for item in scores.values()), "gives another number of rows")
    if info.task is Task.CLASSIFICATION:
        _that(
            info, set(np.unique(scores["label"])) <= set(range(n_classes)), "gives classes that do not exist"
        )
        if "probabilities" in scores:
            given = scores["probabilities"]
            _that(info, given.shape == (rows, n_classes), "gives probabilities of another shape")
            _that(info, bool(np.allclose(given.sum(axis=1), 1.0)), "gives probabilities that don't add to 1")
    if info.task is Task.ANOMALY:
        _that(info, set(np.unique(scores["normal"])) <= {-1, 1}, "gives a verdict that is neither 1 nor -1")
    if info.task is Task.TRANSFORM:
        width = scores["components"].shape[1]
        _that(info, len(fitted.component_names) == width, "names another number of components")


def _check_fit_only(
    registry: Registry,
    info: AlgorithmInfo,
    fitted: Fitted,
    data: TrainingSet,
    values: Mapping[str, Any],
    formats: ModelFormats,
) -> None:
    scores = fitted.training_scores
    _that(info, scores is not None and not fitted.native_format, "has no answer for its training rows")
    assert scores is not None
    _that(info, OUTPUTS[info.task] <= set(scores), f"gives {sorted(scores)}")
    _that(info, all(len(item) == len(data.x) for item in scores.values()), "gives another number of rows")
    again = registry.create(info, values).fit(data, RecordingRun()).training_scores or {}
    _alike(info, "gives another answer for the same seed", again, scores, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        try:
            formats.save(fitted, data.x, Path(folder))
        except InvalidInput:
            return
    raise AssertionError(f"{info.name} was saved although it says that it cannot be")


def _check_column_order(
    registry: Registry, info: AlgorithmInfo, values: Mapping[str, Any], data: TrainingSet, scores: RawScores
) -> None:
    order = np.array([3, 0, 4, 1, 2])
    names = tuple(data.feature_names[i] for i in order)
    moved = TrainingSet(np.ascontiguousarray(data.x[:, order]), data.y, names, data.classes)
    fitted = registry.create(info, values).fit(moved, RecordingRun())
    got = fitted.score(moved.x.astype(fitted.dtype))
    _alike(info, "depends on the order of fields", got, scores, 1e-4)


def _check_missing(
    registry: Registry, info: AlgorithmInfo, values: Mapping[str, Any], data: TrainingSet
) -> None:
    holed = data.x.copy()
    holed[::5, 1] = np.nan
    holey = TrainingSet(holed, data.y, data.feature_names, data.classes)
    try:
        fitted = registry.create(info, values).fit(holey, RecordingRun())
        scores = fitted.score(holed.astype(fitted.dtype))
    except InvalidInput:
        _that(info, not info.native_nulls, "refuses missing values although it declares to take them")
        return
    _that(info, info.native_nulls, "takes missing values and does not declare it")
    _that(info, all(len(item) == len(holed) for item in scores.values()), "drops rows with missing values")


def _that(info: AlgorithmInfo, holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(f"{info.name} {what}")


def _same(info: AlgorithmInfo, what: str, got: Any, expected: Any) -> None:
    _that(info, bool(np.array_equal(got, expected)), what)


def _alike(info: AlgorithmInfo, what: str, got: RawScores, expected: RawScores, tolerance: float) -> None:
    _that(info, set(got) == set(expected), f"{what}: {sorted(got)} in place of {sorted(expected)}")
    for key, value in expected.items():
        if np.issubdtype(value.dtype, np.integer) or tolerance == 0.0:
            _that(info, bool(np.array_equal(got[key], value)), f"{what} ({key})")
        else:
            limit = tolerance * np.maximum(1.0, np.abs(value))
            _that(info, bool((np.abs(got[key] - value) <= limit).all()), f"{what} ({key})")
