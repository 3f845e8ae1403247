"""by: odd rows, odd data and odd files."""

import numpy as np
import pytest

from contract.test_groups import MODEL, as_batch, load, make_rows, only, texts_of, train
from fakes.training import MemoryFiles
from kepler.adapters.formats import SafeModelFormats, group_pack
from kepler.core import groups
from kepler.core.errors import Conflict, InvalidInput
from kepler.core.records import RecordBatch
from kepler.ports.serving import PredictOptions

FAMILIES = [
    ("LinearRegression", "value", {}),
    ("StandardScaler", "", {}),
    ("DecisionTreeRegressor", "value", {}),
    ("HistGradientBoostingRegressor", "value", {"params": {"max_iter": 4}}),
]
BIG = "1" + "0" * 39  # beyond float32


def said(scoring):
    return [notice.text for notice in scoring.notices]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("algorithm", "target", "options"), FAMILIES)
@pytest.mark.parametrize("nulls", ["drop", "impute"])
@pytest.mark.parametrize("on_missing", ["warn", "null"])
def test_odd_rows_are_answered_as_by_the_groups_own_model(
    tmp_path, algorithm, target, options, nulls, on_missing
):
    rows = make_rows()
    spec = {"algorithm": algorithm, "target": target, "nulls": nulls, "model": MODEL, **options}
    for name in ("all", "one"):
        (tmp_path / name).mkdir()
    files, _, _ = train(tmp_path / "all", rows, by=("host",), **spec)
    together = load(files, tmp_path / "all")
    host = "h5"
    alone_files, _, _ = train(
        tmp_path / "one", only(rows, [at for at, name in enumerate(rows["host"]) if name == host]), **spec
    )
    alone = load(alone_files, tmp_path / "one")
    odd = {
        "a": ["0.5", "", "-1", BIG, "0", "7"],
        "b": ["0.1", "2", "", "1", "0", "7"],
        "kind": ["red", "green", "dark", "new", "", "blue"],
        "host": [host] * 6,
    }
    for leave_out in ((), ("kind",), ("a",), ("b", "kind")):
        cells = {name: values for name, values in odd.items() if name not in leave_out}
        batch = as_batch(cells)
        asked = PredictOptions(on_missing=on_missing)
        got, expected = together.predict(batch, asked), alone.predict(batch, asked)
        named = {output.name: texts_of(output, 6) for output in got.outputs}
        for output in expected.outputs:
            for mine, other in zip(named[output.name], texts_of(output, 6), strict=True):
                assert (mine is None) == (other is None)
                assert mine == (None if other is None else pytest.approx(other, rel=1e-9, abs=1e-9))
        assert any("lack" in text for text in said(got)) == any("lack" in text for text in said(expected))


def test_outputs_are_named_and_unknown_texts_are_said(tmp_path):
    files, _, _ = train(
        tmp_path, make_rows(), algorithm="LogisticRegression", target="y", by=("host",), model=MODEL
    )
    model = load(files, tmp_path)
    asked = PredictOptions(as_name="p", probabilities=True)
    assert model.output_columns(asked) == ("p", "probability(y=no)", "probability(y=yes)")
    scoring = model.predict(as_batch({"a": ["1"], "b": ["1"], "kind": ["odd"], "host": ["h5"]}), asked)
    assert tuple(output.name for output in scoring.outputs) == model.output_columns(asked)
    assert any("'kind' has values that training has not seen" in text for text in said(scoring))
    nothing = model.predict(as_batch({"a": ["1"], "b": ["1"], "kind": ["red"], "host": ["new"]}), asked)
    assert [texts_of(output, 1) for output in nothing.outputs] == [[None]] * 3
    with pytest.raises(InvalidInput, match="has no option"):
        model.check_options(PredictOptions(overrides={"x": "1"}))


@pytest.mark.parametrize("algorithm", ["LinearRegression", "HistGradientBoostingRegressor"])
def test_columns_of_the_wrong_kind_are_refused(tmp_path, algorithm):
    files, _, _ = train(tmp_path, make_rows(), algorithm=algorithm, target="value", by=("host",), model=MODEL)
    model = load(files, tmp_path)
    good = {"a": ["1"], "b": ["1"], "kind": ["red"], "host": ["h5"]}
    with pytest.raises(InvalidInput, match="'a' is a number in this model"):
        model.predict(as_batch(good, ("b",), ("a", "kind", "host")), PredictOptions())
    with pytest.raises(InvalidInput, match="holds text in this model"):
        model.predict(as_batch({**good, "kind": ["1"]}, ("a", "b", "kind"), ("host",)), PredictOptions())
    with pytest.raises(InvalidInput, match="chooses a group by its text"):
        model.predict(as_batch({**good, "host": ["1"]}, ("a", "b", "host"), ("kind",)), PredictOptions())
    assert model.predict(RecordBatch({}, 0), PredictOptions()).outputs[0].name == "predicted(value)"


