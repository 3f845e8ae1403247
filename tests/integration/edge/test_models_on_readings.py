"""From readings to scores: bindings, windows, the same answers as the service's, windows that outlive a swap."""

import numpy as np
import pytest

from kepler.adapters.formats import SafeModelFormats
from kepler.core.manifest import Manifest
from kepler.core.outputs import NumberOutput
from kepler.core.records import NumberColumn, RecordBatch, TextColumn
from kepler.ports.serving import PredictOptions
from kepler.serving.loader import FolderModelLoader
from kepler_edge.errors import InvalidInput, KeplerError
from kepler_edge.model import LoadedModel
from kepler_edge.reading import Reading
from kepler_edge.release_doc import Release
from support.edge_models import Signing, draft, registered, release_document, sample_rows, train
from support.edge_releases import AlwaysGood, Device


@pytest.fixture(scope="module")
def signing():
    return Signing.fresh()


def windowed_rows(n=300):
    rows = sample_rows(n, seed=3)
    for at, row in enumerate(rows):
        last = [other["b"] for other in rows[max(0, at - 4) : at + 1]]
        row["b_mean"] = round(float(np.mean(last)), 6)
        row["label"] = "bad" if row["b_mean"] > 10 else "good"
    return rows


WINDOWS = [{"field": "b", "seconds": 0, "rows": 5, "function": "mean", "as": "b_mean"}]
ALGORITHMS = ["HistGradientBoostingClassifier", "LinearRegression", "KMeans", "IsolationForest", "PCA"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_score_is_the_services_row_for_row(algorithm, signing, tmp_path):
    target = {"HistGradientBoostingClassifier": "label", "LinearRegression": "value"}.get(algorithm, "")
    rows = sample_rows(300)
    rows[7]["a"] = None
    folder = tmp_path / "m"
    registered(train(algorithm, target, rows=rows), folder, signing)
    edge = LoadedModel.load(folder, signing.trust)
    read = lambda path: Manifest.from_json((path / "manifest.json").read_bytes())  # noqa: E731
    service = FolderModelLoader(SafeModelFormats(), read).load(folder, "app.search/m@1")
    some = [
        *sample_rows(40, seed=8),
        {"a": None, "b": 1.0, "colour": "red"},
        {"a": 1.0, "b": 2.0, "colour": "new"},
    ]
    for row in some:
        text = TextColumn(np.zeros(1, np.int32), (row["colour"],))
        numbers = {
            name: NumberColumn(np.array([np.nan if row[name] is None else row[name]])) for name in "ab"
        }
        manifest = read(folder)
        with_probabilities = PredictOptions(probabilities=manifest.outputs.has_probabilities)
        outputs = service.predict(RecordBatch({**numbers, "colour": text}, 1), with_probabilities).outputs
        expected = {}
        for output in outputs:
            if isinstance(output, NumberOutput):
                blank = output.blank is not None and bool(output.blank[0])
                expected[output.name] = None if blank else output.values[0].item()
            else:
                expected[output.name] = output.labels[output.codes[0]] if output.codes[0] >= 0 else None
        out = edge.score(row).out
        assert list(out) == list(expected)
        for name, value in expected.items():
            assert out[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)


def test_windows_make_the_features_that_training_had(signing, tmp_path):
    rows = windowed_rows()
    folder = tmp_path / "m"
    registered(
        train("HistGradientBoostingClassifier", "label", fields=("a", "b_mean"), rows=rows), folder, signing
    )
    release = Release.of(release_document(folder, windows=WINDOWS))
    live = LoadedModel.load(folder, signing.trust, windows=release.windows)
    plain = LoadedModel.load(folder, signing.trust)
    for at, row in enumerate(rows):
        made = live.score({"a": row["a"], "b": row["b"]}, source="pump", at=at).out
        live.score({"a": 0.0, "b": -100.0}, source="another", at=at)
        assert made == plain.score({"a": row["a"], "b_mean": row["b_mean"]}).out
    assert live.windows.readings == 10


def test_windows_outlive_a_swap_and_a_rollback(signing, tmp_path):
    device = Device(tmp_path, signing, selftest=AlwaysGood)
    device.install(device.version("r1", windows=WINDOWS))
    for at in range(5):
        device.releases.serving()["app.search/m"].score({"a": 1.0, "b": at, "colour": "red"}, at=at)
    device.releases.desired([device.version("r2", "mlp", version=2, windows=WINDOWS, probation_s=1_000)])
    device.run(until=lambda: device.version_now == 2, score=False)
    model = device.releases.serving()["app.search/m"]
    assert model.windows.readings == 5
    device.releases.rollback("app.search/m")
    assert device.releases.serving()["app.search/m"].windows is model.windows


def test_bindings_choose_rename_and_tell_sources_apart(signing, tmp_path):
    folder = tmp_path / "m"
    registered(draft("linear"), folder, signing)
    bindings = [
        {"input": "line-7"},
        {"input": "plant/+/pump/#", "fields": {"temp": "a", "flow": "b"}, "key": "machine"},
    ]
    release = Release.of(release_document(folder, bindings=bindings))
    model = LoadedModel.load(folder, signing.trust, bindings=release.bindings)

    def takes(source, **fields):
        return model.takes(Reading(source, fields))

    assert takes("line-7", a=1) == ("line-7", {"a": 1})
    assert takes("line-8", a=1) is None
    assert takes("plant/1/pump", temp=1) == ("plant/1/pump", {"a": 1})
    assert takes("plant/1/pump/x/y", temp=1, flow=2, machine=9) == ("9", {"a": 1, "b": 2, "machine": 9})
    assert takes("plant/1/2/pump", temp=1) is None
    assert takes("plant", temp=1) is None
    anything = LoadedModel.load(folder, signing.trust)
    assert anything.takes(Reading("x", {"a": 1})) == ("x", {"a": 1})


def test_text_where_a_number_belongs_and_values_as_text(signing, tmp_path):
    folder = tmp_path / "m"
    registered(draft("linear"), folder, signing)
    model = LoadedModel.load(folder, signing.trust)
    row = {"a": 0.5, "b": 9.0, "colour": "red"}
    assert model.score({"a": "0.5", "b": "9", "colour": "red"}).out == model.score(row).out
    for bad in ("high", "1_000", [1], {"x": 1}):
        with pytest.raises(InvalidInput, match="is a number in this model"):
            model.score({**row, "a": bad})
    for none in (None, "", "nan", float("inf"), 10**400):
        assert set(model.score({**row, "a": none}).out.values()) == {None}
    assert model.score({"colour": "red"}).out["predicted(label)"] is None
    assert model.score(row).out["predicted(label)"] in ("good", "bad")
    with pytest.raises(KeplerError):
        model.score({**row, "a": "high"})
