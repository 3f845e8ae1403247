"""One training from rows to outcome, on doubles."""

import numpy as np
import pytest

from fakes.training import DoubleFormats, DoubleRegistry, MemoryFiles, RecordingRun, ResumableFormats
from kepler.core.errors import InvalidInput
from kepler.core.training import SearchContext, TrainSpec
from kepler.usecases import scoring
from kepler.usecases.fit import Surroundings, fit_model

RNG = np.random.default_rng(3)
A = [f"{value:.3f}" for value in RNG.normal(size=60)]
C = ["red" if float(value) > 0 else "blue" for value in A]
Y = ["1" if float(value) > 0 else "0" for value in A]
LINE = [f"{2 * float(value) + 1:.6f}" for value in A]
ROWS = {"y": Y, "a": A, "c": C, "line": LINE}


class Trained:
    def __init__(self, tmp_path, rows=ROWS, formats=None, registry=None, parents=None, **spec):
        spec = {"algorithm": "Nearest", "target": "y", "features": ("a", "c"), **spec}
        self.spec = TrainSpec(job_id="j", columns=tuple(rows), **spec)
        self.files = MemoryFiles(tmp_path, rows)
        self.files.parents = parents or {}
        self.formats = formats or DoubleFormats()
        self.run = RecordingRun()
        around = Surroundings("9.9", {"python": "3"}, 5.0)
        self.outcome = fit_model(
            self.spec, self.files, registry or DoubleRegistry(), self.formats, self.run, around
        )

    @property
    def texts(self):
        return [notice.text for notice in self.outcome.notices]

    @property
    def metrics(self):
        return dict(self.outcome.metrics)

    @property
    def values(self):
        return self.files.sink.values


def test_predictions_in_the_order_sent_blank_where_rows_were_dropped(tmp_path):
    rows = {**ROWS, "a": ["", *A[1:]]}
    got = Trained(tmp_path, rows)
    assert got.outcome.rows_used == 59
    assert got.outcome.rows_dropped == 1
    assert got.outcome.predictions == "predictions.arrow"
    assert got.outcome.model_dir == ""
    assert got.files.sink.closed
    assert got.values["predicted(y)"] == [None, *Y[1:]]
    assert got.metrics["accuracy"] == 1.0
    assert got.metrics["roc_auc"] == 1.0
    assert got.texts == ["dropped 1 of 60 rows: null in 'a' (nulls=drop; nulls=impute keeps them)"]


def test_phases_come_in_order_and_fractions_never_fall(tmp_path):
    got = Trained(tmp_path, model="app.search/m")
    assert got.run.phases == ["loading", "preparing", "fitting", "converting", "scoring", "done"]
    assert got.run.fractions == sorted(got.run.fractions)
    assert got.run.fractions[-1] == 1.0


def test_blocks_are_bounded_and_one_without_a_kept_row_is_blank(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "BLOCK_ROWS", 10)
    rows = {**ROWS, "a": [*[""] * 10, *A[10:40], *[""] * 20]}
    got = Trained(tmp_path, rows, probabilities=True, as_name="p")
    assert got.files.sink.sizes == [10] * 6
    assert got.files.sink.columns == ("p", "probability(y=0)", "probability(y=1)")
    assert got.values["p"] == [None] * 10 + Y[10:40] + [None] * 20
    assert got.values["probability(y=1)"][:10] == [None] * 10