@pytest.mark.parametrize("algorithm", ["IsolationForest", "DBSCAN", "LocalOutlierFactor"])
def test_without_a_target_and_without_a_model(tmp_path, algorithm):
    params = {"n_estimators": 5} if algorithm == "IsolationForest" else {}
    files, outcome, _ = train(
        tmp_path, make_rows(), algorithm=algorithm, features=("a", "b"), by=("host",), params=params
    )
    assert dict(outcome.metrics)["groups"] == 6
    assert len(next(iter(files.sink.values.values()))) == 240


@pytest.mark.parametrize(
    ("spec", "change", "sentence"),
    [
        ({"by": ("nope",)}, {}, "Field 'nope' is not in the rows"),
        ({}, {"host": [""] * 240}, "No row has a value in 'host'"),
        ({}, {"value": [""] * 240}, "The target 'value' has no value in any"),
        ({"algorithm": "DBSCAN", "target": "", "features": ("a",), "model": MODEL}, {}, "no model to keep"),
        ({"algorithm": "DBSCAN", "target": "", "features": ("a",), "test_size": 0.5}, {}, "None of 6 groups"),
        ({"probabilities": True}, {}, "gives no probabilities"),
        ({"nulls": "native"}, {}, "cannot learn from missing values"),
    ],
)
def test_clear_refusals(tmp_path, spec, change, sentence):
    spec = {"algorithm": "LinearRegression", "target": "value", "features": ("b",), "by": ("host",), **spec}
    with pytest.raises(InvalidInput, match=sentence):
        train(tmp_path, {**make_rows(), **change}, **spec)


def test_no_rows_and_too_many_groups(tmp_path, monkeypatch):
    spec = {"algorithm": "LinearRegression", "target": "value", "features": ("b",), "by": ("host",)}
    with pytest.raises(InvalidInput, match="There are no rows"):
        train(tmp_path, {name: [] for name in make_rows()}, **spec)
    monkeypatch.setattr("kepler.usecases.group_rows.MAX_GROUPS", 5)
    with pytest.raises(InvalidInput, match="makes 6 groups and one model takes at most 5"):
        train(tmp_path, make_rows(), **spec)
    assert groups.MAX_GROUPS == 100_000


def test_notices_of_many_groups_are_said_once_and_counted(tmp_path):
    rows = make_rows()
    rows["b"] = ["" if host == "h4" else b for host, b in zip(rows["host"], rows["b"], strict=True)]
    rows["y"][0] = ""
    _, outcome, _ = train(
        tmp_path, rows, algorithm="MLPClassifier", target="y", features=("a", "b"), by=("host",),
        params={"max_iter": 2}, output="summary",
    )  # fmt: skip
    texts = [notice.text for notice in outcome.notices]
    assert any(text.startswith("in 1 of 6 groups, such as host=h4: dropped field 'b'") for text in texts), (
        texts
    )
    assert any("groups, such as host=h0: MLPClassifier: it had not converged" in text for text in texts), (
        texts
    )
    assert any(text.startswith("dropped ") and "null in 'b'" in text for text in texts)


def folder_with(tmp_path, algorithm):
    train(
        tmp_path, make_rows(), algorithm=algorithm, target="value", features=("b",), by=("host",), model=MODEL
    )
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("algorithm", "name", "content"),
    [
        ("LinearRegression", group_pack.PACKED, b"\xff" * 16),
        ("LinearRegression", group_pack.PACKED, None),
        ("DecisionTreeRegressor", group_pack.PACKED, None),
        ("LinearRegression", group_pack.TABLE, b""),
    ],
)
def test_damaged_files_are_refused(tmp_path, algorithm, name, content):
    path = folder_with(tmp_path, algorithm) / name
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    with pytest.raises(InvalidInput):
        SafeModelFormats().open_groups(path.parent)


def test_a_pack_without_its_list_is_refused(tmp_path):
    folder = folder_with(tmp_path, "LinearRegression")
    (folder / group_pack.TABLE).unlink()
    with pytest.raises(InvalidInput, match="is missing"):
        SafeModelFormats().open_groups(folder)


def test_a_member_that_answers_otherwise_is_refused(tmp_path, monkeypatch):
    folder = folder_with(tmp_path, "KNeighborsRegressor")
    pack = SafeModelFormats().open_groups(folder)
    member, _ = pack.member(0)
    assert member.model.format == "skops"

    class Other:
        size_bytes = 1

        def score(self, x):
            return {"value": np.full(len(x), 1e9)}

    monkeypatch.setattr(pack, "_open", lambda saved, contents: Other())
    with pytest.raises(Conflict, match="does not give the answers it gave"):
        pack.member(0)


def test_a_training_that_fails_leaves_nothing_open(tmp_path):
    rows = {**make_rows(), "y": ["no"] * 240}
    rows["y"][5] = "yes"
    rows["host"] = ["h1"] * 239 + ["h2"]
    rows["host"][5] = "h2"
    files = MemoryFiles(tmp_path, rows)
    with pytest.raises(InvalidInput, match="None of 2 groups"):
        train(
            tmp_path, {**rows, "y": ["no" if h == "h1" else "yes" for h in rows["host"]]}, files=None,
            algorithm="GaussianNB", target="y", features=("b",), by=("host",), model=MODEL,
        )  # fmt: skip
    assert files.rows.n_rows == 240
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
