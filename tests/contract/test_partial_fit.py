"""Two halves through partial_fit, saved and read in between, equal scikit-learn's own partial_fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import Birch
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from kepler.adapters.formats import SafeModelFormats
from kepler.core.algorithms import Fitted, Incremental, Task, TrainingSet
from kepler.core.errors import InvalidInput
from kepler.ports.formats import EstimatorStates
from kepler.registry import default_registry
from kepler.testing import RecordingRun, example_rows

SEED = 42
REGISTRY, FORMATS = default_registry(), SafeModelFormats()
CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("GaussianNB", {"var_smoothing": 1e-6}, GaussianNB(var_smoothing=1e-6)),
    ("BernoulliNB", {"binarize": 0.2, "fit_prior": False}, BernoulliNB(binarize=0.2, fit_prior=False)),
    ("SGDClassifier", {}, SGDClassifier(random_state=SEED)),
    ("SGDClassifier", {"loss": "log", "average": True}, SGDClassifier(loss="log_loss", average=True, random_state=SEED)),
    ("SGDRegressor", {"eta0": 0.05}, SGDRegressor(eta0=0.05, random_state=SEED)),
    ("SGDRegressor", {"loss": "huber", "penalty": "l1"}, SGDRegressor(loss="huber", penalty="l1", random_state=SEED)),
    ("MLPClassifier", {"hidden_layer_sizes": [8]}, MLPClassifier(hidden_layer_sizes=(8,), random_state=SEED)),
    ("MLPClassifier", {"solver": "sgd", "momentum": 0.5}, MLPClassifier(solver="sgd", momentum=0.5, random_state=SEED)),
    ("Birch", {"k": 4, "branching_factor": 5}, Birch(n_clusters=4, branching_factor=5)),
    ("Birch", {"k": None, "threshold": 3.0}, Birch(n_clusters=None, threshold=3.0)),
    ("StandardScaler", {}, StandardScaler()),
    ("StandardScaler", {"with_mean": False, "with_std": False}, StandardScaler(with_mean=False, with_std=False)),
]  # fmt: skip


def halves(data: TrainingSet) -> list[TrainingSet]:
    middle = len(data.x) // 2
    return [
        TrainingSet(data.x[part], None if data.y is None else data.y[part], data.feature_names, data.classes)
        for part in (slice(0, middle), slice(middle, None))
    ]


def instance(name: str, params: dict[str, Any]) -> Any:
    return REGISTRY.create(REGISTRY.find(name), params)


def through_file(fitted: Fitted, folder: Path) -> Any:
    name = FORMATS.save_state(fitted, folder)
    assert [path.name for path in folder.iterdir()] == [name]
    return FORMATS.load_state(name, folder)


def direct(estimator: Any, data: TrainingSet, parts: list[TrainingSet]) -> Any:
    from sklearn.base import clone

    fresh = clone(estimator)
    for part in parts:
        more = {"classes": np.arange(len(data.classes))} if data.classes else {}
        fresh.partial_fit(part.x.copy(), *([] if part.y is None else [part.y]), **more)
    return fresh


@pytest.mark.parametrize(
    ("name", "params", "native"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_two_halves_equal_the_library(name: str, params: dict[str, Any], native: Any, tmp_path: Path):
    info = REGISTRY.find(name)
    data = example_rows(info.task, n_classes=3)
    parts = halves(data)
    run = RecordingRun(seed=SEED)
    fitted = instance(name, params).partial_fit(parts[0], run, None)
    before = through_file(fitted, tmp_path)
    fitted = instance(name, params).partial_fit(parts[1], run, before)
    expected = direct(native, data, parts)
    scores = fitted.score(data.x)
    if info.task is Task.CLASSIFICATION:
        assert fitted.class_index == (0, 1, 2)
        np.testing.assert_array_equal(scores["label"], expected.predict(data.x))
        if "probabilities" in scores:
            np.testing.assert_allclose(scores["probabilities"], expected.predict_proba(data.x), atol=1e-6)
    elif info.task is Task.TRANSFORM:
        np.testing.assert_allclose(scores["components"], expected.transform(data.x), atol=1e-6)
    else:
        key = "value" if info.task is Task.REGRESSION else "cluster"
        np.testing.assert_allclose(scores[key], expected.predict(data.x), atol=1e-6)
    assert fitted.summary["default"].rows
    saved = FORMATS.save(fitted, data.x, tmp_path)
    again = FORMATS.load(saved, tmp_path).score(data.x)
    for key in scores:
        np.testing.assert_allclose(again[key], scores[key], atol=1e-6)


def test_a_state_is_more_than_the_answers(tmp_path: Path):
    """A second half learned from the file is not what the second half alone gives."""
    first, second = halves(example_rows(Task.TRANSFORM))
    run = RecordingRun()
    earlier = through_file(instance("StandardScaler", {}).partial_fit(first, run, None), tmp_path)
    assert earlier.n_samples_seen_ == len(first.x)
    on = instance("StandardScaler", {}).partial_fit(second, run, earlier).estimator
    assert on.n_samples_seen_ == len(first.x) + len(second.x)


def test_everything_the_toolkit_offers_goes_on_and_only_that():
    offered = {info.name for info in REGISTRY.all() if isinstance(REGISTRY.create(info, {}), Incremental)}
    assert offered == {name for name, _, _ in CASES}
    assert isinstance(FORMATS, EstimatorStates)


def test_a_later_part_with_one_class_only():
    first, second = halves(example_rows(Task.CLASSIFICATION, n_classes=3))
    assert second.y is not None
    alone = TrainingSet(
        second.x[second.y == 2], second.y[second.y == 2], second.feature_names, second.classes
    )
    run = RecordingRun()
    for name in ("GaussianNB", "BernoulliNB", "SGDClassifier", "MLPClassifier"):
        earlier = instance(name, {}).partial_fit(first, run, None).estimator
        fitted = instance(name, {}).partial_fit(alone, run, earlier)
        assert fitted.n_classes == 3


@pytest.mark.parametrize(
    ("name", "params", "sentence"),
    [
        ("SGDClassifier", {"class_weight": "balanced"}, "cannot balance classes .* Leave out class_weight"),
        ("MLPClassifier", {"solver": "lbfgs"}, "needs all rows at once.* Use solver=adam"),
        ("MLPClassifier", {"early_stopping": True}, "early_stopping needs passes"),
        ("Birch", {"k": 1000}, "cannot make 1000 clusters of 240 rows"),
    ],
)
def test_what_cannot_learn_in_parts(name: str, params: dict[str, Any], sentence: str):
    data = example_rows(REGISTRY.find(name).task)
    with pytest.raises(InvalidInput, match=sentence):
        instance(name, params).partial_fit(data, RecordingRun(), None)


def test_parameters_about_passes_are_said_not_to_count():
    run = RecordingRun()
    data = example_rows(Task.REGRESSION)
    instance("SGDRegressor", {"max_iter": 7, "tol": None}).partial_fit(data, run, None)
    assert run.notices == [
        ("info", "partial_fit passes over the rows of each search once; max_iter and tol do not count")
    ]


class TestBirchFile:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        data = example_rows(Task.CLUSTERING)
        algorithm = instance("Birch", {"k": 3, "branching_factor": 3, "threshold": 0.3})
        FORMATS.save_state(algorithm.partial_fit(data, RecordingRun(), None), tmp_path)
        return tmp_path

    def change(self, folder: Path, **arrays: Any) -> None:
        with np.load(folder / "state.npz") as held:
            kept = {key: held[key] for key in held.files}
        np.savez(folder / "state.npz", **{**kept, **arrays})

    def test_the_tree_comes_back_as_it_was(self, folder: Path):
        from kepler.adapters.formats.states import _birch_arrays

        with np.load(folder / "state.npz") as held:
            kept = {key: held[key] for key in held.files}
        again = _birch_arrays(FORMATS.load_state("state.npz", folder))
        assert len(kept["sizes"]) > 10
        for key, value in kept.items():
            np.testing.assert_array_equal(again[key], value)

    def test_what_is_no_tree_is_refused(self, folder: Path):
        with np.load(folder / "state.npz") as held:
            children, leaves, sizes = held["children"], held["leaves"], held["sizes"]
        back = children.copy()
        back[np.flatnonzero(children >= 0)] = np.sort(children[children >= 0])[
            ::-1
        ]  # some child before its parent
        for arrays in (
            {"children": np.zeros_like(children)},
            {"children": back},
            {"leaves": leaves[:-1]},
            {"leaves": np.concatenate([leaves, leaves[:1]])},
            {"leaves": leaves + 10_000},
            {"sizes": sizes[:-1]},
            {"options": np.array("{")},
            {"options": np.array(json.dumps({"threshold": 0.5}))},
            {"linear_sum": np.zeros(3)},
            {"n_samples": np.zeros(0)},
        ):
            with np.load(folder / "state.npz") as held:
                kept = {key: held[key] for key in held.files}
            self.change(folder, **arrays)
            with pytest.raises(InvalidInput, match="earlier version cannot be read"):
                FORMATS.load_state("state.npz", folder)
            np.savez(folder / "state.npz", **kept)
        FORMATS.load_state("state.npz", folder)

    def test_objects_are_never_unpickled(self, folder: Path):
        with (folder / "state.npz").open("wb") as file:
            np.savez(file, options=np.array([object()], dtype=object))
        with pytest.raises(InvalidInput, match="cannot be read"):
            FORMATS.load_state("state.npz", folder)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04K\x01."])
    def test_damaged(self, folder: Path, content: bytes):
        (folder / "state.npz").write_bytes(content)
        with pytest.raises(InvalidInput, match="cannot be read"):
            FORMATS.load_state("state.npz", folder)

    @pytest.mark.parametrize("name", ["other.npz", "../state.npz", "state.skops"])
    def test_no_such_file(self, folder: Path, name: str):
        with pytest.raises(InvalidInput, match="no file to go on from"):
            FORMATS.load_state(name, folder)
