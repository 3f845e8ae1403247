"""A job's folder to a version folder to rendered predictions, with the real algorithms and formats."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fakes.training import RecordingRun
from kepler.adapters.formats import SafeModelFormats
from kepler.adapters.jobs import training_main
from kepler.adapters.jobs.training_main import environment, train_in_folder
from kepler.adapters.storage.arrow_rows import PredictionsFile, render_outputs
from kepler.adapters.storage.csv_slices import ArrowRowSpools, SliceReader
from kepler.adapters.storage.training_folder import TrainingFolder
from kepler.adapters.storage.version_folder import measure
from kepler.core.errors import Conflict
from kepler.core.manifest import Manifest
from kepler.core.names import ModelName
from kepler.core.training import TrainSpec
from kepler.ports.serving import PredictOptions
from kepler.serving.loader import FolderModelLoader

RNG = np.random.default_rng(11)
N = 400
A = np.round(RNG.normal(size=N), 3)
B = np.round(RNG.normal(10, 3, size=N), 2)
COLOURS = np.array(["red", "green", "dark blue"])[RNG.integers(0, 3, N)]
LABEL = np.where(A + (COLOURS == "red") + 0.3 * RNG.normal(size=N) > 0.5, "1", "0")
VALUE = np.round(3 * A - B + 2 * (COLOURS == "green") + 0.1 * RNG.normal(size=N), 4)
COLUMNS = ("a", "b", "colour", "label", "value")


def records():
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(zip(A, B, COLOURS, LABEL, VALUE, strict=True))
    return text.getvalue().encode().splitlines(keepends=True)


def train(folder: Path, algorithm: str, target: str, rows=None, **more):
    rows = records() if rows is None else rows
    spool = ArrowRowSpools(0).open(folder, COLUMNS, COLUMNS)
    for at in range(0, len(rows), 150):
        spool.write(b"".join(rows[at : at + 150]))
    digest = spool.finish()
    more = {"model": "app.search/m", **more}
    spec = TrainSpec(
        "j", algorithm, ("a", "b", "colour"), COLUMNS, target, data_sha256=digest, rows=len(rows), **more
    )
    (folder / "spec.json").write_text(spec.to_json())
    return train_in_folder(folder, RecordingRun())


def read_manifest(folder):
    return Manifest.from_json((folder / "manifest.json").read_bytes())


def load(folder):
    return FolderModelLoader(SafeModelFormats(), read_manifest).load(folder / "model", "app.search/m@1")


def predict(folder, rows, options):
    model = load(folder)
    batch = SliceReader(COLUMNS, model.required_fields, model.number_fields).read(b"".join(rows))
    rendered, one_line = render_outputs(model.predict(batch, options), batch.n_rows)
    assert one_line
    return list(csv.reader(io.StringIO(rendered.decode())))


def trained_rows(folder):
    file = PredictionsFile.open(folder)
    text = b"".join(file.read(index)[0] for index in range(file.slices)).decode()
    file.close()
    return list(csv.reader(io.StringIO(text)))


def matrix():
    dummies = [(colour == COLOURS).astype(float) for colour in ("dark blue", "green", "red")]
    return np.column_stack([A, B, *dummies])


def test_logistic_regression_is_scikit_learns(tmp_path):
    from sklearn.linear_model import LogisticRegression

    outcome = train(tmp_path, "LogisticRegression", "label", params={"max_iter": 1000}, probabilities=True)
    assert outcome.failure is None
    assert outcome.rows_used == N
    assert dict(outcome.metrics)["accuracy"] > 0.85
    native = LogisticRegression(max_iter=1000).fit(matrix(), LABEL)
    sent = trained_rows(tmp_path)
    served = predict(tmp_path, records(), PredictOptions(probabilities=True))
    for rows in (sent, served):
        assert [row[0] for row in rows] == native.predict(matrix()).tolist()
        probabilities = np.array([[float(cell) for cell in row[1:]] for row in rows])
        np.testing.assert_allclose(probabilities, native.predict_proba(matrix()), atol=1e-6)
    manifest = read_manifest(tmp_path / "model")
    assert manifest.model.format == "onnx"
    assert manifest.preparation.feature_names == ("a", "b", "colour=dark blue", "colour=green", "colour=red")
    assert manifest.data_sha256
    assert manifest.environment["scikit-learn"]


def test_linear_regression_is_scikit_learns(tmp_path):
    from sklearn.linear_model import LinearRegression

    outcome = train(tmp_path, "LinearRegression", "value", output="summary")
    assert outcome.failure is None
    native = LinearRegression().fit(matrix(), VALUE)
    served = predict(tmp_path, records(), PredictOptions())
    np.testing.assert_allclose([float(row[0]) for row in served], native.predict(matrix()), rtol=1e-9)
    assert dict(outcome.metrics)["r2"] == pytest.approx(native.score(matrix(), VALUE))
    assert not (tmp_path / "predictions.arrow").exists()


def test_rows_with_gaps_are_blank_in_both(tmp_path):
    rows = records()
    rows[3] = b",1.0,red,1,2\n"
    outcome = train(tmp_path, "LogisticRegression", "label", rows)
    assert outcome.rows_dropped == 1
    assert trained_rows(tmp_path)[3] == []
    assert predict(tmp_path, rows[:5], PredictOptions())[3] == []


def test_training_again_gives_the_same_model(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        train(tmp_path / name, "LogisticRegression", "label")
    first, second = (read_manifest(tmp_path / name / "model") for name in ("one", "two"))
    assert first.golden == second.golden
    again = train(tmp_path / "one", "LogisticRegression", "label")
    assert again.failure is None


def test_a_damaged_model_is_refused(tmp_path):
    train(tmp_path, "LinearRegression", "value")
    document = json.loads((tmp_path / "model" / "manifest.json").read_text())
    document["golden"]["outputs"]["value"][0][0] += 0.01
    (tmp_path / "model" / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(Conflict, match="does not give the answers"):
        load(tmp_path)


def test_text_in_a_numeric_field_is_one_clear_sentence(tmp_path):
    train(tmp_path, "LinearRegression", "value")
    model = load(tmp_path)
    reader = SliceReader(COLUMNS, model.required_fields, model.number_fields)
    with pytest.raises(Exception, match="Field 'a' holds the text 'high' where the model reads numbers"):
        reader.read(b"high,1,red,1,2\n")


def test_failures_become_outcomes(tmp_path):
    outcome = train(tmp_path, "NoSuchThing", "label")
    assert outcome.failure.code == "InvalidInput"
    assert "NoSuchThing" in outcome.failure.message
    one_row = train(tmp_path, "LogisticRegression", "label", records()[:1])
    assert "has only the value" in one_row.failure.message


def test_what_nobody_foresaw_is_told_without_its_stack(tmp_path, monkeypatch, capsys):
    def fail(*_args):
        raise RuntimeError("secret" + " detail")

    monkeypatch.setattr(training_main, "fit_model", fail)
    outcome = train(tmp_path, "LogisticRegression", "label")
    assert outcome.failure.code == "InternalError"
    assert "secret" not in outcome.to_json()
    error_id = outcome.failure.cause.rpartition(" ")[2]
    log = "".join(capsys.readouterr())
    assert error_id in log
    assert "builtins.RuntimeError" in log
    assert "secret detail" not in log


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_full_disks_and_memories_are_left_to_the_worker(tmp_path, monkeypatch, error):
    def fail(*_args):
        raise error

    monkeypatch.setattr(training_main, "fit_model", fail)
    with pytest.raises(type(error)):
        train(tmp_path, "LogisticRegression", "label")


def test_the_parent_version_is_checked_before_training_goes_on(tmp_path):
    train(tmp_path, "LinearRegression", "value")
    version = tmp_path / "model"
    manifest = read_manifest(version).completed(
        name=ModelName("app", "search", "m"), version=1, files=measure(version)
    )
    (version / "manifest.json").write_bytes(manifest.to_bytes())
    files = TrainingFolder(tmp_path)
    assert files.parent(str(version), manifest.digest) == manifest
    with (version / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(Conflict, match="not those it was registered with"):
        files.parent(str(version), manifest.digest)
    # Hashes that fit again prove nothing: the digest is of the manifest whose signature was checked.
    forged = replace(manifest, files=measure(version))
    (version / "manifest.json").write_bytes(forged.to_bytes())
    with pytest.raises(Conflict, match="not those it was registered with"):
        files.parent(str(version), manifest.digest)


def test_the_environment_names_what_is_installed():
    found = environment()
    assert {"python", "platform", "numpy", "scikit-learn", "onnxruntime"} <= set(found)
    assert "xgboost" not in found or found["xgboost"]
