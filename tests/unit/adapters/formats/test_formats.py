from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

# Imported while collecting: cold, on a busy machine, these alone can take a unit test's ten seconds.
import catboost
import lightgbm
import numpy as np
import pytest
import sklearn.ensemble
import sklearn.linear_model  # noqa: F401
import xgboost

from kepler.adapters.formats import SafeModelFormats, agreement, native, safe
from kepler.adapters.formats.agreement import compare, grid_rows, relative_difference
from kepler.adapters.formats.forest import Forest
from kepler.adapters.formats.graph import GraphWriter
from kepler.adapters.formats.onnx_scorer import OnnxScorer
from kepler.adapters.formats.writers import NotConvertible, write_onnx
from kepler.core.algorithms import Fitted, Task, TrainingSet
from kepler.core.errors import InvalidInput, MissingExtra
from kepler.ports.formats import SavedModel
from kepler.registry import default_registry
from kepler.testing import RecordingRun, example_rows

REGISTRY = default_registry()
FORMATS = SafeModelFormats()


def _fit(
    name: str, *, data: TrainingSet | None = None, n_classes: int = 2, **values: Any
) -> tuple[Fitted, TrainingSet]:
    info = REGISTRY.find(name)
    data = data or example_rows(info.task, n_classes=n_classes)
    return REGISTRY.create(info, values).fit(data, RecordingRun()), data


def _same(got: dict[str, Any], expected: dict[str, Any]) -> None:
    assert compare(expected, got).reason == ""


def _read_natively(fitted: Fitted, data: TrainingSet, folder: Path) -> SavedModel:
    return replace(native.save(fitted, data.x.shape[1], folder), outputs=("label",))


