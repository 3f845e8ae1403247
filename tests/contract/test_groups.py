"""by: one packed version answers as a model per group trained alone, whatever the algorithm."""

from dataclasses import replace

import numpy as np
import pytest

from fakes.training import MemoryFiles, RecordingRun
from kepler.adapters.formats import SafeModelFormats, group_pack
from kepler.core.datasets import number_column, text_column
from kepler.core.errors import Conflict, InvalidInput
from kepler.core.manifest import Manifest
from kepler.core.outputs import NumberOutput
from kepler.core.records import RecordBatch
from kepler.core.training import TrainSpec
from kepler.ports.serving import PredictOptions
from kepler.registry import default_registry
from kepler.serving import grouped as serving_grouped
from kepler.serving.loader import FolderModelLoader
from kepler.usecases.fit import Surroundings, fit_model

REGISTRY = default_registry()
MODEL = "app.search/m"


def make_rows(seed=1, n=240, groups=6):
    """Rows of groups of uneven size in random order, numbers and text, with gaps."""
    rng = np.random.default_rng(seed)
    host = rng.choice(
        [f"h{k}" for k in range(groups)], n, p=np.arange(1, groups + 1) / (groups * (groups + 1) / 2)
    )
    a, b = rng.normal(size=n), rng.normal(size=n)
    kind = np.where(host == "h1", rng.choice(["red", "blue"], n), rng.choice(["red", "green", "dark"], n))
    value = a * (1 + (host > "h2")) + (kind == "red") + rng.normal(size=n) * 0.1
    text = lambda v, holes=0.0: ["" if rng.random() < holes else f"{x:.4f}" for x in v]  # noqa: E731
    return {
        "a": text(a, 0.05),
        "b": text(b),
        "kind": ["" if rng.random() < 0.05 else k for k in kind.tolist()],
        "host": host.tolist(),
        "y": ["yes" if v > 0.3 else "no" for v in value],
        "value": text(value, 0.02),
    }


def train(tmp_path, rows, *, files=None, **spec):
    spec = {"features": ("a", "b", "kind"), **spec}
    files = files or MemoryFiles(tmp_path, rows)
    spec = TrainSpec(job_id="j", columns=tuple(rows), **spec)
    run = RecordingRun()
    outcome = fit_model(spec, files, REGISTRY, SafeModelFormats(), run, Surroundings())
    return files, outcome, run


def only(rows, picked):
    return {name: [values[at] for at in picked] for name, values in rows.items()}


def load(files, tmp_path):
    return FolderModelLoader(SafeModelFormats(), lambda folder: files.manifest).load(tmp_path / "model", "@0")


def as_batch(rows, numbers=("a", "b"), texts=("kind", "host")):
    columns = {n: number_column([float(v) if v else None for v in rows[n]]) for n in numbers if n in rows}
    columns |= {n: text_column(rows[n]) for n in texts if n in rows}
    return RecordBatch(columns, len(next(iter(rows.values()))))


def texts_of(output, n_rows):
    if isinstance(output, NumberOutput):
        blank = np.zeros(n_rows, bool) if output.blank is None else output.blank
        return [None if b else v for v, b in zip(output.values.tolist(), blank, strict=True)]
    return [None if code < 0 else output.labels[code] for code in output.codes.tolist()]


def alike(got, expected):
    expected = [None if e != e else e for e in expected]  # a missing value is blank, not "nan"
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        assert (g is None) == (e is None)
        assert g == (pytest.approx(e, abs=1e-9) if isinstance(e, float) else e)


CASES = [
    ("LinearRegression", "value", {}),
    ("Ridge", "value", {"nulls": "impute"}),
    ("SGDRegressor", "value", {}),
    ("LogisticRegression", "y", {"probabilities": True}),
    ("LogisticRegression", "kind", {"features": ("a", "b"), "probabilities": True}),
    ("StandardScaler", "", {"nulls": "impute"}),
    ("RobustScaler", "", {"features": ("a", "b")}),
    ("StandardScaler", "", {"features": ("a", "b"), "nulls": "native"}),
    ("DecisionTreeClassifier", "y", {"probabilities": True}),
    ("DecisionTreeRegressor", "value", {"categoricals": "target"}),
    ("RandomForestRegressor", "value", {"nulls": "impute", "params": {"n_estimators": 5}}),
    ("RandomForestClassifier", "kind", {"params": {"n_estimators": 5}, "probabilities": True}),
    ("ExtraTreesClassifier", "y", {"params": {"n_estimators": 5}}),
    ("HistGradientBoostingClassifier", "y", {"params": {"max_iter": 5}}),
    ("LightGBMRegressor", "value", {"nulls": "native", "params": {"n_estimators": 5}}),
    ("GaussianNB", "kind", {"features": ("a", "b")}),
    ("KMeans", "", {"features": ("a", "b"), "params": {"k": 2}}),
    ("PCA", "", {"features": ("a", "b"), "params": {"k": 2}}),
    ("KNeighborsRegressor", "value", {"features": ("a", "b"), "params": {"n_neighbors": 3}}),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("algorithm", "target", "options"), CASES)
