"""A version folder as a model that answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fakes.manifests import make_manifest
from kepler.core.datasets import number_column, text_column
from kepler.core.errors import Conflict, InvalidInput
from kepler.core.manifest import FileEntry
from kepler.core.names import ModelName
from kepler.core.records import RecordBatch
from kepler.ports.serving import PredictOptions
from kepler.serving.loader import FolderModelLoader

RAW = {"label": np.array([1]), "probabilities": np.array([[0.25, 0.75]])}


class Scorer:
    size_bytes = 5000

    def __init__(self, off=0.0):
        self.off = off
        self.seen = []

    def score(self, x):
        self.seen.append(x)
        assert len(x), "some runtimes take no empty matrix"
        probabilities = np.repeat(RAW["probabilities"] + self.off, len(x), axis=0)
        return {"label": np.ones(len(x), dtype=np.int64), "probabilities": probabilities}


class Formats:
    def __init__(self, scorer):
        self.scorer = scorer
        self.threads = 0

    def load(self, saved, folder, *, threads=1):
        self.threads = threads
        return self.scorer


def load(manifest=None, off=0.0, full_name="app.search/pump@1"):
    scorer = Scorer(off)
    formats = Formats(scorer)
    loader = FolderModelLoader(formats, lambda folder: manifest or make_manifest(), threads=3)
    model = loader.load(Path("/nowhere"), full_name)
    assert formats.threads == 3
    return model


def rows(a, c):
    return RecordBatch({"a": number_column(a), "c": text_column(c)}, len(a))


def test_what_it_says_of_itself():
    model = load()
    assert model.full_name == "app.search/pump@1"
    assert model.signature == make_manifest().signature
    assert model.required_fields == ("a", "c")
    assert model.number_fields == {"a"}
    assert model.size_bytes > 5000
    assert model.output_columns(PredictOptions(as_name="p", probabilities=True)) == (
        "p",
        "probability(y=0)",
        "probability(y=1)",
    )


def test_predictions_with_blanks_said_once():
    model = load()
    got = model.predict(rows([1.0, None], ["x", "z"]), PredictOptions(probabilities=True))
    label, _, second = got.outputs
    assert label.codes.tolist() == [1, -1]
    assert second.values.tolist() == [0.75, 0.0]
    assert second.blank.tolist() == [False, True]
    assert [notice.text for notice in got.notices] == [
        "rows without a value in a field the model reads get no prediction"
    ]


def test_golden_rows_are_scored_in_the_models_dtype():
    manifest = make_manifest()
    manifest = replace(manifest, model=replace(manifest.model, dtype="float32"))
    model = load(manifest)
    assert model._scorer.seen[0].dtype == np.float32
    model.predict(rows([1.0], ["x"]), PredictOptions())
    assert model._scorer.seen[1].dtype == np.float32


@pytest.mark.parametrize("batch", [rows([], []), rows([None, None], ["x", "x"])])
def test_nothing_to_score(batch):
    got = load().predict(batch, PredictOptions(probabilities=True))
    assert [len(output.codes if hasattr(output, "codes") else output.values) for output in got.outputs] == [
        batch.n_rows
    ] * 3


def test_damaged_weights_are_noticed():
    with pytest.raises(Conflict, match=r"does not give the answers.*differ by 0\.001"):
        load(off=0.001)
    load(off=1e-7)


def test_a_folder_in_anothers_place_is_refused():
    manifest = make_manifest().completed(
        name=ModelName("app", "search", "pump"), version=2, files={"model.onnx": FileEntry("0" * 64, 1)}
    )
    assert load(manifest, full_name="app.search/pump@2")
    with pytest.raises(Conflict, match=r"The folder of model app\.search/pump@1 holds app\.search/pump@2"):
        load(manifest)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (PredictOptions(on_missing="ignore"), "Invalid value for on_missing: 'ignore'. Use warn"),
        (PredictOptions(overrides={"threshold": "0.1"}), "LogisticRegression has no option 'threshold'"),
    ],
)
def test_options_it_cannot_honour(options, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        load().check_options(options)


def test_probabilities_it_does_not_have():
    manifest = make_manifest()
    manifest = replace(
        manifest,
        outputs=replace(manifest.outputs, raw=("label",)),
        golden=replace(manifest.golden, inputs=(), outputs={}),
    )
    with pytest.raises(InvalidInput, match="gives no probabilities"):
        load(manifest).check_options(PredictOptions(probabilities=True))


def test_absent_fields_as_the_caller_wants():
    model = load()
    only_text = RecordBatch({"c": text_column(["x"])}, 1)
    assert model.predict(only_text, PredictOptions()).outputs[0].codes.tolist() == [-1]
    with pytest.raises(InvalidInput, match="lack 1 of the model's 2 fields"):
        model.predict(only_text, PredictOptions(on_missing="error"))