@pytest.mark.parametrize("name", ["LightGBMClassifier", "XGBoostClassifier", "CatBoostClassifier"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_boosters_read_back_from_their_own_files(name: str, n_classes: int, tmp_path: Path) -> None:
    fitted, data = _fit(name, n_classes=n_classes, **{"iterations" if name[0] == "C" else "n_estimators": 5})
    x = data.x.astype("float32")
    for threads in (1, 2):
        scorer = FORMATS.load(_read_natively(fitted, data, tmp_path), tmp_path, threads=threads)
        _same(scorer.score(x), fitted.score(x))
    assert [len(item) for item in scorer.score(x[:0]).values()] == [0, 0]
    with pytest.raises(InvalidInput, match="takes 5 features"):
        scorer.score(x[:, :4])


@pytest.mark.parametrize("name", ["LightGBMRegressor", "XGBoostRegressor", "CatBoostRegressor"])
def test_booster_regressors_too(name: str, tmp_path: Path) -> None:
    fitted, data = _fit(name, **{"iterations" if name[0] == "C" else "n_estimators": 5})
    x = data.x.astype("float32")
    _same(FORMATS.load(_read_natively(fitted, data, tmp_path), tmp_path).score(x), fitted.score(x))


@pytest.mark.parametrize(
    "name", ["RandomForestClassifier", "KMeans", "IsolationForest", "PCA", "OneClassSVM", "MLPRegressor"]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_skops_files_answer_alike(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "BLOCK_ROWS", 100)
    fitted, data = _fit(name)
    x = data.x.astype(fitted.dtype)
    saved = _read_natively(fitted, data, tmp_path)
    assert native.AUDITED.issuperset(saved.trusted_types)
    _same(FORMATS.load(saved, tmp_path).score(x), fitted.score(x))


def test_no_file_is_a_pickle(tmp_path: Path) -> None:
    fitted, data = _fit("KNeighborsClassifier")
    saved = FORMATS.save(fitted, data.x, tmp_path)
    assert (saved.format, saved.files) == ("skops", ("model.skops",))
    assert "no exact ONNX form" in saved.reason
    with zipfile.ZipFile(tmp_path / "model.skops") as archive:
        assert not [name for name in archive.namelist() if name.endswith((".pkl", ".pickle"))]
        assert all(b"cbuiltins" not in archive.read(name) for name in archive.namelist())


def test_types_that_were_not_audited_are_neither_written_nor_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, data = _fit("KNeighborsClassifier")
    saved = FORMATS.save(fitted, data.x, tmp_path)
    with pytest.raises(InvalidInput, match="types that are not trusted"):
        FORMATS.load(replace(saved, trusted_types=()), tmp_path)
    monkeypatch.setattr(native, "AUDITED", frozenset())
    with pytest.raises(InvalidInput, match="types that are not trusted"):
        FORMATS.load(saved, tmp_path)  # the list in the manifest is never believed
    with pytest.raises(InvalidInput, match="which is not an audited type"):
        FORMATS.save(fitted, data.x, tmp_path)


def test_damaged_native_files_are_refused(tmp_path: Path) -> None:
    fitted, data = _fit("KNeighborsClassifier")
    saved = FORMATS.save(fitted, data.x, tmp_path)
    (tmp_path / "model.skops").write_bytes(b"not a zip")
    with pytest.raises(InvalidInput, match="cannot be read"):
        FORMATS.load(saved, tmp_path)


def test_birch_has_no_native_file(tmp_path: Path) -> None:
    fitted, _ = _fit("Birch")
    with pytest.raises(InvalidInput, match="no safe file format"):
        native.save(fitted, 5, tmp_path)


def test_what_cannot_be_saved_says_why(tmp_path: Path) -> None:
    fitted, data = _fit("DBSCAN")
    with pytest.raises(InvalidInput, match="only gives an answer for the rows it was trained on"):
        FORMATS.save(fitted, data.x, tmp_path)
    with pytest.raises(InvalidInput, match="answers only for the rows"):
        fitted.score(data.x)
    line, data = _fit("LinearRegression")
    with pytest.raises(InvalidInput, match="only with rows"):
        FORMATS.save(line, data.x[:0], tmp_path)
    with pytest.raises(InvalidInput, match="does not answer one row at a time"):
        FORMATS.save(replace_score(line, lambda x: 1 / 0), data.x, tmp_path)
    assert list(tmp_path.iterdir()) == []


def replace_score(fitted: Fitted, score: Any) -> Fitted:
    return Fitted(fitted.task, fitted.estimator, score, fitted.dtype, fitted.native_format)


def test_a_graph_that_does_not_agree_gives_way_to_the_native_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, data = _fit("LinearRegression")

    def wrong(fitted: Fitted, n_features: int) -> Any:
        written = write_onnx(fitted, n_features)
        graph = GraphWriter(n_features, "float64")
        graph.output(
            "value", graph.flat(graph.affine(graph.x, np.ones((n_features, 1)), [[0.0]])), np.float64
        )
        written.model = graph.to_bytes()
        return written

    monkeypatch.setattr(safe, "write_onnx", wrong)
    saved = FORMATS.save(fitted, data.x, tmp_path)
    assert (saved.format, saved.files) == ("skops", ("model.skops",))
    assert "did not agree: value differs by up to" in saved.reason
    _same(FORMATS.load(saved, tmp_path).score(data.x), fitted.score(data.x))


def test_a_native_file_that_reads_back_otherwise_is_not_kept(tmp_path: Path) -> None:
    fitted, data = _fit("KNeighborsRegressor")
    shifted = replace_score(fitted, lambda x: {"value": fitted.score(x)["value"] + 1.0})
    with pytest.raises(InvalidInput, match="Read back, value differs"):
        FORMATS.save(shifted, data.x, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("problem", ["large", "broken"])
def test_a_graph_that_cannot_be_loaded_gives_way(
    problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, data = _fit("LinearRegression")
    if problem == "large":
        monkeypatch.setattr(safe, "MAX_BYTES", 10)
    else:
        monkeypatch.setattr(safe, "OnnxScorer", lambda *args, **kwargs: OnnxScorer(b"", dtype="float64"))
    saved = FORMATS.save(fitted, data.x, tmp_path)
    assert saved.format == "skops"
    assert ("more than 10 bytes" if problem == "large" else "not a whole ONNX file") in saved.reason


def test_the_quicker_file_serves_and_onnx_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, data = _fit("CatBoostClassifier", iterations=5)
    x = data.x.astype("float32")
    saved = FORMATS.save(fitted, data.x, tmp_path)
    assert (saved.format, saved.files, saved.extra["serves"]) == (
        "onnx",
        ("model.onnx", "model.cbm"),
        "catboost",
    )
    assert isinstance(FORMATS.load(saved, tmp_path), native.NativeScorer)

    def gone(*args: Any, **kwargs: Any) -> Any:
        raise MissingExtra("catboost is not installed here")

    monkeypatch.setattr(native, "need", gone)
    spare = FORMATS.load(saved, tmp_path)
    assert isinstance(spare, OnnxScorer)
    _same(spare.score(x), fitted.score(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": ("../model.onnx",)}, "not one file in its folder"),
        ({"files": ("model.onnx", "b")}, "is missing"),
        ({"files": ()}, "not one file in its folder"),
        ({"files": ("gone.onnx",)}, "is missing"),
        ({"dtype": "object"}, "matrix type 'object' is unknown"),
        ({"format": "pickle"}, "format 'pickle' is unknown"),
    ],
)
def test_a_strange_manifest_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    fitted, data = _fit("LinearRegression")
    saved = FORMATS.save(fitted, data.x, tmp_path)
    (tmp_path / "model.onnx").unlink() if change.get("files") == ("model.onnx", "b") else None
    with pytest.raises(InvalidInput, match=message):
        FORMATS.load(replace(saved, **change), tmp_path)


def test_a_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, data = _fit("LinearRegression")
    saved = FORMATS.save(fitted, data.x, tmp_path)
    monkeypatch.setattr(safe, "MAX_BYTES", 10)
    with pytest.raises(InvalidInput, match="more than 10 bytes"):
        FORMATS.load(saved, tmp_path)


def test_the_scorer_checks_what_it_is_given() -> None:
    graph = GraphWriter(3, "float64")
    graph.output("components", graph.op("Neg", graph.x), np.float64, 3)
    scorer = OnnxScorer(graph.to_bytes(), dtype="float64", block_rows=4)
    x = np.arange(30.0).reshape(10, 3)
    np.testing.assert_array_equal(scorer.score(x)["components"], -x)
    assert scorer.score(x[:0])["components"].shape == (0, 3)
    assert scorer.n_features == 3
    assert scorer.size_bytes > 0
    with pytest.raises(InvalidInput, match="takes 3 features"):
        scorer.score(x[:, :2])


def test_a_graph_that_makes_no_sense_is_refused_by_the_runtime() -> None:
    graph = GraphWriter(3, "float64")
    graph.output("value", "nowhere", np.float64)
    with pytest.raises(InvalidInput, match="cannot be loaded"):
        OnnxScorer(graph.to_bytes(), dtype="float64")


def test_an_input_without_a_width_is_refused() -> None:
    graph = GraphWriter("d", "float64")  # type: ignore[arg-type]
    graph.output("components", graph.op("Neg", graph.x), np.float64, 3)
    with pytest.raises(InvalidInput, match="does not take one matrix"):
        OnnxScorer(graph.to_bytes(), dtype="float64")


def test_classes_that_never_occurred_get_no_probability(tmp_path: Path) -> None:
    data = example_rows(Task.CLASSIFICATION, n_classes=3)
    kept = data.y != 1
    part = TrainingSet(data.x[kept], data.y[kept], data.feature_names, data.classes)  # type: ignore[index]
    for name in ("LogisticRegression", "LightGBMClassifier", "KNeighborsClassifier"):
        fitted, _ = _fit(name, data=part)
        folder = tmp_path / name
        folder.mkdir()
        scores = FORMATS.load(FORMATS.save(fitted, part.x, folder), folder).score(part.x.astype(fitted.dtype))
        assert scores["probabilities"].shape == (len(part.x), 3)
        assert not scores["probabilities"][:, 1].any()
        assert set(np.unique(scores["label"])) == {0, 2}


def test_lightgbm_zero_threshold_is_kept(tmp_path: Path) -> None:
    """LightGBM reads values up to 1e-35 either side of 0 as 0; a sign split then decides by 0 alone."""
    rng = np.random.default_rng(3)
    x = rng.choice([-1.0, -1e-35, 0.0, 1e-35, 1.0, -1e-36], size=(300, 2))
    fitted, data = _fit(
        "LightGBMRegressor", data=TrainingSet(x, np.sign(np.round(x[:, 0], 3)), ("a", "b")), n_estimators=5
    )
    saved = FORMATS.save(fitted, data.x, tmp_path)
    assert (saved.format, saved.reason) == ("onnx", "")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"boosting_type": "rf", "subsample": 0.5, "subsample_freq": 1}, "averaged output"),
        ({"linear_tree": True}, "linear leaves"),
        ({"zero_as_missing": True}, "zeros taken as missing"),
        ({"reg_sqrt": True}, "sqrt"),
        ({"objective": "cross_entropy"}, "cross_entropy"),
    ],
)
def test_lightgbm_forms_that_converters_get_wrong_are_not_converted(
    settings: dict[str, Any], why: str
) -> None:
    data = example_rows(Task.REGRESSION)
    y = np.clip(np.asarray(data.y) / 40.0, 0.0, 1.0)
    x = data.x.astype("float32")
    x[::3, 0] = 0.0
    estimator = lightgbm.LGBMRegressor(n_estimators=3, verbosity=-1, n_jobs=1, **settings).fit(x, y)
    with pytest.raises(NotConvertible, match=why):
        write_onnx(Fitted(Task.REGRESSION, estimator, lambda m: {}, "float32"), 5)


def test_categories_are_not_converted() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    data = example_rows(Task.REGRESSION)
    x = data.x.astype("float32")
    x[:, 0] = np.arange(len(x)) % 5
    estimator = HistGradientBoostingRegressor(max_iter=3, categorical_features=[0]).fit(
        x, (x[:, 0] % 2) * 3 + x[:, 1]
    )
    with pytest.raises(NotConvertible, match="categories"):
        write_onnx(Fitted(Task.REGRESSION, estimator, lambda m: {}, "float32"), 5)


def test_xgboost_dart_is_not_converted() -> None:
    data = example_rows(Task.REGRESSION)
    estimator = xgboost.XGBRegressor(n_estimators=2, booster="dart", n_jobs=1).fit(data.x, data.y)
    with pytest.raises(NotConvertible, match="dart"):
        write_onnx(Fitted(Task.REGRESSION, estimator, lambda m: {}, "float32"), 5)


def test_catboost_trees_that_are_not_symmetric_are_not_converted() -> None:
    data = example_rows(Task.REGRESSION)
    estimator = catboost.CatBoostRegressor(
        iterations=2, grow_policy="Lossguide", verbose=False, allow_writing_files=False, thread_count=1
    ).fit(data.x, data.y)
    with pytest.raises(NotConvertible, match="symmetric"):
        write_onnx(Fitted(Task.REGRESSION, estimator, lambda m: {}, "float32"), 5)


def _walk(tree: dict[str, Any], row: Any) -> float:
    """The slow, obvious twin of a forest's tree."""
    node = 0
    while tree["left"][node] >= 0:
        value = row[tree["feature"][node]]
        goes = tree["missing"][node] if np.isnan(value) else value <= tree["split"][node]
        node = tree["left"][node] if goes else tree["right"][node]
    return float(tree["value"][node])


@pytest.mark.parametrize("seed", range(5))
def test_a_forest_answers_as_a_walk_down_its_trees(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trees = []
    for depth in (0, 1, 3):
        inner, nodes = 2**depth - 1, 2 ** (depth + 1) - 1
        place = np.arange(nodes)
        trees.append(
            {
                "feature": rng.integers(0, 3, nodes),
                "split": rng.normal(size=nodes).round(1),
                "left": np.where(place < inner, 2 * place + 1, -1),
                "right": np.where(place < inner, 2 * place + 2, -1),
                "missing": rng.random(nodes) < 0.5,
                "value": rng.normal(size=nodes),
            }
        )
    forest = Forest(1)
    for tree in trees:
        forest.add(
            tree["feature"], tree["split"], tree["left"], tree["right"], tree["missing"], tree["value"]
        )
    graph = GraphWriter(3, "float64")
    graph.output("value", graph.flat(forest.write(graph)), np.float64)
    rows = rng.normal(size=(200, 3)).round(1)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    got = OnnxScorer(graph.to_bytes(), dtype="float64").score(rows)["value"]
    np.testing.assert_allclose(
        got, [sum(_walk(tree, row) for tree in trees) for row in rows], rtol=0, atol=1e-14
    )


def test_the_grid_holds_what_random_rows_miss() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype("float32")
    grid = grid_rows(rows, {0: np.array([0.25])}, np.random.default_rng(1), missing=True)
    column = grid[:, 0]
    at = np.float32(0.25)
    for value in (at, np.nextafter(at, np.float32(-1)), np.nextafter(at, np.float32(1)), 0.0, 1.0):
        assert (column == value).any()
    assert np.isnan(grid).any(axis=0).all()
    assert np.isnan(grid[-1]).all()
    assert len(grid_rows(rows[:0], {}, np.random.default_rng(1), missing=False)) == 0
    many = {i: np.arange(500.0) for i in range(2)}
    assert len(grid_rows(rows, many, np.random.default_rng(1), missing=False)) <= 4 * agreement.GRID_ROWS


def test_a_wide_grid_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "GRID_ROWS", 10)
    rows = np.full((5, 8), np.nan)
    assert len(grid_rows(rows, {}, np.random.default_rng(1), missing=False)) == 40


def test_a_lot_of_rows_is_sampled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(agreement, "SAMPLE_ROWS", 50)
    fitted, data = _fit("LinearRegression")
    assert FORMATS.save(fitted, data.x, tmp_path).checked_rows < len(data.x)


def test_without_rows_nothing_agrees() -> None:
    check = agreement.check_agreement(lambda x: {}, lambda x: {}, np.zeros((0, 2)), agreement.Written(b""))
    assert check.reason == "there are no rows to check it on"


def test_an_estimator_that_refuses_odd_values_is_checked_on_real_rows() -> None:
    rows = np.random.default_rng(0).random((20, 2))

    def native_score(x: Any) -> dict[str, Any]:
        if not np.isfinite(x).all() or (x < 0).any():
            raise ValueError("negative")
        return {"value": x[:, 0]}

    check = agreement.check_agreement(
        native_score, lambda x: {"value": x[:, 0]}, rows, agreement.Written(b"")
    )
    assert check == agreement.Agreement(0.0, 20)


def test_comparisons() -> None:
    value = {"value": np.array([1.0, np.nan, np.inf, 1e9])}
    assert compare(value, {"value": np.array([1.0, np.nan, np.inf, 1e9 + 1.0])}).largest == pytest.approx(
        1e-9
    )
    assert compare(value, {"value": np.array([1.0, 0.0, np.inf, 1e9])}).reason == "value differs by up to inf"
    assert "in place of" in compare(value, {}).reason
    assert "shape" in compare(value, {"value": np.zeros(3)}).reason
    label = {"label": np.array([0, 1])}
    assert compare(label, {"label": np.array([0, 0])}).reason == "1 of 2 checked rows have another label"
    assert relative_difference(np.array([0.0]), np.array([0.0])) == 0.0


def test_ties_of_the_estimator_itself_may_go_either_way() -> None:
    tied = {"label": np.array([0]), "probabilities": np.array([[0.5, 0.5]])}
    clear = {"label": np.array([0]), "probabilities": np.array([[0.6, 0.4]])}
    for expected, agrees in ((tied, True), (clear, False)):
        assert (compare(expected, {**expected, "label": np.array([1])}).reason == "") is agrees
    edge = {"normal": np.array([1]), "score": np.array([0.5])}
    assert compare(edge, {**edge, "normal": np.array([-1])}, boundary=0.5).reason == ""
    assert compare(edge, {**edge, "normal": np.array([-1])}, boundary=0.6).reason != ""