def test_as_each_group_alone(tmp_path, algorithm, target, options):
    rows = make_rows()
    hosts = rows["host"]
    spec = {"algorithm": algorithm, "target": target, **options}
    if target in ("kind",):
        spec["features"] = ("a", "b")
    files, outcome, _ = train(tmp_path, rows, by=("host",), model=MODEL, **spec)
    names = files.sink.columns
    metrics = dict(outcome.metrics)
    assert metrics["groups"] == len(set(hosts)) - metrics["groups_failed"]
    model = load(files, tmp_path)
    scored = model.predict(as_batch(rows), PredictOptions(probabilities=options.get("probabilities", False)))
    for output in scored.outputs:  # what was given back while training is what the model says afterwards
        with_target = [at for at in range(len(hosts)) if not target or rows[target][at]]
        got, given = texts_of(output, len(hosts)), files.sink.values[output.name]
        alike([got[at] for at in with_target], [given[at] for at in with_target])
    for host in sorted(set(hosts)):
        picked = [at for at, name in enumerate(hosts) if name == host]
        try:
            alone, _, _ = train(tmp_path / host, only(rows, picked), **spec)
        except InvalidInput:
            assert not any(files.sink.values[name][at] is not None for name in names for at in picked)
            continue
        for name in names:
            here = [files.sink.values[name][at] for at in picked]
            if name in alone.sink.columns:
                alike(here, alone.sink.values[name])
            else:  # a class or component that other groups have
                assert all(value in (None, 0.0) for value in here)


def test_rows_keep_their_order_and_progress_counts_groups(tmp_path):
    rows = make_rows()
    files, outcome, run = train(
        tmp_path, rows, algorithm="LinearRegression", target="value", features=("b",), by=("host",)
    )
    assert outcome.rows_used + outcome.rows_dropped == 240
    assert files.sink.sizes == [240]
    assert "group 1 of 6" in run.phases
    assert run.fractions == sorted(run.fractions)
    assert outcome.model_dir == ""


def test_groups_that_cannot_be_trained_are_named_and_counted_and_the_rest_goes_on(tmp_path):
    rows = make_rows()
    rows["y"] = ["no" if host in ("h2", "h3") else y for host, y in zip(rows["host"], rows["y"], strict=True)]
    rows["host"][0] = ""
    files, outcome, _ = train(
        tmp_path, rows, algorithm="LogisticRegression", target="y", features=("b",), by=("host",), model=MODEL
    )
    texts = [notice.text for notice in outcome.notices]
    assert any(text.startswith("2 of 6 groups have no model (host=h2, host=h3): ") for text in texts), texts
    assert any("left out 1 of 240 rows: no value in 'host' (by)" in text for text in texts)
    assert (files.manifest.groups.count, files.manifest.groups.failed) == (4, 2)
    assert dict(outcome.metrics)["groups_failed"] == 2
    scoring = load(files, tmp_path).predict(as_batch(rows, ("b",)), PredictOptions())
    got = texts_of(scoring.outputs[0], 240)
    assert [value is None for value in got] == [host in ("", "h2", "h3") for host in rows["host"]]
    assert any("could not be trained, such as host=h2" in notice.text for notice in scoring.notices)


def test_all_failing_is_an_error_with_the_first_reason(tmp_path):
    rows = {**make_rows(), "y": ["no"] * 239 + ["yes"]}
    rows["host"] = ["h1"] * 239 + ["h2"]
    with pytest.raises(InvalidInput, match="None of 2 groups could be trained") as caught:
        train(tmp_path, rows, algorithm="LogisticRegression", target="y", features=("b",), by=("host",))
    assert "host=h1: " in caught.value.cause


def test_unseen_groups_and_rows_without_a_group_get_nothing_and_are_counted(tmp_path):
    rows = make_rows()
    files, _, _ = train(
        tmp_path, rows, algorithm="HistGradientBoostingRegressor", params={"max_iter": 3}, target="value", features=("b",), by=("host", "kind"),
        model=MODEL,
    )  # fmt: skip
    model = load(files, tmp_path)
    asked = {"b": ["1", "2", "3"], "host": ["h5", "new", "h5"], "kind": ["red", "red", ""]}
    scoring = model.predict(as_batch(asked, ("b",)), PredictOptions())
    got = texts_of(scoring.outputs[0], 3)
    assert (got[0] is None, got[1], got[2]) == (False, None, None)
    texts = [notice.text for notice in scoring.notices]
    assert any(
        text.startswith("1 of 3 rows are of groups that training has not seen, such as host=new kind=red")
        for text in texts
    )
    assert any(text.startswith("1 of 3 rows have no value in 'host' or 'kind' (by)") for text in texts)
    assert model.loaded_groups == 1
    assert set(model.required_fields) == {"b", "host", "kind"}
    with pytest.raises(InvalidInput, match="chooses the model's group"):
        model.predict(as_batch({"b": ["1"]}, ("b",)), PredictOptions(on_missing="error"))
    nothing = model.predict(as_batch({"b": ["1"]}, ("b",)), PredictOptions(on_missing="null"))
    assert texts_of(nothing.outputs[0], 1) == [None]


