"""categoricals=native: the library's own categories, in a safe file that answers as the library does."""

import numpy as np
import pytest

from fakes.training import MemoryFiles, RecordingRun
from kepler.adapters.formats import SafeModelFormats
from kepler.core.datasets import number_column, text_column
from kepler.core.errors import InvalidInput
from kepler.core.records import RecordBatch
from kepler.core.training import TrainSpec
from kepler.ports.serving import PredictOptions
from kepler.registry import default_registry
from kepler.serving.loader import FolderModelLoader
from kepler.usecases.fit import Surroundings, fit_model

REGISTRY = default_registry()
SIZES = {
    "LightGBM": "n_estimators",
    "XGBoost": "n_estimators",
    "CatBoost": "iterations",
    "HistGradientBoosting": "max_iter",
}
FAMILIES = list(SIZES)
N = 400


def make_rows(holes=0):
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=N), rng.normal(size=N)
    site = rng.choice([f"s{k:02d}" for k in range(20)], N)
    kind = rng.choice(["red", "green", "blue"], N)
    effect = dict(zip(sorted(set(site)), rng.normal(size=20) * 2, strict=True))
    value = a + np.array([effect[s] for s in site]) + (kind == "red")
    return {
        "a": [f"{x:.4f}" for x in a],
        "b": [f"{x:.4f}" for x in b],
        "site": ["" if holes and at % holes == 0 else s for at, s in enumerate(site.tolist())],
        "kind": kind.tolist(),
        "value": [f"{v:.5f}" for v in value],
        "y": ["yes" if v > 0 else "no" for v in value],
        "three": ["low" if v < -1 else "mid" if v < 1 else "top" for v in value],
    }


def train(tmp_path, rows, algorithm, target, **spec):
    files = MemoryFiles(tmp_path, rows)
    family = next(name for name in FAMILIES if algorithm.startswith(name))
    spec = {
        "params": {SIZES[family]: 12},
        "model": "app.search/m",
        "probabilities": target != "value",
        **spec,
    }
    spec = TrainSpec(
        job_id="j", columns=tuple(rows), algorithm=algorithm, target=target,
        features=("a", "site", "b", "kind"), categoricals="native", **spec,
    )  # fmt: skip
    outcome = fit_model(spec, files, REGISTRY, SafeModelFormats(), RecordingRun(), Surroundings())
    return files, outcome


def codes(texts):
    index = {text: float(at) for at, text in enumerate(sorted(set(filter(None, texts))))}
    return np.array([index.get(text, np.nan) for text in texts])


def by_the_library(algorithm, rows, target):
    """What the library itself says of the rows, categories given its own way: numbers first, then texts."""
    x = np.column_stack(
        [np.array(rows["a"], float), np.array(rows["b"], float), codes(rows["site"]), codes(rows["kind"])]
    ).astype(np.float32)
    y = np.array(rows["value"], float) if target == "value" else codes(rows[target]).astype(int)
    family = next(name for name in FAMILIES if algorithm.startswith(name))
    kind = algorithm.removeprefix(family)
    size = {SIZES[family]: 12}
    if family == "LightGBM":
        import lightgbm

        model = getattr(lightgbm, f"LGBM{kind}")(
            **size, random_state=42, n_jobs=1, verbosity=-1, deterministic=True, force_col_wise=True
        ).fit(x, y, categorical_feature=[2, 3])
    elif family == "XGBoost":
        import xgboost

        model = getattr(xgboost, f"XGB{kind}")(
            **size, max_bin=256, tree_method="hist", random_state=42, n_jobs=1, enable_categorical=True,
            feature_types=["q", "q", "c", "c"],
        ).fit(x, y)  # fmt: skip
    elif family == "CatBoost":
        import catboost
        import pandas as pd

        frame = pd.DataFrame(x[:, :2]).astype("float32")
        for at in (2, 3):
            frame[at] = [str(int(code)) if code == code else "-1" for code in x[:, at]]
        model = getattr(catboost, f"CatBoost{kind}")(
            **size,
            random_seed=42,
            thread_count=1,
            verbose=False,
            allow_writing_files=False,
            cat_features=[2, 3],
        ).fit(frame, y)
        x = frame
    else:
        from sklearn import ensemble

        model = getattr(ensemble, f"HistGradientBoosting{kind}")(
            **size, random_state=42, categorical_features=[2, 3]
        ).fit(x, y)
    return model.predict(x) if target == "value" else model.predict_proba(x)


def served(files, tmp_path, rows, probabilities):
    model = FolderModelLoader(SafeModelFormats(), lambda folder: files.manifest).load(
        tmp_path / "model", "@0"
    )
    columns = {name: number_column([float(v) for v in rows[name]]) for name in ("a", "b")}
    columns |= {name: text_column(rows[name]) for name in ("site", "kind")}
    return model.predict(RecordBatch(columns, len(rows["a"])), PredictOptions(probabilities=probabilities))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("target", ["value", "y", "three"])
@pytest.mark.parametrize("holes", [0, 17])
@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_served_as_the_library_says(tmp_path, family, holes, target):
    algorithm = family + ("Regressor" if target == "value" else "Classifier")
    rows = make_rows(holes)
    files, _ = train(tmp_path, rows, algorithm, target, nulls="native")
    assert files.manifest.model.format != "onnx"
    scoring = served(files, tmp_path, rows, target != "value")
    expected = by_the_library(algorithm, rows, target)
    if target == "value":
        np.testing.assert_allclose(scoring.outputs[0].values, expected, rtol=1e-6, atol=1e-6)
    else:
        got = np.column_stack([output.values for output in scoring.outputs[1:]])
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_that_training_has_not_seen_counts_as_no_value(tmp_path, family):
    rows = make_rows()
    files, _ = train(tmp_path, rows, f"{family}Regressor", "value", nulls="native")
    unseen = served(files, tmp_path, {**rows, "site": ["new"] * N}, False)
    without = served(files, tmp_path, {**rows, "site": [""] * N}, False)
    np.testing.assert_array_equal(unseen.outputs[0].values, without.outputs[0].values)
    assert any("'site' has values that training has not seen" in notice.text for notice in unseen.notices)


@pytest.mark.parametrize(
    ("algorithm", "target", "params", "said"),
    [
        ("HistGradientBoostingRegressor", "value", {"max_bins": 10}, "Field 'site' has 20 different texts"),
        ("XGBoostRegressor", "value", {"tree_method": "exact"}, "tree_method=exact takes no text fields"),
    ],
)
def test_what_the_library_cannot_do_is_said_with_the_alternatives(tmp_path, algorithm, target, params, said):
    with pytest.raises(InvalidInput, match=said) as caught:
        train(tmp_path, make_rows(), algorithm, target, params=params)
    assert "categoricals=" in caught.value.fix


def test_an_algorithm_without_categories_of_its_own_names_others(tmp_path):
    spec = TrainSpec(
        job_id="j", columns=tuple(make_rows()), algorithm="LogisticRegression", target="y", features=("a", "site"),
        categoricals="native",
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="cannot take text fields as they are") as caught:
        fit_model(
            spec,
            MemoryFiles(tmp_path, make_rows()),
            REGISTRY,
            SafeModelFormats(),
            RecordingRun(),
            Surroundings(),
        )
    assert "categoricals=onehot" in caught.value.fix