def test_the_draft_says_everything_about_the_model(tmp_path):
    got = Trained(
        tmp_path,
        model="app.search/m",
        output="summary",
        params={"power": 3.0},
        search=SearchContext(sid="s1", search="| x"),
        owner="ana",
        tags=("t",),
        data_sha256="f" * 64,
        seed=7,
    )
    manifest = got.files.manifest
    assert got.files.sink is None
    assert got.outcome.model_dir == "model"
    assert got.outcome.predictions == ""
    assert manifest.required_fields == ("a", "c")
    assert manifest.preparation.feature_names == ("a", "c=blue", "c=red")
    assert manifest.classes == ("0", "1")
    assert manifest.params == {"power": 3.0}
    assert manifest.metrics == got.outcome.metrics
    assert (manifest.rows, manifest.rows_sent) == (60, 60)
    assert manifest.seeds == {"seed": 7}
    assert (manifest.search.sid, manifest.owner, manifest.tags) == ("s1", "ana", ("t",))
    assert (manifest.code_version, manifest.environment, manifest.created_at) == ("9.9", {"python": "3"}, 5.0)
    assert manifest.data_sha256 == "f" * 64
    assert manifest.profile["c"].distinct == 2
    assert manifest.profile["y"].distinct == 2
    assert manifest.summary["default"].columns == ("class", "rows")
    assert len(manifest.golden.inputs) == 8
    scorer = got.formats.load(manifest.model, tmp_path / "model")
    assert manifest.golden.difference(scorer.score(manifest.golden.matrix("float64"))) == 0.0


def test_a_saved_model_is_checked_on_a_bounded_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("kepler.usecases.fit.SAMPLE_ROWS", 5)
    got = Trained(tmp_path, model="app.search/m")
    assert got.formats.samples[0].shape == (5, 3)


def test_regression(tmp_path):
    got = Trained(tmp_path, algorithm="Lines", target="line", features=("a",))
    assert got.metrics["r2"] == pytest.approx(1.0)
    np.testing.assert_allclose(got.values["predicted(line)"], [float(v) for v in LINE], atol=1e-5)


def test_clusters_of_the_rows_themselves(tmp_path):
    got = Trained(tmp_path, algorithm="Halves", target="", features=("a",), as_name="k")
    assert got.metrics["clusters"] == 2.0
    assert sum(got.values["k"]) == 30
    assert (
        Trained(tmp_path, algorithm="Halves", target="", features=("a",), output="none").metrics
        == got.metrics
    )


def test_a_silhouette_of_some_rows_says_so(tmp_path):
    rows = {"a": [str(value) for value in range(2001)]}
    got = Trained(tmp_path, rows, algorithm="Halves", target="", features=("a",), output="none")
    assert got.texts == ["silhouette comes from 2,000 random rows of 2,001: it grows with their square"]


def test_anomalies_and_components(tmp_path):
    got = Trained(tmp_path, algorithm="Far", target="", features=("a",))
    assert list(got.values) == ["isOutlier", "anomaly_score"]
    assert got.metrics["outlier_share"] == got.values["isOutlier"].count(1) / 60
    got = Trained(tmp_path, algorithm="Centre", target="", features=("a",), as_name="z")
    assert list(got.values) == ["z_a"]
    assert got.metrics == {}


def test_held_out_rows_are_measured_and_not_learned_from(tmp_path):
    got = Trained(tmp_path, test_size=0.25, model="app.search/m")
    assert {"accuracy", "test_accuracy"} <= set(got.metrics)
    assert "held out 15 of 60 rows to measure on (test_size=0.25)" in got.texts
    rows = got.formats.saved[tmp_path / "model"].summary["default"].rows
    assert sum(int(count) for _, count in rows) == 45
    assert len(got.values["predicted(y)"]) == 60


def test_held_out_and_dropped_rows_together(tmp_path):
    rows = {**ROWS, "a": [*["" for _ in range(20)], *A[20:]]}
    got = Trained(
        tmp_path, rows, test_size=0.25, categoricals="target", features=("a", "c"), model="app.search/m"
    )
    assert got.outcome.rows_used == 40
    assert got.values["predicted(y)"][:20] == [None] * 20
    assert got.metrics["test_accuracy"] > 0.8
    counts = got.formats.saved[tmp_path / "model"].summary["default"].rows
    assert sum(int(count) for _, count in counts) == 30


def test_held_out_classes_that_training_lacks_have_no_dummies(tmp_path):
    rows = {**ROWS, "c": [f"v{i}" for i in range(60)]}
    got = Trained(tmp_path, rows, test_size=0.5, model="app.search/m")
    assert len(got.files.manifest.preparation.feature_names) == 31