def test_members_are_loaded_for_their_rows_only_and_within_a_bound(tmp_path, monkeypatch):
    rows = make_rows()
    files, _, _ = train(
        tmp_path, rows, algorithm="HistGradientBoostingRegressor", params={"max_iter": 3}, target="value", features=("b",), by=("host",),
        model=MODEL,
    )  # fmt: skip
    monkeypatch.setattr(serving_grouped, "MEMBER_BYTES", 1)
    model = load(files, tmp_path)
    first = model.predict(as_batch(rows, ("b",)), PredictOptions())
    assert model.loaded_groups == 1
    again = model.predict(as_batch(rows, ("b",)), PredictOptions())
    assert texts_of(first.outputs[0], 240) == texts_of(again.outputs[0], 240)


def test_held_out_rows_are_measured_over_all_groups(tmp_path):
    _, outcome, _ = train(
        tmp_path, make_rows(), algorithm="LinearRegression", target="value", features=("b",), by=("host",),
        test_size=0.3, output="summary",
    )  # fmt: skip
    assert {"r2", "test_r2", "groups"} <= set(dict(outcome.metrics))


def test_the_manifest_stays_small_and_describes_the_groups(tmp_path):
    rows = make_rows(n=3000, groups=300)
    files, _, _ = train(
        tmp_path,
        rows,
        algorithm="LinearRegression",
        target="value",
        features=("b",),
        by=("host",),
        model=MODEL,
    )
    manifest = files.manifest
    assert len(manifest.to_bytes()) < 20_000
    assert manifest.groups.fields == ("host",)
    assert manifest.groups.packed == manifest.groups.count
    assert manifest.model.format == "groups"
    assert set(manifest.model.files) == {"groups.json", "packed.npy"}
    assert ("host", "group", "text") in [row[:3] for row in manifest.schema_table().rows]
    assert Manifest.from_json(manifest.to_bytes()) == manifest


def test_a_changed_member_is_refused(tmp_path):
    rows = make_rows()
    files, _, _ = train(
        tmp_path, rows, algorithm="HistGradientBoostingRegressor", params={"max_iter": 3}, target="value", features=("b",), by=("host",),
        model=MODEL,
    )  # fmt: skip
    path = tmp_path / "model" / group_pack.MEMBERS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(Conflict, match="not as it was signed"):
        load(files, tmp_path).predict(as_batch(rows, ("b",)), PredictOptions())


@pytest.mark.parametrize(
    "algorithm", ["LinearRegression", "DecisionTreeRegressor", "HistGradientBoostingRegressor"]
)
def test_known_groups_are_answered_beside_unseen_ones(tmp_path, algorithm):
    rows = make_rows()
    picked = [at for at, host in enumerate(rows["host"]) if host == "h5"]
    files, _, _ = train(
        tmp_path,
        only(rows, picked),
        algorithm=algorithm,
        target="value",
        features=("b",),
        by=("host",),
        model=MODEL,
    )
    scoring = load(files, tmp_path).predict(as_batch(rows, ("b",)), PredictOptions())
    got = texts_of(scoring.outputs[0], 240)
    assert [at for at, value in enumerate(got) if value is not None] == picked


def test_trees_beyond_the_bound_are_kept_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr("kepler.core.packed_trees.MAX_BYTES", 1_000)
    rows = make_rows()
    files, _, _ = train(
        tmp_path, rows, algorithm="DecisionTreeRegressor", target="value", features=("b",), by=("host",),
        model=MODEL, params={"max_depth": 2},
    )  # fmt: skip
    assert 0 < files.manifest.groups.packed < files.manifest.groups.count
    scoring = load(files, tmp_path).predict(as_batch(rows, ("b",)), PredictOptions())
    given = [at for at, value in enumerate(files.sink.values["predicted(value)"]) if value is not None]
    got = texts_of(scoring.outputs[0], 240)
    alike([got[at] for at in given], [files.sink.values["predicted(value)"][at] for at in given])


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("roots", lambda array: array + 10_000),
        ("child", lambda array: np.zeros_like(array)),
        ("feature", lambda array: array + 50),
        ("threshold", lambda array: array[:-1]),
    ],
)
def test_trees_that_do_not_fit_or_go_in_circles_are_refused(tmp_path, name, spoil):
    train(
        tmp_path, make_rows(), algorithm="DecisionTreeRegressor", target="value", features=("b",), by=("host",),
        model=MODEL,
    )  # fmt: skip
    packed = SafeModelFormats().open_groups(tmp_path / "model").packed
    packed.check()
    with pytest.raises(InvalidInput, match="do not fit each other"):
        replace(packed, **{name: spoil(getattr(packed, name))}).check()
