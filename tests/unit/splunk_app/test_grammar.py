"""Requests of the toolkit's grammar and of key=value forms."""

from __future__ import annotations

from kepler_app.grammar import parse_predict, parse_score, parse_train
from unit.splunk_app.plain import refused


def test_the_toolkits_form() -> None:
    request = parse_train(
        ["RandomForestClassifier", "SLA", "from", "*", "into", "app:sla", "n_estimators=100", "AS", "risk"]
    )
    assert (request.algorithm, request.target, request.features) == ("RandomForestClassifier", "SLA", ["*"])
    assert (request.into, request.as_name) == ("app:sla", "risk")
    assert request.params == {"n_estimators": "100"}
    assert (request.output, request.seed, request.wait, request.timeout_s) == ("predictions", None, True, 600)


def test_options_between_fields_and_keywords() -> None:
    request = parse_train(
        [
            "AutoPrediction",
            "random_state=42",
            "species",
            "from",
            "*",
            "max_features=0.1",
            "into",
            "m",
            "x=0.3",
        ]
    )
    assert request.target == "species"
    assert request.features == ["*"]
    assert request.params == {"random_state": "42", "max_features": "0.1", "x": "0.3"}


def test_the_named_form_is_the_same_request() -> None:
    named = parse_train(["algo=lightgbm", "target=y", 'features="a, b,x_*"', 'by="h,d"', "model=m", "as=p"])
    plain = parse_train(["lightgbm", "y", "from", "a", "b", "x_*", "by", "h", "d", "into", "m", "as", "p"])
    assert vars(named) == vars(plain)
    assert named.features == ["a", "b", "x_*"]
    assert named.by == ["h", "d"]


def test_by_takes_a_quoted_list_or_bare_words() -> None:
    assert parse_train(["DensityFunction", "x", "by", '"Hour,Day"']).by == ["Hour", "Day"]
    assert parse_train(["DensityFunction", "x", "by", "Hour", "Day"]).by == ["Hour", "Day"]


def test_without_from_the_words_are_features() -> None:
    request = parse_train(["KMeans", "a,", '"b c"', "c_*", "a", "k=3"])
    assert (request.target, request.features) == ("", ["a", "b c", "c_*"])


def test_a_target_alone_learns_from_everything() -> None:
    request = parse_train(["algo=xgb", "target=y"])
    assert (request.target, request.features) == ("y", ["*"])


def test_from_without_target() -> None:
    request = parse_train(["PCA", "from", "a", "b", "k=2"])
    assert (request.target, request.features) == ("", ["a", "b"])


def test_own_options_are_typed_and_are_no_parameters() -> None:
    request = parse_train(
        [
            "A",
            "y",
            "from",
            "x",
            "into",
            "m",
            "output=summary",
            "nulls=native",
            "categoricals=target",
            "seed=7",
            "test_size=0.2",
            "kfold_cv=5",
            "partial_fit=t",
            "probabilities=1",
            'tags="a,b"',
            "dry_run=true",
            "wait=f",
            "timeout=2h",
            "k=1",
        ]
    )
    assert (request.output, request.nulls, request.categoricals) == ("summary", "native", "target")
    assert (request.seed, request.test_size, request.kfold_cv) == (7, 0.2, 5)
    assert (request.partial_fit, request.probabilities, request.dry_run, request.wait) == (
        True,
        True,
        True,
        False,
    )
    assert (request.tags, request.timeout_s, request.params) == (["a", "b"], 7200, {"k": "1"})


def test_named_fields_leave_out_wildcards() -> None:
    assert parse_train(["A", "y", "from", "a*", "b", "by", "h"]).named_fields() == ["y", "b", "h"]


def test_training_arguments_that_cannot_be_read() -> None:
    cases: list[tuple[list[str], tuple[str, ...]]] = [
        ([], ("No algorithm", "keplertrain")),
        (["A"], ("No fields",)),
        (["A", "y", "from"], ("follows the word 'from'",)),
        (["A", "y", "from", "x", "from", "z"], ("'from' stands twice",)),
        (["A", "a", "b", "from", "x"], ("One target", "'a b'")),
        (["A", "y", "target=z", "from", "x"], ("target=",)),
        (["A", "y", "from", "x", "features=z"], ("'from' and features=",)),
        (["A", "y", "from", "x", "into", "m", "n"], ("'into' takes one name", "quotes")),
        (["A", "y", "from", "x", "into", "m", "model=n"], ("'into' and into=",)),
        (["A", "y", "from", "x", "by", "h", "by=d"], ("'by' and by=",)),
        (["A", "y*", "from", "x"], ("wildcard",)),
        (["A", "y", "from", "x", "output=all"], ("output=", "predictions, summary, none")),
        (["A", "y", "from", "x", "timeout=8d"], ("timeout=", "7d")),
        (["A", "y", "from", "x", "kfold_cv=1"], ("kfold_cv=",)),
        (["A", "y", "from", "x", "partial_fit=t"], ("partial_fit=true", "into")),
    ]
    for raw, expected in cases:
        with refused(*expected):
            parse_train(raw)


def test_predict() -> None:
    request = parse_predict(
        ["app:m@3", "AS", '"my risk"', "probabilities=t", "on_missing=error", "threshold=0.1"]
    )
    assert (request.model, request.as_name, request.probabilities) == ("app:m@3", "my risk", True)
    assert (request.on_missing, request.overrides) == ("error", {"threshold": "0.1"})
    assert vars(parse_predict(["model=m", "as=p"])) == vars(parse_predict(["m", "as", "p"]))


def test_predict_arguments_that_cannot_be_read() -> None:
    with refused("No model"):
        parse_predict([])
    with refused("More than one model"):
        parse_predict(["m", "n"])
    with refused("More than one model"):
        parse_predict(["m", "model=n"])
    with refused("on_missing="):
        parse_predict(["m", "on_missing=ignore"])
    with refused("probabilities="):
        parse_predict(["m", "probabilities=perhaps"])


def test_score_forms() -> None:
    request = parse_score(
        ["r2_score,rmse,", "mape", "y", "against", '"predicted(y)"', "by", "host", "average=macro"]
    )
    assert request.methods == ["r2_score", "rmse", "mape"]
    assert (request.actual, request.predicted, request.by) == (["y"], ["predicted(y)"], ["host"])
    assert request.params == {"average": "macro"}
    assert parse_score(["r2_score", "y", "~", "p"]).predicted == ["p"]
    assert parse_score(["describe", "a", "b"]).predicted == []
    named = parse_score(['methods="a,b"', "actual=y", "predicted=p", "by=h"])
    assert (named.methods, named.actual, named.predicted, named.by) == (["a", "b"], ["y"], ["p"], ["h"])


def test_score_arguments_that_cannot_be_read() -> None:
    with refused("No method"):
        parse_score([])
    with refused("No field"):
        parse_score(["r2_score"])
    with refused("follows the word 'against'"):
        parse_score(["r2_score", "y", "against"])


def test_folds_are_the_answer_of_a_cross_validation_unless_output_says_otherwise() -> None:
    plain = parse_train(["A", "y", "from", "x", "kfold_cv=3"])
    assert (plain.fold_rows, plain.output) == (True, "summary")
    for output in ("predictions", "summary"):
        asked = parse_train(["A", "y", "from", "x", "kfold_cv=3", f"output={output}"])
        assert (asked.fold_rows, asked.output) == (False, output)
    assert not parse_train(["A", "y", "from", "x"]).fold_rows