def test_folds(tmp_path):
    got = Trained(tmp_path, kfold_cv=3)
    assert [name for name in got.metrics if "accuracy" in name] == [
        "cv_accuracy_mean",
        "cv_accuracy_std",
        "cv_accuracy_1",
        "cv_accuracy_2",
        "cv_accuracy_3",
    ]
    assert got.metrics["cv_accuracy_mean"] == pytest.approx(
        np.mean([got.metrics[f"cv_accuracy_{k}"] for k in (1, 2, 3)])
    )
    assert len(got.values["predicted(y)"]) == 60
    assert got.texts == ["every row is answered by the one of 3 fits that did not see it (kfold_cv)"]


def test_folds_of_regression_answer_rows_they_have_not_seen(tmp_path):
    rows = {"a": ["1", "2", "3", "4"], "line": ["0", "0", "0", "100"]}
    got = Trained(tmp_path, rows, algorithm="Lines", target="line", features=("a",), kfold_cv=4)
    assert got.values["predicted(line)"][3] == pytest.approx(0.0)


def test_preparation_that_learns_is_learned_per_fold(tmp_path):
    rows = {**ROWS, "a": ["", *A[1:]]}
    got = Trained(tmp_path, rows, kfold_cv=3, nulls="impute", categoricals="target")
    assert got.outcome.rows_used == 60
    assert got.metrics["cv_accuracy_mean"] > 0.8


def test_target_encoding_learns_out_of_fold_and_answers_with_the_stored_means(tmp_path):
    rng = np.random.default_rng(0)
    rows = {"y": [str(v) for v in rng.integers(0, 2, 400)], "c": [f"v{i % 200}" for i in range(400)]}
    got = Trained(tmp_path, rows, features=("c",), categoricals="target", model="app.search/m")
    sums, counts = got.formats.saved[tmp_path / "model"].estimator
    assert abs(np.diff((sums / counts[:, None])[:, 0])[0]) < 0.1  # the stored means would show 0.15 and more
    (feature,) = got.files.manifest.preparation.features
    assert feature.kind == "target"
    assert len(feature.categories) == 200


def test_more_than_two_classes_are_target_encoded_one_column_each(tmp_path):
    rows = {"y": ["a", "b", "c"] * 20, "c": ["u", "v", "w"] * 20}
    got = Trained(tmp_path, rows, features=("c",), categoricals="target", model="app.search/m", test_size=0.3)
    assert got.files.manifest.preparation.feature_names == ("c:a", "c:b", "c:c")
    assert got.metrics["test_accuracy"] == 1.0


def test_native_nulls_and_categories(tmp_path):
    rows = {**ROWS, "a": ["", *A[1:]]}
    got = Trained(tmp_path, rows, nulls="native", categoricals="native", model="app.search/m")
    assert got.outcome.rows_used == 60
    assert got.files.manifest.preparation.feature_names == ("a", "c")
    assert got.files.manifest.golden.inputs[0][0] is None


def test_metrics_of_very_many_rows_come_from_some_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("kepler.usecases.fit.METRIC_ROWS", 20)
    got = Trained(tmp_path, output="summary", test_size=0.2)
    assert "metrics come from one in 3 of 60 rows (output=summary)" in got.texts
    assert {"accuracy", "test_accuracy"} <= set(got.metrics)
    assert Trained(tmp_path).texts == []
    plain = Trained(tmp_path, algorithm="Centre", target="", features=("a",), output="none")
    assert "one in 3" in plain.texts[0]


