"""Predictions through SPL are those of the library called directly: same rows, same preparation, same seed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from e2e.library_twins import TWINS, Twin
from e2e.real_sets import columns
from fakes.splunkd import SearchResult, Splunkd
from kepler.core.algorithms import AlgorithmInfo, Task
from kepler.registry import default_registry
from support.running_service import RunningService

pytestmark = pytest.mark.timeout(400)
TOLERANCE = 1e-6
AT_ONCE = 2
DETERMINISTIC = [info for info in default_registry().all() if info.deterministic]
SETS = {Task.REGRESSION: ("diabetes_scaled.csv", "progression")}
WINE = ("wine.csv", "cultivar")


@dataclass
class Through:
    """What a search gave: the training's own rows, and those of a prediction with the model kept."""

    trained: SearchResult
    predicted: SearchResult | None
    agreement: float


def _set_of(info: AlgorithmInfo) -> tuple[str, str]:
    return SETS.get(info.task, WINE)


def _search(info: AlgorithmInfo, splunkd: Splunkd, home: Path) -> Through:
    lookup, target = _set_of(info)
    fields = " ".join(f'"{name}"' for name in columns(lookup) if name != target)
    named = f"{target} from {fields}" if info.task.needs_target else fields
    has_probabilities = info.task is Task.CLASSIFICATION and info.name not in ("SVM", "SGDClassifier")
    more = " probabilities=true" if has_probabilities else ""
    into = f" into app:same_{info.name}" if info.savable else ""
    spl = TWINS[info.name].spl
    trained = splunkd.search(f"| inputlookup {lookup} | keplertrain {info.name} {named}{into} {spl}{more}")
    if not info.savable or trained.is_failed:
        return Through(trained, None, 0.0)
    predicted = splunkd.search(f"| inputlookup {lookup} | keplerpredict app:same_{info.name}{more}")
    return Through(trained, predicted, _agreement(home, info.name))


def _agreement(home: Path, algorithm: str) -> float:
    for path in home.rglob("manifest.json"):
        manifest = json.loads(path.read_text())
        if str(manifest.get("name", "")).endswith(f"/same_{algorithm}"):
            return float(manifest["model"]["agreement"])
    raise AssertionError(f"There is no manifest of {algorithm} below {home}")


@pytest.fixture(scope="module")
def through(splunkd: Splunkd, service: RunningService) -> dict[str, Through]:
    """Every deterministic algorithm, trained and asked through the app's commands."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda info: _search(info, splunkd, service.home), DETERMINISTIC)
        return {info.name: item for info, item in zip(DETERMINISTIC, found, strict=True)}


@cache
def _rows(lookup: str, target: str) -> tuple[np.ndarray, list[str]]:
    cells = columns(lookup)
    x = np.array([[float(v) for v in values] for name, values in cells.items() if name != target]).T
    return np.ascontiguousarray(x), cells[target]


def _direct(info: AlgorithmInfo, twin: Twin) -> dict[str, Any]:
    """Columns as the library answers: name to texts or numbers."""
    lookup, target = _set_of(info)
    x, y = _rows(lookup, target)
    x = x.astype(twin.dtype)
    estimator = twin.make()
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if info.task is Task.REGRESSION:
            estimator.fit(x, np.array([float(v) for v in y]))
            return {f"predicted({target})": np.asarray(estimator.predict(x)).reshape(-1)}
        if info.task is Task.CLASSIFICATION:
            return _classes(estimator, x, y, target)
        if info.task is Task.CLUSTERING:
            return _clusters(info, estimator, x)
        if info.task is Task.ANOMALY:
            return _outliers(info, estimator, x)
        made = estimator.fit(x).transform(x)
    names = [name for name in columns(lookup) if name != target]
    labels = [f"PC_{i + 1}" for i in range(made.shape[1])]
    if info.name != "PCA":
        labels = [f"{info.output_prefix}_{name}" for name in names]
    return {label: made[:, i] for i, label in enumerate(labels)}


def _classes(estimator: Any, x: np.ndarray, y: list[str], target: str) -> dict[str, Any]:
    labels, codes = np.unique(y, return_inverse=True)
    estimator.fit(x, codes)
    guesses = labels[np.asarray(estimator.predict(x)).reshape(-1).astype(int)]
    found: dict[str, Any] = {f"predicted({target})": list(guesses)}
    if hasattr(estimator, "predict_proba"):
        chances = estimator.predict_proba(x)
        found |= {f"probability({target}={label})": chances[:, i] for i, label in enumerate(labels)}
    return found


def _clusters(info: AlgorithmInfo, estimator: Any, x: np.ndarray) -> dict[str, Any]:
    estimator.fit(x)
    labels = estimator.labels_ if info.name == "DBSCAN" else estimator.predict(x)
    found: dict[str, Any] = {"cluster": [str(label) for label in labels]}
    if info.name == "KMeans":
        found["cluster_distance"] = np.linalg.norm(x - estimator.cluster_centers_[labels], axis=1)
    return found


def _outliers(info: AlgorithmInfo, estimator: Any, x: np.ndarray) -> dict[str, Any]:
    if info.name == "LocalOutlierFactor":
        verdict = estimator.fit_predict(x)
        return {
            "is_outlier": [str(-v) for v in verdict],
            "anomaly_score": -estimator.negative_outlier_factor_,
        }
    verdict = estimator.fit(x).predict(x)
    if info.name == "OneClassSVM":
        return {"isNormal": [str(v) for v in verdict]}
    return {"isOutlier": [str(-v) for v in verdict], "anomaly_score": -estimator.score_samples(x)}


def _compare(result: SearchResult, expected: dict[str, Sequence[Any]]) -> None:
    assert not result.is_failed, result.errors
    missing = [name for name in expected if name not in result.fields]
    assert not missing, f"{missing} are not among {result.fields}"
    for name, values in expected.items():
        cells = [row[name] for row in result.rows]
        assert len(cells) == len(values)
        if isinstance(values, list):
            assert cells == [str(v) for v in values], name
            continue
        wanted = np.asarray(values, dtype=np.float64)
        found = np.array([float(cell) for cell in cells])
        off = np.abs(found - wanted) / np.maximum(1.0, np.abs(wanted))
        assert off.max() <= TOLERANCE, f"{name} differs by up to {off.max():.3g}"


def test_every_deterministic_algorithm_has_a_twin() -> None:
    assert {info.name for info in DETERMINISTIC} == set(TWINS)


@pytest.mark.parametrize("info", DETERMINISTIC, ids=[info.name for info in DETERMINISTIC])
def test_the_search_says_what_the_library_says(info: AlgorithmInfo, through: dict[str, Through]) -> None:
    got, expected = through[info.name], _direct(info, TWINS[info.name])
    _compare(got.trained, expected)
    if info.savable:
        assert got.predicted is not None
        _compare(got.predicted, expected)


@pytest.mark.parametrize("info", [i for i in DETERMINISTIC if i.savable], ids=lambda info: info.name)
def test_the_kept_file_agrees_with_the_estimator(info: AlgorithmInfo, through: dict[str, Through]) -> None:
    assert through[info.name].agreement <= TOLERANCE