def test_a_dropped_text_field_says_what_is_no_number(tmp_path):
    rows = {**ROWS, "b": [f"{i}" for i in range(59)] + ["n/a"], "w": [f"w{i}" for i in range(60)]}
    rows = {name: values * 4 for name, values in rows.items()}
    rows["b"] = [f"{i}" for i in range(239)] + ["n/a"]
    got = Trained(tmp_path, rows, features=("a", "b"))
    assert got.texts == [
        "dropped field 'b': more than 20,000 distinct text values, limit 100 (categoricals=onehot); 'n/a' is no number"
    ]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"features": ("a", "cc")}, "Field 'cc' is not in the rows. Did you mean 'c'"),
        ({"by": ("c",), "features": ("a",), "kfold_cv": 3}, "kfold_cv does not go with 'by'"),
        ({"by": ("c",), "features": ("a",), "partial_fit": True}, "partial_fit does not go with 'by'"),
        ({"by": tuple("abcdefghi")}, "9 fields stand after 'by' and at most 8 may"),
        ({"by": ("c",), "features": ("a",), "model": "app.search/m"}, "formats keep no groups"),
        ({"algorithm": "Halves", "target": "", "model": "app.search/m"}, "no model to keep"),
        (
            {"algorithm": "Lines", "target": "c", "features": ("a",)},
            "not a number in every row, but for example 'red'",
        ),
        ({"algorithm": "Lines", "target": "line", "nulls": "native"}, "cannot learn from missing values"),
        ({"algorithm": "Lines", "target": "line", "probabilities": True}, "Lines gives no probabilities"),
        ({"params": {"fail": "value"}}, "Nearest could not learn from these rows. power is wrong. Check"),
        ({"algorithm": "Far", "target": "", "kfold_cv": 3}, "kfold_cv measures predictions of a field"),
        ({"kfold_cv": 3, "model": "app.search/m"}, "kfold_cv keeps no model"),
        ({"kfold_cv": 3, "test_size": 0.5}, "two ways to hold out"),
        ({"algorithm": "Stale", "kfold_cv": 3}, "cannot answer for rows it has not seen"),
        ({"algorithm": "Stale", "test_size": 0.5}, "cannot answer for rows it has not seen"),
        ({"algorithm": "Nope"}, "Unknown algorithm"),
        ({"algorithm": "Lines", "target": "line", "partial_fit": True}, "cannot go on from an earlier model"),
    ],
)
def test_clear_refusals(tmp_path, spec, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        Trained(tmp_path, **spec)


def test_no_rows(tmp_path):
    with pytest.raises(InvalidInput, match="There are no rows to learn from"):
        Trained(tmp_path, {"y": [], "a": [], "c": []})


def test_what_nobody_foresaw_is_not_dressed_up(tmp_path):
    with pytest.raises(KeyError):
        Trained(tmp_path, params={"fail": "unexpected"})


class TestPartialFit:
    def first(self, tmp_path, **spec):
        rows = {name: values[:30] for name, values in ROWS.items()}
        return Trained(tmp_path, rows, ResumableFormats(), partial_fit=True, model="app.search/m", **spec)

    def second(self, tmp_path, first, rows=None, **spec):
        rows = rows or {name: values[30:] for name, values in ROWS.items()}
        parent = str(tmp_path / "model")
        parents = {parent: first.files.manifest}
        spec = {"partial_fit": True, "model": "app.search/m", "parent": parent, **spec}
        return Trained(tmp_path, rows, first.formats, parents=parents, **spec)

    def test_two_halves_are_the_whole(self, tmp_path):
        first = self.first(tmp_path)
        assert first.files.manifest.model.extra == {"state": "state.skops"}
        second = self.second(tmp_path, first)
        whole = Trained(tmp_path, formats=ResumableFormats(), partial_fit=True, model="app.search/m")
        path = tmp_path / "model"
        for mine, theirs in zip(
            second.formats.saved[path].estimator, whole.formats.saved[path].estimator, strict=True
        ):
            np.testing.assert_allclose(mine, theirs)
        assert second.files.manifest.parent == "@0"
        assert second.files.manifest.preparation == first.files.manifest.preparation
        assert second.values["predicted(y)"] == Y[30:]

    def test_new_categories_count_as_none_and_empty_fields_stay(self, tmp_path):
        first = self.first(tmp_path, nulls="impute")
        rows = {"y": ["0", "1"], "a": ["", ""], "c": ["green", "7"]}
        second = self.second(tmp_path, first, rows, nulls="impute")
        assert second.outcome.rows_used == 2

    def test_new_texts_and_fields_are_said(self, tmp_path):
        first = self.first(tmp_path, features=("c",))
        rows = {"y": ["0", "1", "1"], "a": ["1", "2", "3"], "c": ["red", "7", "7"]}
        second = self.second(tmp_path, first, rows, features=("a", "c"))
        assert second.texts == [
            "left out 'a': @0 does not read it",
            "field 'c' has values that the model does not know in 2 rows, such as '7': they count as none "
            "of the known ones",
        ]
        assert second.files.manifest.required_fields == ("c",)

    def test_too_many_new_texts(self, tmp_path):
        first = self.first(tmp_path)
        rows = {"y": ["0", "1"] * 150, "a": ["1"] * 300, "c": [f"text {i}" for i in range(300)]}
        with pytest.raises(InvalidInput, match="Field 'c' has too many distinct texts, and the model knows"):
            self.second(tmp_path, first, rows)

    def test_parameters_stay(self, tmp_path):
        first = self.first(tmp_path, params={"power": 1.0})
        second = self.second(tmp_path, first)
        assert second.texts == []
        assert second.files.manifest.params == {"power": 1.0}
        assert self.second(tmp_path, first, params={"power": 1.0}).files.manifest.params == {"power": 1.0}
        with pytest.raises(
            InvalidInput,
            match=r"@0 was trained with power=1.0, and .* Leave out power, or name another model",
        ):
            self.second(tmp_path, first, params={"power": 2.0})
        with pytest.raises(InvalidInput, match=r"trained with fail=, and"):
            self.second(tmp_path, first, params={"fail": "value"})

    def test_missing_values_stay_as_they_were(self, tmp_path):
        first = self.first(tmp_path)
        with pytest.raises(InvalidInput, match="was trained with nulls=drop, not nulls=impute"):
            self.second(tmp_path, first, nulls="impute")

    @pytest.mark.parametrize(
        ("spec", "sentence"),
        [
            ({"algorithm": "Nearest2"}, "Unknown"),
            ({"target": "c", "features": ("a",)}, "predicts 'y', not 'c'"),
            ({"kfold_cv": 2}, "kfold_cv"),
            ({"test_size": 0.5}, "partial_fit does not go with test_size"),
            ({"categoricals": "target"}, "a preparation that does not change"),
            ({"rows": {"y": ["0"], "a": ["1"]}}, "Field 'c' is not in the rows"),
            (
                {"rows": {"y": ["2"], "a": ["1"], "c": ["red"]}},
                "has the value '2', which the model does not know",
            ),
        ],
    )
    def test_what_does_not_fit_the_earlier_version(self, tmp_path, spec, sentence):
        with pytest.raises(InvalidInput, match=sentence):
            self.second(tmp_path, self.first(tmp_path), **spec)

    def test_without_a_target(self, tmp_path):
        registry = DoubleRegistry()
        first = self.first(tmp_path, algorithm="Drift", target="", features=("a",), registry=registry)
        assert first.files.manifest.model.extra == {"state": "state.skops"}
        second = self.second(
            tmp_path, first, algorithm="Drift", target="", features=("a",), registry=registry
        )
        whole = np.array([float(value) for value in A])
        np.testing.assert_allclose(second.formats.saved[tmp_path / "model"].estimator[0] / 60, whole.mean())

    def test_another_algorithm(self, tmp_path):
        from dataclasses import replace

        first = self.first(tmp_path)
        first.files.manifest = replace(first.files.manifest, algorithm="GaussianNB")
        with pytest.raises(InvalidInput, match="was trained with GaussianNB, not Nearest"):
            self.second(tmp_path, first)

    def test_a_version_trained_without_it(self, tmp_path):
        first = Trained(tmp_path, formats=ResumableFormats(), model="app.search/m")
        with pytest.raises(InvalidInput, match="was not trained with partial_fit=true"):
            self.second(tmp_path, first)
